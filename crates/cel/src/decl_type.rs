//! Types from schemas: what fields there are, and how large everything can be.

use crate::cost::limits::LARGEST_REQUEST;
use crate::cost::{Range, SizeHints};
use crate::env::TypeProvider;
use crate::names;
use crate::types::Type;
use crate::value::{Schema, SchemaType};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A declared type.
#[derive(Clone, Debug)]
pub struct DeclType {
    /// How the checker sees it.
    pub cel_type: Type,
    /// An object's fields, by their identifiers.
    pub fields: BTreeMap<String, DeclField>,
    /// A list's elements, a map's values.
    pub element: Option<Arc<DeclType>>,
    /// The most elements, characters or bytes.
    pub max_elements: u64,
    /// The fewest bytes as JSON.
    pub min_serialized_size: u64,
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct DeclField {
    /// Its type.
    pub decl: Arc<DeclType>,
    /// Whether it is always there.
    pub required: bool,
}

/// The name of object types that have none yet.
const UNNAMED: &str = "object";
/// Deeper schemas are as good as unknown.
const DEEPEST: usize = 128;
/// Without the quotes, brackets or braces.
const LARGEST_VALUE: u64 = LARGEST_REQUEST - 2;

impl DeclType {
    /// A type without an inside; of texts, so many characters at the most.
    pub fn simple(cel_type: Type, max_elements: u64, min_serialized_size: u64) -> Self {
        Self { cel_type, fields: BTreeMap::new(), element: None, max_elements, min_serialized_size }
    }

    /// A list.
    pub fn list(element: DeclType, max_items: u64) -> Self {
        let cel_type = Type::list(element.cel_type.clone());
        Self { element: Some(Arc::new(element)), ..Self::simple(cel_type, max_items, 2) }
    }

    /// A map whose keys are texts.
    pub fn map(value: DeclType, max_properties: u64) -> Self {
        let cel_type = Type::map(Type::String, value.cel_type.clone());
        Self { element: Some(Arc::new(value)), ..Self::simple(cel_type, max_properties, 2) }
    }

    /// An object.
    pub fn object(name: &str, fields: BTreeMap<String, DeclField>) -> Self {
        Self { fields, ..Self::simple(Type::object(name), 0, 2) }
    }

    /// The type of what a schema describes; none if expressions are not to see it.
    pub fn from_schema(schema: &dyn Schema) -> Option<Self> {
        from_schema(schema, 0)
    }

    /// The same type with names for its objects, made of `name` and the way to them.
    pub fn named(&self, name: &str) -> Self {
        match &self.cel_type {
            Type::Struct(there) => {
                let name = if **there == *UNNAMED { name } else { there };
                let fields = self.fields.iter().map(|(field, f)| {
                    let decl = Arc::new(f.decl.named(&format!("{name}.{field}")));
                    (field.clone(), DeclField { decl, required: f.required })
                });
                Self { cel_type: Type::object(name), fields: fields.collect(), ..self.clone() }
            }
            Type::List(_) | Type::Map(..) => {
                let step = if matches!(self.cel_type, Type::List(_)) { "@idx" } else { "@elem" };
                let Some(element) = self.element.as_ref().map(|e| e.named(&format!("{name}.{step}"))) else {
                    return self.clone();
                };
                let named = if step == "@idx" {
                    Self::list(element, self.max_elements)
                } else {
                    Self::map(element, self.max_elements)
                };
                Self { min_serialized_size: self.min_serialized_size, ..named }
            }
            _ => self.clone(),
        }
    }

    /// The object types in it, as a provider for [`crate::Env::with_types`].
    pub fn provider(&self) -> Arc<dyn TypeProvider> {
        let mut objects = HashMap::new();
        self.collect(&mut objects);
        Arc::new(Objects(objects))
    }

    fn collect(&self, objects: &mut HashMap<Arc<str>, HashMap<String, Type>>) {
        if let Type::Struct(name) = &self.cel_type
            && !objects.contains_key(name)
        {
            let fields = self.fields.iter().map(|(field, f)| (field.clone(), f.decl.cel_type.clone()));
            objects.insert(name.clone(), fields.collect());
            self.fields.values().for_each(|field| field.decl.collect(objects));
        }
        if let Some(element) = &self.element {
            element.collect(objects);
        }
    }
}

/// Object types and their fields.
struct Objects(HashMap<Arc<str>, HashMap<String, Type>>);

impl TypeProvider for Objects {
    fn find_type(&self, name: &str) -> Option<Type> {
        self.0.get_key_value(name).map(|(name, _)| Type::Struct(name.clone()))
    }

