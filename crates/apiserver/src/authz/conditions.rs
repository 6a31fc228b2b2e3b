//! `matchConditions` of an authorization webhook: CEL expressions over the review's `spec`, as the variable `request`.

use super::decision::aggregate;
use std::collections::BTreeMap;
use std::sync::Arc;
use trireme_cel::{Budget, DeclField, DeclType, Env, Program, Type, Value as Cel};
use trireme_schema::Value;
use trireme_schema::field::{self, Path};

/// What one expression may cost (upstream's `celconfig.PerCallLimit`).
const COST: u64 = 1_000_000;
/// Conditions that a webhook has at most.
const MOST: usize = 64;

/// Compiled conditions, in their order.
#[derive(Debug, Default)]
pub(super) struct Conditions(Vec<(String, Program)>);

/// The type of `request`: `SubjectAccessReviewSpec`.
fn request() -> DeclType {
    let object = |name: &str, fields: &[(&str, DeclType)]| {
        let field = |(name, decl): &(&str, DeclType)| {
            ((*name).to_owned(), DeclField { decl: Arc::new(decl.clone()), required: false })
        };
        DeclType::object(&format!("kubernetes.{name}"), fields.iter().map(field).collect::<BTreeMap<_, _>>())
    };
    let text = || DeclType::simple(Type::String, u64::MAX, 2);
    let texts = || DeclType::list(text(), u64::MAX);
    let requirement = object("SelectorRequirement", &[("key", text()), ("operator", text()), ("values", texts())]);
    let selector = |name| {
        let requirements = DeclType::list(requirement.clone(), u64::MAX);
        object(name, &[("rawSelector", text()), ("requirements", requirements)])
    };
    let resource = object(
        "ResourceAttributes",
        &[
            ("namespace", text()),
            ("verb", text()),
            ("group", text()),
            ("version", text()),
            ("resource", text()),
            ("subresource", text()),
            ("name", text()),
            ("fieldSelector", selector("FieldSelectorAttributes")),
            ("labelSelector", selector("LabelSelectorAttributes")),
        ],
    );
    object(
        "SubjectAccessReviewSpec",
        &[
            ("resourceAttributes", resource),
            ("nonResourceAttributes", object("NonResourceAttributes", &[("path", text()), ("verb", text())])),
            ("user", text()),
            ("groups", texts()),
            ("extra", DeclType::map(texts(), u64::MAX)),
            ("uid", text()),
        ],
    )
}

impl Conditions {
    /// Compiles `matchConditions`.
    pub(super) fn read(list: &[Value], path: &Path) -> (Self, Vec<field::Error>) {
        let path = path.child("matchConditions");
        if list.len() > MOST {
            return (Self::default(), vec![field::Error::too_many(&path, list.len(), MOST)]);
        }
        if list.is_empty() {
            return (Self::default(), Vec::new());
        }
        let request = request();
        let env = Env::kubernetes().with_types(request.provider()).with_variable("request", request.cel_type);
        let (mut conditions, mut errors) = (Vec::<(String, Program)>::new(), Vec::new());
        for (i, condition) in list.iter().enumerate() {
            let path = path.index(i).child("expression");
            let text = condition.str_at(&["expression"]);
            if text.trim().is_empty() {
                errors.push(field::Error::required(&path, ""));
            } else if list.iter().take(i).any(|other| other.str_at(&["expression"]) == text) {
                errors.push(field::Error::duplicate(&path, text));
            } else {
                match env.compile(text) {
                    Ok(program) if *program.result_type() == Type::Bool => {
                        conditions.push((text.to_owned(), program.slim()));
                    }
                    Ok(program) => {
                        let why = format!("must evaluate to bool but got {}", program.result_type());
                        errors.push(field::Error::invalid(&path, text, why));
                    }
                    Err(error) => errors.push(field::Error::invalid(&path, text, error.to_string())),
                }
            }
        }
        (Self(conditions), errors)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold for a `spec`. One that is false outweighs any that fail.
    ///
    /// # Errors
    /// All that failed.
    pub(super) fn met(&self, spec: &Value) -> Result<bool, String> {
        let variables = [("request", Cel::from_json(spec, None).unwrap_or(Cel::Null))];
        let mut errors = Vec::new();
        for (text, program) in &self.0 {
            let result = program.evaluate(&variables, &mut Budget::new(COST));
            match result.map(|value| value.as_bool()) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Ok(false),
                Ok(None) => errors.push(format!(
                    "cel evaluation error: expression '{text}' eval result type should be bool but got another"
                )),
                Err(error) => {
                    errors.push(format!("cel evaluation error: expression '{text}' resulted in error: {error}"));
                }
            }
        }
        if errors.is_empty() { Ok(true) } else { Err(aggregate(&errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Action;
    use crate::user::User;
    use trireme_schema::yaml;

    fn read(list: &str) -> (Conditions, Vec<String>) {
        let list = yaml::parse(list).unwrap();
        let (conditions, errors) = Conditions::read(list.as_array().unwrap(), &Path::new("w"));
        (conditions, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn conditions_look_at_the_review() {
        let pods = Action { verb: "get".into(), resource: "pods".into(), namespace: "a".into(), ..Action::default() };
        let path = Action { verb: "get".into(), path: "/x".into(), ..Action::default() };
        let met = |conditions: &str, action: &Action| {
            let (conditions, errors) = read(conditions);
            assert!(errors.is_empty(), "{errors:?}");
            conditions.met(&Value::Object(action.review(&User::new("u", &["g"]), true)))
        };
        let resources = "[{expression: has(request.resourceAttributes)}, {expression: \"request.resourceAttributes.namespace == 'a'\"}]";
        assert_eq!(met(resources, &pods), Ok(true));
        assert_eq!(met(resources, &path), Ok(false), "false outweighs what fails after it");
        let groups = "[{expression: \"'g' in request.groups && request.uid == ''\"}]";
        assert_eq!(met(groups, &path), Ok(true));
        let failing = "[{expression: \"request.resourceAttributes.namespace == 'a'\"}]";
        let error = met(failing, &path).unwrap_err();
        assert!(error.starts_with("cel evaluation error: expression 'request.resourceAttributes.namespace"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_conditions_is_told() {
        let (_, errors) = read(
            "[{expression: ' '}, {expression: request.user}, {expression: 'true'}, {expression: 'true'}, {expression: request.nobody}]",
        );
        let starts = [
            "w.matchConditions[0].expression: Required value",
            "w.matchConditions[1].expression: Invalid value: \"request.user\": must evaluate to bool but got string",
            "w.matchConditions[3].expression: Duplicate value: \"true\"",
            "w.matchConditions[4].expression: Invalid value: \"request.nobody\": compilation failed: ERROR: <input>:1:8: undefined field 'nobody'",
        ];
        assert_eq!(errors.len(), starts.len(), "{errors:?}");
        for (error, start) in errors.iter().zip(starts) {
            assert!(error.starts_with(start), "{error}");
        }
    }
}
