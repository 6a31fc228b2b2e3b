//! The spec of a definition.

use super::openapi::Limits;
use super::{conversion, defaults, expressions, openapi, parts, shown, structural, walk};
use trireme_schema::field::{Error, Path};
use trireme_schema::{Value, names};

/// A version, with what it does not have in common with all others.
pub(super) struct Version<'a> {
    pub value: &'a Value,
    pub schema: Option<&'a Value>,
    pub subresources: Option<&'a Value>,
    pub columns: Option<&'a Value>,
    pub selectable: Option<&'a Value>,
}

/// The versions, with what all of them have in common set apart: it is checked, and named in errors, at the top of the spec,
/// where it stood before there were versions.
pub(super) struct Hoisted<'a> {
    pub versions: Vec<Version<'a>>,
    pub schema: Option<&'a Value>,
    pub subresources: Option<&'a Value>,
    pub columns: Option<&'a Value>,
    pub selectable: Option<&'a Value>,
}

impl<'a> Hoisted<'a> {
    pub(super) fn of(crd: &'a Value) -> Self {
        let all = crd.list_at(&["spec", "versions"]);
        let common = |name: &str| {
            let first = all.first()?.get(name);
            Some(first.filter(|_| all.iter().all(|v| v.get(name) == first))).flatten()
        };
        let (schema, subresources) = (common("schema"), common("subresources"));
        let (columns, selectable) = (common("additionalPrinterColumns"), common("selectableFields"));
        let own = |value: &'a Value, name: &str, common: Option<&Value>| value.get(name).filter(|_| common.is_none());
        let versions = all.iter().map(|value| Version {
            value,
            schema: own(value, "schema", schema),
            subresources: own(value, "subresources", subresources),
            columns: own(value, "additionalPrinterColumns", columns),
            selectable: own(value, "selectableFields", selectable),
        });
        Self { versions: versions.collect(), schema, subresources, columns, selectable }
    }

    /// The schemas, each once.
    pub(super) fn schemas(&self) -> impl Iterator<Item = &'a Value> {
        let all = self.schema.into_iter().chain(self.versions.iter().filter_map(|v| v.schema));
        all.filter_map(|schema| schema.get("openAPIV3Schema"))
    }

    fn has(&self, mut what: impl FnMut(&Value) -> bool) -> bool {
        self.schemas().any(|schema| walk::any(schema, &mut what))
    }
}

/// What is demanded; a change is not held to what the definition did not satisfy before.
pub(super) struct Demands<'a> {
    /// Schemas that the definition had before.
    unchanged: Vec<&'a Value>,
    schema: bool,
    structural: bool,
    pub limits: Limits,
    immutable_names: bool,
    recognized_reviews: bool,
    many_selectable: bool,
}

impl<'a> Demands<'a> {
    fn of(old: Option<&'a Value>) -> Self {
        let Some(old) = old else {
            let limits = Limits { kinds: true, atomic_sets: true, keys: true, pruned_defaults: true };
            return Self {
                schema: true,
                structural: true,
                limits,
                immutable_names: false,
                recognized_reviews: true,
                many_selectable: false,
                unchanged: Vec::new(),
            };
        };
        let hoisted = Hoisted::of(old);
        let versions = old.list_at(&["spec", "versions"]);
        let established = old
            .list_at(&["status", "conditions"])
            .iter()
            .any(|c| c.str_at(&["type"]) == "Established" && c.str_at(&["status"]) == "True");
        let limits = Limits {
            kinds: !hoisted.has(|s| !openapi::is_kind(s.str_at(&["type"]))),
            atomic_sets: !hoisted.has(|s| openapi::set_of_compounds(s).is_some()),
            keys: !hoisted.has(|s| !openapi::keys(s, &Path::default()).is_empty()),
            pruned_defaults: !hoisted.schemas().any(defaults::are_unpruned),
        };
        Self {
            schema: versions.iter().all(|v| v.at(&["schema", "openAPIV3Schema"]).is_some()),
            structural: hoisted.schemas().all(|schema| structural::check(schema, &Path::default()).is_empty()),
            limits,
            immutable_names: established,
            recognized_reviews: old.at(&["spec", "conversion"]).is_none_or(conversion::is_recognized),
            unchanged: versions.iter().filter_map(|v| v.at(&["schema", "openAPIV3Schema"])).collect(),
            many_selectable: versions.iter().any(|v| v.list_at(&["selectableFields"]).len() > 8),
        }
    }
}

