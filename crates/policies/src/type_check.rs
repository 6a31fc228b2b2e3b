//! What is wrong with a policy's expressions for the kinds that it is about (KEP-3488, `status.typeChecking`).
//!
//! Policies are compiled without knowing their objects, since they may be about many kinds. Here each expression is
//! compiled once more for each kind; what does not fit is told and has no other effect.

use crate::scope::Scope;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trireme_cel::{CompileError, DeclField, DeclType, Type, names};
use trireme_schema::{GroupVersion, StructId, Type as Held, Value, builtin};

/// Knows which kinds there are.
pub trait Known {
    /// The kinds of a resource; the core group stands for any (as for discovery's clients).
    fn kinds(&self, group: &str, version: &str, resource: &str) -> Vec<(GroupVersion, String)>;

    /// The type of a kind's objects, if it is known.
    fn object_type(&self, gv: &GroupVersion, kind: &str) -> Option<DeclType>;
}

/// `status.typeChecking.expressionWarnings[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The path of the expression.
    pub field: String,
    /// What is wrong, kind by kind.
    pub text: String,
}

/// More kinds than this are not looked at.
const MOST_KINDS: usize = 10;

/// Checks a policy.
pub fn check(policy: &Value, known: &dyn Known) -> Vec<Warning> {
    let kinds: Vec<_> = kinds_of(policy, known)
        .into_iter()
        .filter_map(|(gv, kind)| {
            let decl = known.object_type(&gv, &kind)?.named(&format!("{kind}0"));
            Some((group_version_kind(&gv, &kind), decl))
        })
        .collect();
    let params = policy.at(&["spec", "paramKind"]).filter(|kind| !kind.is_null()).map(|kind| {
        let (gv, name) = (GroupVersion::parse(kind.str_at(&["apiVersion"])), kind.str_at(&["kind"]));
        known.object_type(&gv, name).map(|decl| decl.named(&format!("{name}1")))
    });
    let variables = policy.list_at(&["spec", "variables"]);
    let scopes: Vec<(String, Scope)> = kinds
        .into_iter()
        .map(|(name, decl)| (name, scope(&decl, params.as_ref().map(Option::as_ref), variables)))
        .collect();
    let mut warnings = Vec::new();
    for (i, validation) in policy.list_at(&["spec", "validations"]).iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let text = validation.str_at(&[field]);
            if text.is_empty() && field == "messageExpression" {
                continue;
            }
            let told: Vec<String> = scopes.iter().filter_map(|(kind, scope)| issues(kind, scope, text)).collect();
            if !told.is_empty() {
                warnings.push(Warning { field: format!("spec.validations[{i}].{field}"), text: told.join("\n") });
            }
        }
    }
    warnings
}

fn scope(object: &DeclType, params: Option<Option<&DeclType>>, variables: &[Value]) -> Scope {
    let mut scope = Scope::of_types(object, params).with_variables();
    for variable in variables {
        let program = scope.program(variable.str_at(&["expression"]));
        scope.declare(variable.str_at(&["name"]), program.as_ref().ok().map(trireme_cel::Program::result_type));
    }
    scope
}

fn issues(kind: &str, scope: &Scope, text: &str) -> Option<String> {
    match scope.program(text).err()? {
        CompileError::Invalid(issues) => Some(format!("{kind}: {issues}\n")),
        // Constants that fail are no question of types.
        CompileError::Program(_) => None,
    }
}

/// A kind as Go writes it.
fn group_version_kind(gv: &GroupVersion, kind: &str) -> String {
    format!("{}/{}, Kind={kind}", gv.group, gv.version)
}

/// The kinds that a policy names, sorted. Rules with wildcards are not looked at, nor are subresources.
fn kinds_of(policy: &Value, known: &dyn Known) -> BTreeSet<(GroupVersion, String)> {
    let mut found = BTreeSet::new();
    for rule in policy.list_at(&["spec", "matchConstraints", "resourceRules"]) {
        let texts = |name: &str| {
            let mut texts: Vec<&str> = rule.list_at(&[name]).iter().filter_map(Value::as_str).collect();
            texts.sort_unstable();
            texts
        };
        let (groups, versions) = (texts("apiGroups"), texts("apiVersions"));
        if groups.iter().chain(&versions).any(|text| text.contains('*')) {
            continue;
        }
        let mut count = 0;
        for (group, version, resource) in groups.iter().flat_map(|group| {
            versions.iter().flat_map(move |version| texts("resources").into_iter().map(move |r| (group, version, r)))
        }) {
            if resource.contains(['*', '/']) {
                continue;
            }
            for kind in known.kinds(group, version, resource) {
                found.insert(kind);
                count += 1;
                if count == MOST_KINDS {
                    return found;
                }
            }
        }
    }
    found
}

/// The type of a built-in kind's objects.
pub fn builtin_type(gv: &GroupVersion, kind: &str) -> Option<DeclType> {
    let id = builtin().kinds().find(|(there, _)| *there == gv)?.1.get(kind)?;
    Some(object(*id, &mut vec![]))
}

