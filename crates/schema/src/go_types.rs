//! The names that types have in Go, which messages about bodies tell.

use crate::model::{Field, Schema, StructId, Type};

/// The Go name of a struct: `v1.Pod`.
pub(crate) fn of_struct(schema: &Schema, id: StructId) -> String {
    let s = &schema[id];
    format!("{}.{}", s.package.rsplit('.').next().unwrap_or_default(), s.name)
}

/// The Go name of a type.
pub(crate) fn of(schema: &Schema, ty: &Type) -> String {
    match ty {
        Type::String => "string".into(),
        Type::Bool => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Double => "float64".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Quantity => "resource.Quantity".into(),
        Type::Time => "v1.Time".into(),
        Type::MicroTime => "v1.MicroTime".into(),
        Type::Duration => "v1.Duration".into(),
        Type::IntOrString => "intstr.IntOrString".into(),
        Type::RawExtension => "runtime.RawExtension".into(),
        Type::FieldsV1 => "v1.FieldsV1".into(),
        Type::Json => "v1.JSON".into(),
        Type::Any => "interface {}".into(),
        Type::SchemaOrBool => "v1.JSONSchemaPropsOrBool".into(),
        Type::SchemaOrArray => "v1.JSONSchemaPropsOrArray".into(),
        Type::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray".into(),
        Type::List(element) => format!("[]{}", of(schema, element)),
        Type::Map(value) => format!("map[string]{}", of(schema, value)),
        Type::Struct(id) => of_struct(schema, *id),
    }
}

/// Fields whose types have names of their own in Go that the API's shape does not tell: struct, field, type.
const NAMED_TYPES: [(&str, &str, &str); 11] = [
    ("apiextensions.v1.JSONSchemaProps", "x-kubernetes-validations", "v1.ValidationRules"),
    ("apiextensions.v1.JSONSchemaProps", "dependencies", "v1.JSONSchemaDependencies"),
    ("apiextensions.v1.JSONSchemaProps", "definitions", "v1.JSONSchemaDefinitions"),
    ("authentication.v1.UserInfo", "extra", "map[string]v1.ExtraValue"),
    ("authorization.v1.SubjectAccessReviewSpec", "extra", "map[string]v1.ExtraValue"),
    ("certificates.v1.CertificateSigningRequestSpec", "extra", "map[string]v1.ExtraValue"),
    ("resource.v1.Device", "attributes", "map[v1.QualifiedName]v1.DeviceAttribute"),
    ("resource.v1.Device", "capacity", "map[v1.QualifiedName]v1.DeviceCapacity"),
    ("resource.v1.CapacityRequirements", "requests", "map[v1.QualifiedName]resource.Quantity"),
    ("autoscaling.v2.ResourceMetricSource", "name", "v1.ResourceName"),
    ("autoscaling.v2.ContainerResourceMetricSource", "name", "v1.ResourceName"),
];

/// The Go name of a field's type.
pub(crate) fn of_field(schema: &Schema, owner: Option<StructId>, field: &Field) -> String {
    if let Some(owner) = owner {
        let s = &schema[owner];
        let is = |name: &str| {
            name.split_once(s.name.as_str())
                .is_some_and(|(package, rest)| rest.is_empty() && package.strip_suffix('.') == Some(s.package.as_str()))
        };
        if let Some((.., name)) = NAMED_TYPES.iter().find(|(owner, of, _)| *of == field.name && is(owner)) {
            return (*name).to_owned();
        }
    }
    let package = |id: StructId| schema[id].package.rsplit('.').next().unwrap_or_default().to_owned();
    let name = match (&field.named, &field.enumeration) {
        (Some(name), _) if name == "UID" => return "types.UID".into(),
        (Some(name), _) => Some(name.as_str()),
        (None, Some(name)) => Some(name.rsplit('.').next().unwrap_or(name)),
        (None, None) => None,
    };
    match (name, owner, &field.ty) {
        (Some(name), Some(owner), Type::List(_)) => format!("[]{}.{name}", package(owner)),
        (Some(name), Some(owner), _) => format!("{}.{name}", package(owner)),
        _ => of(schema, &field.ty),
    }
}

/// Whether Go decodes a type by a method of it, which tells what it wants itself.
pub(crate) fn decodes_itself(ty: &Type) -> bool {
    matches!(ty, Type::IntOrString | Type::Time | Type::MicroTime | Type::Duration)
}