pub(super) fn check(crd: &Value, old: Option<&Value>, errors: &mut Vec<Error>) {
    let path = Path::new("spec");
    let empty = Value::object();
    let spec = crd.get("spec").unwrap_or(&empty);
    let demands = Demands::of(old);
    group(spec.str_at(&["group"]), &path.child("group"), errors);
    match spec.str_at(&["scope"]) {
        "" => errors.push(Error::required(&path.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(Error::not_supported(&path.child("scope"), other, &["Cluster", "Namespaced"])),
    }
    versions(crd, spec, &demands, &path, errors);
    let names = spec.get("names").unwrap_or(&empty);
    for field in ["plural", "singular", "kind", "listKind"] {
        if names.str_at(&[field]).is_empty() {
            errors.push(Error::required(&path.child("names").child(field), ""));
        }
    }
    parts::names(names, &path.child("names"), errors);
    if let Some(conversion) = spec.get("conversion") {
        conversion::check(conversion, demands.recognized_reviews, &path.child("conversion"), errors);
    }
    if let Some(old) = old {
        immutable(spec, old.get("spec").unwrap_or(&empty), demands.immutable_names, &path, errors);
    }
}

fn group(text: &str, path: &Path, errors: &mut Vec<Error>) {
    if text.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let wrong = names::dns1123_subdomain(text);
    if !wrong.is_empty() {
        errors.push(Error::invalid(path, text, wrong.join(",")));
    } else if !text.contains('.') {
        errors.push(Error::invalid(path, text, "should be a domain with at least one dot"));
    }
}

fn immutable(spec: &Value, old: &Value, established: bool, path: &Path, errors: &mut Vec<Error>) {
    let fields: [(&[&str], bool); 4] = [
        (&["scope"], established),
        (&["names", "kind"], established),
        (&["group"], true),
        (&["names", "plural"], true),
    ];
    for (field, fixed) in fields {
        if fixed && spec.str_at(field) != old.str_at(field) {
            errors.push(Error::invalid(&path.child(&field.join(".")), spec.str_at(field), "field is immutable"));
        }
    }
}

fn versions(crd: &Value, spec: &Value, demands: &Demands<'_>, path: &Path, errors: &mut Vec<Error>) {
    let hoisted = Hoisted::of(crd);
    let schema_of = |schema: Option<&Value>| schema.and_then(|s| s.get("openAPIV3Schema")).is_some();
    if !schema_of(hoisted.schema) {
        let keeps_unknown = spec.bool_at(&["preserveUnknownFields"]);
        for (i, version) in hoisted.versions.iter().enumerate().filter(|(_, v)| !schema_of(v.schema)) {
            let at = path.child("versions").index(i).child("schema").child("openAPIV3Schema");
            if demands.schema {
                errors.push(Error::required(&at, ""));
            } else if !keeps_unknown && version.value.bool_at(&["served"]) {
                errors.push(Error::required(&at, "because otherwise all fields are pruned"));
            }
        }
    }
    let all = &hoisted.versions;
    for (i, version) in all.iter().enumerate() {
        let at = path.child("versions").index(i);
        let name = version.value.str_at(&["name"]);
        let wrong = names::dns1035_label(name);
        if !wrong.is_empty() {
            errors.push(Error::invalid(&at.child("name"), name, wrong.join(",")));
        }
        for why in deprecation(version.value) {
            let text = version.value.str_at(&["deprecationWarning"]);
            errors.push(Error::invalid(&at.child("deprecationWarning"), text, why));
        }
        let status = version.subresources.or(hoisted.subresources).is_some_and(|s| s.get("status").is_some());
        one(version.schema, status, demands, &at.child("schema"), errors);
        rest(version.subresources, version.columns, version.selectable, version.schema, demands, &at, errors);
    }
    let shown = || shown::versions(spec.get("versions"), all);
    // The first version was once the only one, and had a place of its own.
    if let Some(first) = all.first().map(|v| v.value.str_at(&["name"])).filter(|name| !name.is_empty()) {
        let wrong = names::dns1035_label(first);
        if !wrong.is_empty() {
            errors.push(Error::invalid(&path.child("version"), first, wrong.join(",")));
        }
    }
    let mut names: Vec<&str> = all.iter().map(|v| v.value.str_at(&["name"])).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        let error = Error::invalid(&path.child("versions"), "", "must contain unique version names");
        errors.push(error.showing(shown()));
    }
    if all.iter().filter(|v| v.value.bool_at(&["storage"])).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(&path.child("versions"), "", why).showing(shown()));
    }
    let status = |subresources: Option<&Value>| subresources.is_some_and(|s| s.get("status").is_some());
    let any_status = status(hoisted.subresources) || all.iter().any(|v| status(v.subresources));
    one(hoisted.schema, any_status, demands, &path.child("validation"), errors);
    rest(hoisted.subresources, hoisted.columns, hoisted.selectable, hoisted.schema, demands, path, errors);
}