/// A custom object's type by that of its definition: what all objects have is as everywhere.
pub fn with_metadata(mut custom: DeclType) -> DeclType {
    let text = || Arc::new(DeclType::simple(Type::String, 0, 2));
    let mut set = |name: &str, decl| custom.fields.insert(name.to_owned(), DeclField { decl, required: false });
    set("apiVersion", text());
    set("kind", text());
    if let Some(id) = builtin().type_named("meta.v1.ObjectMeta") {
        set("metadata", Arc::new(object(id, &mut vec![])));
    }
    custom
}

/// What holds itself is shown once; deeper it is an object of which nothing is known.
fn object(id: StructId, way: &mut Vec<StructId>) -> DeclType {
    let mut fields = BTreeMap::new();
    if !way.contains(&id) {
        way.push(id);
        for field in builtin().flat_fields(id) {
            let (Some(decl), Some(name)) = (held(&field.ty, way), names::escape(&field.name)) else { continue };
            let required = field.required;
            fields.insert(name.into_owned(), DeclField { decl: Arc::new(decl), required });
        }
        way.pop();
    }
    DeclType::object("object", fields)
}

/// The type of a value; none for what the OpenAPI document gives no type to, which expressions do not see.
fn held(ty: &Held, way: &mut Vec<StructId>) -> Option<DeclType> {
    let simple = |ty| Some(DeclType::simple(ty, 0, 2));
    match ty {
        Held::String | Held::Duration => simple(Type::String),
        Held::Bool => simple(Type::Bool),
        Held::Int32 | Held::Int64 => simple(Type::Int),
        Held::Double => simple(Type::Double),
        Held::Bytes => simple(Type::Bytes),
        Held::Time | Held::MicroTime => simple(Type::Timestamp),
        Held::IntOrString => simple(Type::Dyn),
        Held::RawExtension | Held::FieldsV1 => Some(DeclType::object("object", BTreeMap::new())),
        // "A text or a number" is no type either.
        Held::Quantity | Held::Json | Held::Any | Held::SchemaOrBool | Held::SchemaOrArray | Held::SchemaOrStrings => {
            None
        }
        Held::List(item) => held(item, way).map(|item| DeclType::list(item, u64::MAX)),
        Held::Map(value) => held(value, way).map(|value| DeclType::map(value, u64::MAX)),
        Held::Struct(id) => Some(object(*id, way)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;

    struct Builtin;

    impl Known for Builtin {
        fn kinds(&self, group: &str, version: &str, resource: &str) -> Vec<(GroupVersion, String)> {
            let served = builtin().resources().iter().filter(|r| r.served);
            let same =
                |r: &&trireme_schema::Resource| r.gv.group == group && r.gv.version == version && r.plural == resource;
            served.filter(same).map(|r| (r.gv.clone(), r.kind.clone())).collect()
        }

        fn object_type(&self, gv: &GroupVersion, kind: &str) -> Option<DeclType> {
            builtin_type(gv, kind)
        }
    }

    fn policy(expression: &str, words: &str, resources: &[&str]) -> Value {
        let resources: Vec<Value> = resources.iter().map(|r| Value::from(*r)).collect();
        value!({"spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": resources}
            ]},
            "variables": [
                {"name": "replicas", "expression": "object.spec.replicas"},
                {"name": "bad", "expression": "object.nope"}
            ],
            "validations": [{"expression": expression, "messageExpression": words}]
        }})
    }

    #[test]
    fn each_kind_tells_what_it_does_not_have() {
        let found = check(&policy("object.replicas > 1", "", &["replicasets", "deployments", "*/scale"]), &Builtin);
        let text = "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n\napps/v1, Kind=ReplicaSet: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n";
        assert_eq!(found, [Warning { field: "spec.validations[0].expression".into(), text: text.into() }]);
    }

    #[test]
    fn what_fits_is_not_warned_of() {
        for (expression, words, wrong) in [
            ("object.spec.replicas > 1", "", 0),
            ("variables.replicas > 1", "string(variables.replicas)", 0),
            ("variables.replicas > 1", "variables.replicas", 0),
            ("variables.bad == 'anything'", "", 0),
            ("object.spec.template.spec.containers.all(c, c.image.startsWith('a'))", "", 0),
            ("object.metadata.creationTimestamp < timestamp('2026-01-01T00:00:00Z')", "", 0),
            ("object.spec.strategy.rollingUpdate.maxSurge == '1'", "", 0),
            ("authorizer.group('').resource('pods').check('get').allowed()", "", 0),
            ("object.spec.replicas > '1'", "", 1),
            ("object.spec.replicas > 1", "1 + 'a'", 1),
            ("object.spec.replicas > '1'", "string(object.x)", 2),
            ("params.x", "", 1),
        ] {
            let found = check(&policy(expression, words, &["deployments"]), &Builtin);
            assert_eq!(found.len(), wrong, "{expression} {words}: {found:?}");
        }
    }

    #[test]
    fn wildcards_are_not_looked_at() {
        let mut all = policy("object.nope", "", &["deployments"]);
        all.set_at(
            &["spec", "matchConstraints", "resourceRules"],
            Value::Array(vec![value!({"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["deployments"]})]),
        );
        assert!(check(&all, &Builtin).is_empty());
        assert!(check(&policy("object.nope", "", &["*"]), &Builtin).is_empty());
    }
}
