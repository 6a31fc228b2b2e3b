//! Parts of a definition as error messages show them: Go's structs of the internal version, as JSON.

use trireme_schema::{Map, Value, json};

/// What stands in a field of a struct.
#[derive(Clone, Copy)]
enum Form {
    /// Text; empty when absent.
    Text,
    /// A truth value; false when absent.
    Flag,
    /// Anything; null when absent.
    Any,
    Schema,
    Schemas,
    SchemaMap,
    SchemaOrBool,
    SchemaOrArray,
    SchemaOrTexts,
    Docs,
    Rules,
}

const SCHEMA: [(&str, &str, Form); 44] = [
    ("ID", "id", Form::Text),
    ("Schema", "$schema", Form::Text),
    ("Ref", "$ref", Form::Any),
    ("Description", "description", Form::Text),
    ("Type", "type", Form::Text),
    ("Nullable", "nullable", Form::Flag),
    ("Format", "format", Form::Text),
    ("Title", "title", Form::Text),
    ("Default", "default", Form::Any),
    ("Maximum", "maximum", Form::Any),
    ("ExclusiveMaximum", "exclusiveMaximum", Form::Flag),
    ("Minimum", "minimum", Form::Any),
    ("ExclusiveMinimum", "exclusiveMinimum", Form::Flag),
    ("MaxLength", "maxLength", Form::Any),
    ("MinLength", "minLength", Form::Any),
    ("Pattern", "pattern", Form::Text),
    ("MaxItems", "maxItems", Form::Any),
    ("MinItems", "minItems", Form::Any),
    ("UniqueItems", "uniqueItems", Form::Flag),
    ("MultipleOf", "multipleOf", Form::Any),
    ("Enum", "enum", Form::Any),
    ("MaxProperties", "maxProperties", Form::Any),
    ("MinProperties", "minProperties", Form::Any),
    ("Required", "required", Form::Any),
    ("Items", "items", Form::SchemaOrArray),
    ("AllOf", "allOf", Form::Schemas),
    ("OneOf", "oneOf", Form::Schemas),
    ("AnyOf", "anyOf", Form::Schemas),
    ("Not", "not", Form::Schema),
    ("Properties", "properties", Form::SchemaMap),
    ("AdditionalProperties", "additionalProperties", Form::SchemaOrBool),
    ("PatternProperties", "patternProperties", Form::SchemaMap),
    ("Dependencies", "dependencies", Form::SchemaOrTexts),
    ("AdditionalItems", "additionalItems", Form::SchemaOrBool),
    ("Definitions", "definitions", Form::SchemaMap),
    ("ExternalDocs", "externalDocs", Form::Docs),
    ("Example", "example", Form::Any),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields", Form::Any),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", Form::Flag),
    ("XIntOrString", "x-kubernetes-int-or-string", Form::Flag),
    ("XListMapKeys", "x-kubernetes-list-map-keys", Form::Any),
    ("XListType", "x-kubernetes-list-type", Form::Any),
    ("XMapType", "x-kubernetes-map-type", Form::Any),
    ("XValidations", "x-kubernetes-validations", Form::Rules),
];

const RULE: [(&str, &str, Form); 6] = [
    ("Rule", "rule", Form::Text),
    ("Message", "message", Form::Text),
    ("MessageExpression", "messageExpression", Form::Text),
    ("Reason", "reason", Form::Any),
    ("FieldPath", "fieldPath", Form::Text),
    ("OptionalOldSelf", "optionalOldSelf", Form::Any),
];

const COLUMN: [(&str, &str, Form); 6] = [
    ("Name", "name", Form::Text),
    ("Type", "type", Form::Text),
    ("Format", "format", Form::Text),
    ("Description", "description", Form::Text),
    ("Priority", "priority", Form::Any),
    ("JSONPath", "jsonPath", Form::Text),
];

fn structure(fields: &[(&str, &str, Form)], value: &Value) -> String {
    let shown: Vec<String> =
        fields.iter().map(|(go, name, form)| format!("{:?}:{}", go, field(*form, value.get(name)))).collect();
    format!("{{{}}}", shown.join(","))
}

fn list(values: &[Value], each: impl Fn(&Value) -> String) -> String {
    format!("[{}]", values.iter().map(each).collect::<Vec<_>>().join(","))
}

fn map(map: &Map, each: impl Fn(&Value) -> String) -> String {
    let members: Vec<String> =
        map.iter().map(|(name, value)| format!("{}:{}", json::to_string(&name.as_str().into()), each(value))).collect();
    format!("{{{}}}", members.join(","))
}

