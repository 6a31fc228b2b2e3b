//! Names of custom resources: those of a group are each given to one definition, first come, first served.

use trireme_schema::{Map, Value, field::quote};

/// What the naming of a definition comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Naming {
    /// The names that it has now.
    pub accepted: Value,
    /// Why it does not have all that it asks for: reason and message.
    pub conflict: Option<(&'static str, String)>,
}

/// Names of the resources and kinds that other definitions of the group have.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    resources: Vec<String>,
    kinds: Vec<String>,
}

impl Taken {
    /// What a definition of the same group, other than the one that asks, has.
    pub fn add(&mut self, accepted: &Value) {
        let text = |name: &str| accepted.str_at(&[name]).to_owned();
        self.resources.extend([text("plural"), text("singular")]);
        self.resources.extend(accepted.list_at(&["shortNames"]).iter().filter_map(Value::as_str).map(str::to_owned));
        self.kinds.extend([text("kind"), text("listKind")]);
    }
}

/// Gives a definition the names that it asks for and nobody has.
pub fn accept(asked: &Value, accepted: &Value, taken: &Taken) -> Naming {
    let mut new = accepted.as_object().cloned().unwrap_or_default();
    let mut conflict = None;
    let in_use = |name: &str, own: &str, taken: &[String]| {
        (name != own && taken.iter().any(|t| t == name)).then(|| format!("{} is already in use", quote(name)))
    };
    for (field, reason, taken) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ] {
        let wrong = if field == "shortNames" {
            let own = accepted.list_at(&[field]);
            let fresh = asked.list_at(&[field]).iter().filter(|name| !own.contains(name)).filter_map(Value::as_str);
            let mut wrong: Vec<String> = fresh.filter_map(|name| in_use(name, "", taken)).collect();
            wrong.dedup();
            match wrong.len() {
                0 => None,
                1 => wrong.pop(),
                _ => Some(format!("[{}]", wrong.join(", "))),
            }
        } else {
            in_use(asked.str_at(&[field]), accepted.str_at(&[field]), taken)
        };
        match wrong {
            Some(message) => conflict = Some((reason, message)),
            None => give(&mut new, asked, field),
        }
    }
    give(&mut new, asked, "categories");
    Naming { accepted: Value::Object(new), conflict }
}

fn give(names: &mut Map, asked: &Value, field: &str) {
    match asked.get(field) {
        Some(value) => drop(names.insert(field, value.clone())),
        None => drop(names.remove(field)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;

    #[test]
    fn a_name_in_use_is_not_given() {
        let mut taken = Taken::default();
        taken.add(
            &value!({"plural": "foos", "singular": "foo", "shortNames": ["f"], "kind": "Foo", "listKind": "FooList"}),
        );
        let none = value!({"plural": "", "kind": ""});
        let asked = value!({"plural": "bars", "singular": "bar", "shortNames": ["f", "b"], "kind": "Foo", "listKind": "BarList"});
        let naming = accept(&asked, &none, &taken);
        assert_eq!(naming.conflict, Some(("KindConflict", "\"Foo\" is already in use".to_owned())));
        assert_eq!(naming.accepted, value!({"plural": "bars", "singular": "bar", "kind": "", "listKind": "BarList"}));
        let fine = accept(&asked, &none, &Taken::default());
        assert_eq!((fine.accepted, fine.conflict), (asked, None));
    }
}
