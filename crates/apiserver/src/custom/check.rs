//! What is wrong with definitions and with custom objects.

use super::strategy::is_definition;
use super::{Custom, Scale};
use crate::registry::Target;
use trireme_extensions::{definition, rules, validate};
use trireme_schema::Value;
use trireme_schema::field::{Error, Path};

/// What is wrong with an object that is to be written, besides what holds for all objects.
pub(crate) fn check(target: &Target, new: &Value, old: Option<&Value>) -> Vec<Error> {
    match &target.served.custom {
        Some(custom) => custom.check(&target.subresource, new, old),
        None if !is_definition(target) => Vec::new(),
        None if target.subresource == "status" => definition::validate_status(new),
        None => definition::validate(new, old),
    }
}

/// What is noticed in an object that is written.
pub(crate) fn warnings(target: &Target, new: &Value, old: Option<&Value>) -> Vec<String> {
    if is_definition(target) && target.subresource.is_empty() { definition::warnings(new, old) } else { Vec::new() }
}

impl Custom {
    /// What rules an object breaks, unless it is so wrong that rules make no sense.
    fn check_rules(&self, new: &Value, old: Option<&Value>, wrong: &[Error]) -> Vec<Error> {
        use trireme_schema::field::ErrorKind;
        if !self.node.ruled {
            return Vec::new();
        }
        let blocks = |error: &Error| {
            matches!(
                error.kind,
                ErrorKind::NotSupported
                    | ErrorKind::Required
                    | ErrorKind::TooLong
                    | ErrorKind::TooMany
                    | ErrorKind::TypeInvalid
            )
        };
        if wrong.iter().any(blocks) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            return vec![Error::invalid(&Path::new("<nil>"), Value::Null, why)];
        }
        rules::check(&Path::default(), new, old, &self.node)
    }

    /// What is wrong with an object, or with its change, besides what holds for all objects.
    fn check(&self, subresource: &str, new: &Value, old: Option<&Value>) -> Vec<Error> {
        let root = Path::default();
        let mut errors = Vec::new();
        if subresource == "status" {
            let path = Path::new("status");
            if let (Some(status), Some(node)) = (new.get("status"), self.node.property("status")) {
                errors.extend(validate::update(&path, status, old.and_then(|old| old.get("status")), node));
            }
        } else {
            errors.extend(match old {
                Some(old) => validate::update(&root, new, Some(old), &self.node),
                None => validate::value(&root, new, &self.node),
            });
            errors.extend(self.scale.iter().flat_map(|scale| scale.check_spec(new)));
            errors.extend(validate::embedded(&root, new, &self.node));
        }
        errors.extend(self.scale.iter().flat_map(|scale: &Scale| scale.check_status(new)));
        // Lists that were wrong before may stay so.
        if old.is_none_or(|old| validate::lists(&root, old, &self.node).is_empty()) {
            errors.extend(validate::lists(&root, new, &self.node));
        }
        errors.extend(self.check_rules(new, old, &errors));
        errors
    }
}