fn field(form: Form, value: Option<&Value>) -> String {
    let none = || "null".to_owned();
    match (form, value) {
        (Form::Text, None) => "\"\"".to_owned(),
        (Form::Flag, None) => "false".to_owned(),
        (Form::Text | Form::Flag | Form::Any, Some(value)) => json::to_string(value),
        (_, None) => none(),
        (Form::Schema, Some(value)) => schema(value),
        (Form::Schemas, Some(value)) => list(value.as_array().unwrap_or_default(), schema),
        (Form::SchemaMap, Some(Value::Object(members))) => map(members, schema),
        (Form::SchemaOrBool, Some(Value::Bool(allows))) => format!("{{\"Allows\":{allows},\"Schema\":null}}"),
        (Form::SchemaOrBool, Some(value)) => format!("{{\"Allows\":true,\"Schema\":{}}}", schema(value)),
        (Form::SchemaOrArray, Some(value)) => items(value),
        (Form::SchemaOrTexts, Some(Value::Object(members))) => map(members, |value| match value {
            Value::Array(_) => format!("{{\"Schema\":null,\"Property\":{}}}", json::to_string(value)),
            value => format!("{{\"Schema\":{},\"Property\":null}}", schema(value)),
        }),
        (Form::Docs, Some(value)) => {
            structure(&[("Description", "description", Form::Text), ("URL", "url", Form::Text)], value)
        }
        (Form::Rules, Some(value)) => list(value.as_array().unwrap_or_default(), rule),
        (Form::SchemaMap | Form::SchemaOrTexts, Some(_)) => none(),
    }
}

/// A schema.
pub(super) fn schema(value: &Value) -> String {
    structure(&SCHEMA, value)
}

/// A rule.
pub(super) fn rule(value: &Value) -> String {
    structure(&RULE, value)
}

/// The schema of elements, or a list of them.
pub(super) fn items(value: &Value) -> String {
    match value {
        Value::Array(all) if all.is_empty() => "{\"Schema\":null,\"JSONSchemas\":null}".to_owned(),
        Value::Array(all) => format!("{{\"Schema\":null,\"JSONSchemas\":{}}}", list(all, schema)),
        value => format!("{{\"Schema\":{},\"JSONSchemas\":null}}", schema(value)),
    }
}

/// The names of Go's fields of a schema that are set, in Go's order.
pub(super) fn fields_set(value: &Value) -> impl Iterator<Item = &'static str> {
    SCHEMA.iter().filter(|(_, name, _)| value.get(name).is_some()).map(|(go, _, _)| *go)
}

/// Versions, without what they have in common; the whole is null when nothing was given.
pub(super) fn versions(given: Option<&Value>, versions: &[super::spec::Version<'_>]) -> String {
    if given.is_none() {
        return "null".to_owned();
    }
    let one = |version: &super::spec::Version<'_>| {
        let text = |name: &str| json::to_string(&version.value.str_at(&[name]).into());
        let flag = |name: &str| version.value.bool_at(&[name]);
        let or_null =
            |value: Option<&Value>, show: &dyn Fn(&Value) -> String| value.map_or_else(|| "null".to_owned(), show);
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            text("name"),
            flag("served"),
            flag("storage"),
            flag("deprecated"),
            or_null(version.value.get("deprecationWarning"), &json::to_string),
            or_null(version.schema, &|s| format!(
                "{{\"OpenAPIV3Schema\":{}}}",
                field(Form::Schema, s.get("openAPIV3Schema"))
            )),
            or_null(version.subresources, &subresources),
            or_null(version.columns, &|c| list(c.as_array().unwrap_or_default(), column)),
            or_null(version.selectable, &|f| {
                list(f.as_array().unwrap_or_default(), |f| structure(&[("JSONPath", "jsonPath", Form::Text)], f))
            }),
        )
    };
    format!("[{}]", versions.iter().map(one).collect::<Vec<_>>().join(","))
}

fn column(value: &Value) -> String {
    let mut value = value.clone();
    if value.get("priority").is_none() {
        value.set_at(&["priority"], 0);
    }
    structure(&COLUMN, &value)
}

fn subresources(value: &Value) -> String {
    let status = if value.get("status").is_some() { "{}" } else { "null" };
    let scale = value.get("scale").map_or_else(
        || "null".to_owned(),
        |scale| {
            let fields = [
                ("SpecReplicasPath", "specReplicasPath", Form::Text),
                ("StatusReplicasPath", "statusReplicasPath", Form::Text),
                ("LabelSelectorPath", "labelSelectorPath", Form::Any),
            ];
            structure(&fields, scale)
        },
    );
    format!("{{\"Status\":{status},\"Scale\":{scale}}}")
}