    fn find_field(&self, type_name: &str, field: &str) -> Option<Type> {
        let fields = self.0.get(type_name)?;
        // A reserved word is a good name for a field, although not for a variable.
        fields.get(field).or_else(|| fields.get(&*names::escape(field)?)).cloned()
    }
}

impl SizeHints for DeclType {
    fn size(&self, path: &[String]) -> Option<Range> {
        let mut at = self;
        let text = DeclType::simple(Type::String, 0, 2);
        // All variables are of this type.
        for step in path.iter().skip(1) {
            at = match step.as_str() {
                "@items" | "@values" => at.element.as_deref()?,
                "@keys" if matches!(at.cel_type, Type::Map(..)) => &text,
                "@keys" => return None,
                field => &*at.fields.get(field)?.decl,
            };
        }
        Some(Range { min: 0, max: at.max_elements })
    }
}

fn from_schema(schema: &dyn Schema, depth: usize) -> Option<DeclType> {
    if depth > DEEPEST {
        return None;
    }
    if schema.int_or_string() {
        return Some(DeclType::simple(Type::Dyn, schema.max_length().map_or(LARGEST_VALUE, bytes), 1));
    }
    match schema.schema_type() {
        SchemaType::Array => {
            let items = from_schema(schema.items()?, depth + 1)?;
            let most = schema.max_items().unwrap_or(LARGEST_VALUE / (items.min_serialized_size + 1));
            Some(DeclType::list(items, most))
        }
        SchemaType::Object => match schema.additional_properties() {
            Some(values) => {
                let values = from_schema(values, depth + 1)?;
                // Two quotes, a colon, a comma, and a key of two characters.
                let most = schema.max_properties().unwrap_or(LARGEST_VALUE / (values.min_serialized_size + 6));
                Some(DeclType::map(values, most))
            }
            None => Some(object(schema, depth)),
        },
        SchemaType::String => Some(string(schema)),
        SchemaType::Boolean => Some(DeclType::simple(Type::Bool, 0, 4)),
        SchemaType::Number => Some(DeclType::simple(Type::Double, 0, 1)),
        SchemaType::Integer => Some(DeclType::simple(Type::Int, 0, 1)),
        SchemaType::Unspecified => None,
    }
}

/// A character takes up to four bytes.
fn bytes(characters: u64) -> u64 {
    characters.saturating_mul(4)
}

fn object(schema: &dyn Schema, depth: usize) -> DeclType {
    let mut fields = BTreeMap::new();
    let mut size = 2;
    for (name, property) in schema.properties() {
        let Some(decl) = from_schema(property, depth + 1) else { continue };
        let required = schema.is_required(name);
        // What has a default need not be in a request.
        if required && property.default_size().is_none() {
            size += name.len() as u64 + decl.min_serialized_size + 4;
        }
        if let Some(identifier) = names::escape(name) {
            fields.insert(identifier.into_owned(), DeclField { decl: Arc::new(decl), required });
        }
    }
    DeclType { min_serialized_size: size, ..DeclType::object(UNNAMED, fields) }
}

fn string(schema: &dyn Schema) -> DeclType {
    match schema.format() {
        "byte" => DeclType::simple(Type::Bytes, schema.max_length().unwrap_or(LARGEST_VALUE), 2),
        "duration" => DeclType::simple(Type::Duration, 32, 3),
        "date" => DeclType::simple(Type::Timestamp, 12, 12),
        "date-time" => DeclType::simple(Type::Timestamp, 32, 21),
        _ => {
            let longest_of_enum = || schema.enum_texts().iter().map(|text| text.len() as u64).max();
            let most = schema.max_length().map(bytes).or_else(longest_of_enum).unwrap_or(LARGEST_VALUE);
            DeclType::simple(Type::String, most, 2)
        }
    }
}
