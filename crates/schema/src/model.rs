//! The shape of types, fields, resources and packages.

use crate::value::Value;
use std::collections::{BTreeMap, HashMap};

/// A struct of a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StructId(pub(crate) u32);

/// What a field, element or map value holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Text.
    String,
    /// A truth value.
    Bool,
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// A float.
    Double,
    /// Base64 in JSON.
    Bytes,
    /// A [`crate::Quantity`].
    Quantity,
    /// RFC 3339 in seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    /// Go's duration text.
    Duration,
    /// A number or a text.
    IntOrString,
    /// An object of any kind, carried as it is.
    RawExtension,
    /// A set of fields (managedFields), carried as JSON.
    FieldsV1,
    /// Any JSON, carried as JSON.
    Json,
    /// Any JSON that has no protobuf form.
    Any,
    /// OpenAPI's schema or truth value.
    SchemaOrBool,
    /// OpenAPI's schema or list of schemas.
    SchemaOrArray,
    /// OpenAPI's schema or list of names.
    SchemaOrStrings,
    /// A list.
    List(Box<Type>),
    /// A map from text.
    Map(Box<Type>),
    /// A struct.
    Struct(StructId),
}

/// How server-side apply and validation see a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each once.
    Set,
    /// Objects, told apart by these keys.
    Map(Vec<String>),
}

/// What a strategic merge patch does with a list or struct.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Elements are merged.
    pub merge: bool,
    /// Keys that the patch does not name are dropped when `$retainKeys` says so.
    pub retain_keys: bool,
    /// The key that tells elements apart.
    pub key: Option<String>,
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its JSON name; empty for an embedded struct, whose fields stand in its place.
    pub name: String,
    /// What it holds.
    pub ty: Type,
    /// Its protobuf number; fields without one have no protobuf form.
    pub tag: Option<u32>,
    /// A pointer in Go: absent and zero are different things.
    pub ptr: bool,
    /// Left out of JSON when empty (lists, maps, scalars) or absent (pointers).
    pub omit: bool,
    /// An empty one that is given is another thing than none; validation lets neither be stored.
    pub keeps_empty: bool,
    /// Left out of JSON when zero, structs and times too.
    pub omit_zero: bool,
    /// Required by the OpenAPI document.
    pub required: bool,
    /// Embedded: flat in JSON, nested in protobuf.
    pub inline: bool,
    /// Elements' identity, for lists.
    pub list: ListKind,
    /// Whether that is declared, and not what lists are without a word.
    pub list_declared: bool,
    /// Whether server-side apply replaces a map or struct as a whole, where the field says other than its type.
    pub atomic: Option<bool>,
    /// For strategic merge patches.
    pub patch: PatchStrategy,
    /// The enumeration of its values.
    pub enumeration: Option<String>,
    /// The name of its Go type where it is a named scalar, list or map.
    pub named: Option<String>,
    /// Its list is a message of its own in protobuf (`items = 1`).
    pub wrap: bool,
    /// Each map value that is a list is a message of its own in protobuf.
    pub elem_wrap: bool,
    /// The default that the OpenAPI document declares.
    pub default: Option<Value>,
}

/// A struct type.
#[derive(Clone, Debug, PartialEq)]
pub struct Struct {
    /// Its package, such as `core.v1`.
    pub package: String,
    /// Its Go name.
    pub name: String,
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
    /// In Go's order, which is the order of JSON output.
    pub fields: Vec<Field>,
    /// Positions in `fields` by protobuf number, the order of protobuf output.
    pub(crate) by_tag: Vec<usize>,
    /// Where a JSON name is found: positions through embedded structs.
    pub(crate) by_name: HashMap<String, Vec<usize>>,
}

/// The values of an enumeration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enumeration {
    /// Its package.
    pub package: String,
    /// Whether the OpenAPI document refuses other values.
    pub closed: bool,
    /// The values known.
    pub values: Vec<String>,
}

/// A group and version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
}

impl GroupVersion {
    /// Reads `v1` or `apps/v1`.
    pub fn parse(text: &str) -> Self {
        match text.rsplit_once('/') {
            Some((group, version)) => Self { group: group.into(), version: version.into() },
            None => Self { group: String::new(), version: text.into() },
        }
    }
}

impl std::fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.group.is_empty() { f.write_str(&self.version) } else { write!(f, "{}/{}", self.group, self.version) }
    }
}

