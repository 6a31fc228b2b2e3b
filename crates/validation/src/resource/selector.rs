//! Selectors of devices, in the expression language.

use crate::{Errors, Place};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use trireme_cel::library::quantity_type;
use trireme_cel::{DeclField, DeclType, Env, NoHints, Type};

const MOST_SELECTORS: usize = 32;
const LONGEST_EXPRESSION: usize = 10 << 10;
/// What an expression may cost at the most.
const COST_LIMIT: u64 = 1_000_000;

/// What expressions can speak of: a device.
fn env() -> &'static Env {
    static ENV: LazyLock<Env> = LazyLock::new(|| {
        let simple = |ty: Type| DeclType::simple(ty, 64, 0);
        // Attributes and capacities: by domain, then by identifier.
        let nested = |value: Type| DeclType::map(DeclType::map(simple(value), 32), 32);
        let fields = [
            ("driver", simple(Type::String)),
            ("attributes", nested(Type::Dyn)),
            ("capacity", nested(quantity_type())),
            ("allowMultipleAllocations", simple(Type::Bool)),
        ];
        let field =
            |(name, decl): (&str, DeclType)| (name.to_owned(), DeclField { decl: Arc::new(decl), required: true });
        let device =
            DeclType::object("kubernetes.DRADevice", fields.into_iter().map(field).collect::<BTreeMap<_, _>>());
        // KEP-4381: what is looked at often may have a name.
        Env::kubernetes().with_bind().with_variable("device", device.cel_type.clone()).with_types(device.provider())
    });
    &ENV
}

pub(super) fn all(owner: &Place<'_>, errors: &mut Errors) {
    let count = owner.list("selectors").len();
    if count > MOST_SELECTORS {
        errors.too_many(&owner.child("selectors"), count, MOST_SELECTORS);
    }
    for selector in owner.items("selectors") {
        match selector.field("cel") {
            None => errors.required(&selector.child("cel"), ""),
            // What is stored has been looked at.
            Some(cel) if owner.subject.old.is_none() || cel.is_changed() => {
                expression(&cel.child("expression"), errors)
            }
            Some(_) => {}
        }
    }
}

fn expression(place: &Place<'_>, errors: &mut Errors) {
    let text = place.str();
    if text.len() > LONGEST_EXPRESSION {
        errors.too_long(place, LONGEST_EXPRESSION);
        return;
    }
    match env().compile(text) {
        Err(why) => errors.invalid_value(place, text, why.to_string()),
        Ok(program) => {
            let ty = program.result_type();
            if !matches!(ty, Type::Bool | Type::Any) {
                let why = format!("must evaluate to bool or the unknown type, not {ty}");
                errors.invalid_value(place, text, why);
            } else if program.cost_estimate(&NoHints).max > COST_LIMIT {
                errors.forbidden(place, "too complex, exceeds cost limit");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_attributes_and_capacities() {
        for (text, fine) in [
            ("cel.bind(dra, device.attributes['dra.example.com'], dra.oneBool && dra.anotherBool)", true),
            ("device.capacity['dra.example.com'].memory.compareTo(quantity('10Gi')) >= 0", true),
            ("device.capacity['dra.example.com'].memory > 1", false),
            ("device.driver == 'dra.example.com' && device.allowMultipleAllocations", true),
        ] {
            assert_eq!(env().compile(text).is_ok(), fine, "{text}");
        }
    }
}