fn rest(
    subresources: Option<&Value>,
    columns: Option<&Value>,
    selectable: Option<&Value>,
    schema: Option<&Value>,
    demands: &Demands<'_>,
    path: &Path,
    errors: &mut Vec<Error>,
) {
    if let Some(subresources) = subresources {
        parts::subresources(subresources, &path.child("subresources"), errors);
    }
    for (i, column) in columns.and_then(Value::as_array).unwrap_or_default().iter().enumerate() {
        parts::column(column, &path.child("additionalPrinterColumns").index(i), errors);
    }
    let fields = selectable.and_then(Value::as_array).unwrap_or_default();
    if !fields.is_empty() && !demands.many_selectable {
        let at = path.child("selectableFields");
        match schema.and_then(|s| s.get("openAPIV3Schema")) {
            Some(schema) => parts::selectable(fields, schema, &at, errors),
            None => errors.push(Error::invalid(&at, "", "may only be set when validations.schema is included")),
        }
    }
}

fn deprecation(version: &Value) -> Vec<String> {
    let Some(text) = version.get("deprecationWarning").and_then(Value::as_str) else { return Vec::new() };
    if !version.bool_at(&["deprecated"]) {
        return vec!["can only be set for deprecated versions".into()];
    }
    let mut wrong = Vec::new();
    if text.len() > 256 {
        wrong.push("must be <= 256 characters long".to_owned());
    }
    if text.is_empty() {
        wrong.push("must not be an empty string".to_owned());
    }
    if let Some((i, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        wrong.push(format!("must only contain printable UTF-8 characters; non-printable character found at index {i}"));
    }
    wrong
}

const AT_ROOT: [&str; 22] = [
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

/// One schema, below the path of what holds it.
fn one(holder: Option<&Value>, status: bool, demands: &Demands<'_>, path: &Path, errors: &mut Vec<Error>) {
    let Some(schema) = holder.and_then(|holder| holder.get("openAPIV3Schema")) else { return };
    let path = path.child("openAPIV3Schema");
    let before = errors.len();
    if status {
        for field in shown::fields_set(schema) {
            if field == "Type" && schema.str_at(&["type"]) != "object" {
                let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
                errors.push(Error::invalid(&path.child("type"), schema.str_at(&["type"]), why));
                break;
            }
            if !AT_ROOT.contains(&field) {
                let why = format!(
                    "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                    AT_ROOT.join(" ")
                );
                errors.push(Error::invalid(&path, "", why).showing(shown::schema(schema)));
                break;
            }
        }
    }
    if schema.bool_at(&["nullable"]) {
        errors.push(Error::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    let (mut unsupported, mut sound) = (None, false);
    if demands.structural {
        unsupported = structural::unsupported(schema);
        if unsupported.is_none() {
            let wrong = structural::check(schema, &path);
            let wrong = match wrong.is_empty() {
                true => defaults::check(schema, demands.limits.pruned_defaults, &path),
                false => wrong,
            };
            sound = wrong.is_empty();
            errors.extend(wrong);
        }
    }
    let wrong = openapi::check(schema, &demands.limits, &path);
    if sound {
        errors.extend(expressions::check(schema, demands.unchanged.contains(&schema), &wrong, &path));
    }
    errors.extend(wrong);
    if let Some(why) = unsupported.filter(|_| errors.len() == before) {
        errors.push(Error::invalid(&path, "", why));
    }
}
