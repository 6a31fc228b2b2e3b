//! What is declared about JSON: an OpenAPI schema, as far as expressions care.

/// The `type` of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaType {
    /// None given.
    Unspecified,
    /// `object`.
    Object,
    /// `array`.
    Array,
    /// `string`.
    String,
    /// `number`.
    Number,
    /// `integer`.
    Integer,
    /// `boolean`.
    Boolean,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// The order counts.
    Atomic,
    /// The elements count.
    Set,
    /// The elements count, and are told apart by their keys.
    Map,
}

/// The schema of a JSON value. What a method does not say is as good as absent.
///
/// An embedded resource (`x-kubernetes-embedded-resource`) and the root of an object have `apiVersion`, `kind` and
/// `metadata` (with `name` and `generateName`) among their properties: it is for the implementation to add them.
pub trait Schema: Sync {
    /// `type`.
    fn schema_type(&self) -> SchemaType;

    /// `format`; empty if there is none.
    fn format(&self) -> &str {
        ""
    }

    /// `items`.
    fn items(&self) -> Option<&dyn Schema> {
        None
    }

    /// Whether there is a `properties`, be it empty.
    fn has_properties(&self) -> bool {
        false
    }

    /// One of `properties`.
    fn property(&self, _name: &str) -> Option<&dyn Schema> {
        None
    }

    /// All of `properties`.
    fn properties(&self) -> Vec<(&str, &dyn Schema)> {
        Vec::new()
    }

    /// The schema in `additionalProperties`.
    fn additional_properties(&self) -> Option<&dyn Schema> {
        None
    }

    /// Whether `required` lists the property.
    fn is_required(&self, _name: &str) -> bool {
        false
    }

    /// Whether there is a `default`, and how long its JSON is.
    fn default_size(&self) -> Option<usize> {
        None
    }

    /// `x-kubernetes-int-or-string`.
    fn int_or_string(&self) -> bool {
        false
    }

    /// `x-kubernetes-preserve-unknown-fields`.
    fn preserves_unknown_fields(&self) -> bool {
        false
    }

    /// `x-kubernetes-embedded-resource`.
    fn embedded_resource(&self) -> bool {
        false
    }

    /// `nullable`.
    fn nullable(&self) -> bool {
        false
    }

    /// `x-kubernetes-list-type`.
    fn list_type(&self) -> ListType {
        ListType::Atomic
    }

    /// `x-kubernetes-list-map-keys`.
    fn list_map_keys(&self) -> Vec<&str> {
        Vec::new()
    }

    /// `maxItems`.
    fn max_items(&self) -> Option<u64> {
        None
    }

    /// `maxLength`.
    fn max_length(&self) -> Option<u64> {
        None
    }

    /// `maxProperties`.
    fn max_properties(&self) -> Option<u64> {
        None
    }

    /// The texts of `enum`, and how many values it has.
    fn enum_texts(&self) -> Vec<&str> {
        Vec::new()
    }
}