/// A column of the table that `kubectl get` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// `string`, `integer`, `date`.
    pub kind: String,
    /// `name` or empty.
    pub format: String,
    /// Shown with `-o wide` only.
    pub wide: bool,
    /// What it shows.
    pub about: About,
}

/// A description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// That of a field.
    Field(StructId, String),
    /// One of its own.
    Text(String),
}

/// A subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Such as `status`.
    pub name: String,
    /// The kind of its body.
    pub kind: String,
    /// The group and version of that kind, when they differ from the resource's.
    pub gv: Option<GroupVersion>,
    /// What can be done.
    pub verbs: Vec<String>,
}

/// A resource: a kind with a place in URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Group and version.
    pub gv: GroupVersion,
    /// The name in URLs.
    pub plural: String,
    /// The kind.
    pub kind: String,
    /// The name for one.
    pub singular: String,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// What can be done.
    pub verbs: Vec<String>,
    /// `po` for pods.
    pub short_names: Vec<String>,
    /// `all` and others.
    pub categories: Vec<String>,
    /// Field selectors besides `metadata.name` and `metadata.namespace`.
    pub field_selectors: Vec<String>,
    /// Served when nothing is configured.
    pub served: bool,
    /// Subresources.
    pub subresources: Vec<Subresource>,
    /// Columns of its table.
    pub columns: Vec<Column>,
}

/// Types, kinds and resources.
#[derive(Debug, Default)]
pub struct Schema {
    pub(crate) structs: Vec<Struct>,
    pub(crate) names: HashMap<String, StructId>,
    /// By `package.Name`.
    pub(crate) enumerations: BTreeMap<String, Enumeration>,
    /// Kinds by group and version.
    pub(crate) kinds: BTreeMap<GroupVersion, BTreeMap<String, StructId>>,
    pub(crate) resources: Vec<Resource>,
}

impl std::ops::Index<StructId> for Schema {
    type Output = Struct;
    fn index(&self, id: StructId) -> &Struct {
        &self.structs[id.0 as usize]
    }
}

impl Schema {
    /// The struct named `package.Name`, such as `core.v1.Pod`.
    pub fn type_named(&self, name: &str) -> Option<StructId> {
        self.names.get(name).copied()
    }

    /// The type of a kind. Kinds of the meta group are found in every group.
    pub fn kind(&self, gv: &GroupVersion, kind: &str) -> Option<StructId> {
        self.kinds.get(gv)?.get(kind).copied().or_else(|| self.type_named(&format!("meta.v1.{kind}")))
    }

    /// Groups and versions with their kinds.
    pub fn kinds(&self) -> impl Iterator<Item = (&GroupVersion, &BTreeMap<String, StructId>)> {
        self.kinds.iter()
    }

    /// All resources, served or not.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// The values of an enumeration named by a field of a struct in `package`.
    pub fn enumeration(&self, package: &str, name: &str) -> Option<&Enumeration> {
        self.enumerations.get(&format!("{package}.{name}")).or_else(|| self.enumerations.get(name))
    }

    /// All structs with their ids.
    pub fn structs(&self) -> impl Iterator<Item = (StructId, &Struct)> {
        self.structs.iter().enumerate().map(|(i, s)| (StructId(i as u32), s))
    }

    /// The field that carries a JSON name, through embedded structs.
    pub fn field(&self, id: StructId, name: &str) -> Option<&Field> {
        let mut current = id;
        let path = self[id].by_name.get(name)?;
        let (last, way) = path.split_last()?;
        for &step in way {
            match self[current].fields[step].ty {
                Type::Struct(next) => current = next,
                _ => return None,
            }
        }
        Some(&self[current].fields[*last])
    }

    /// The names of the embedded structs through which [`Self::field`] finds a field.
    pub fn embedded(&self, id: StructId, name: &str) -> impl Iterator<Item = &str> {
        let way = self[id].by_name.get(name).and_then(|path| path.split_last()).map_or(&[][..], |(_, way)| way);
        let mut current = id;
        way.iter().filter_map(move |&step| match self[current].fields[step].ty {
            Type::Struct(next) => {
                current = next;
                Some(self[next].name.as_str())
            }
            _ => None,
        })
    }

    /// Fields as they appear in JSON: embedded structs opened.
    pub fn flat_fields(&self, id: StructId) -> Vec<&Field> {
        let mut out = Vec::new();
        for field in &self[id].fields {
            match (&field.ty, field.inline) {
                (Type::Struct(inner), true) => out.extend(self.flat_fields(*inner)),
                _ => out.push(field),
            }
        }
        out
    }
}
