//! The table `rules.txt` and the functions beside it, by type.

use crate::formats::{self, Format};
use crate::{Check, Errors, Place, Warn};
use std::collections::HashMap;
use std::sync::LazyLock;
use trireme_schema::{Field, Schema, StructId, Type, Value, builtin, names};

/// What one field must be.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// Given, and not empty.
    Required(String),
    /// Not empty, when given.
    NotEmpty(String),
    /// One of these texts, when given.
    Enum(Vec<String>),
    /// One of these texts, also when empty.
    OneOf(Vec<String>),
    /// At least so much.
    Min(i64),
    /// More than nothing, in these words.
    Positive(&'static str),
    /// The permissions of a file.
    Mode,
    /// From here to there.
    Range(i64, i64),
    /// Of a format, when given.
    Format(Format),
    /// A port's number or name, when given.
    PortOrName,
    /// The same, also when absent: its zero value is looked at.
    Always(Box<Rule>),
    /// At most so many bytes.
    MaxBytes(usize),
    /// At most so many elements.
    MaxItems(usize),
    /// As it was before an update, once there is an object.
    Immutable,
    /// Told apart by these members (by the element itself, when none).
    Unique(Vec<String>),
    /// Each element passes these rules.
    Each(Vec<Rule>),
    /// Each key passes this format.
    Keys(Format),
    /// Not given.
    Forbidden(String),
    /// Labels.
    Labels,
    /// Annotations.
    Annotations,
}

/// A field with its rules.
#[derive(Debug)]
pub(crate) struct FieldRules {
    pub name: String,
    /// What stands for an absent value in messages.
    pub zero: Value,
    pub rules: Vec<Rule>,
}

/// All that is to be checked in a type.
#[derive(Debug, Default)]
pub(crate) struct TypeRules {
    pub fields: Vec<FieldRules>,
    pub checks: Vec<Check>,
    /// Fields that lead to types with rules.
    pub ways: Vec<(String, Shape, usize)>,
    /// Fields whose types are visited by functions, since it depends on more than the type.
    by_hand: Vec<String>,
}

/// How a field leads to a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A struct that is there also when it is empty, since it is no pointer.
    Always,
    One,
    List,
    Map,
}

/// What differs between kinds in their metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetadataRules {
    /// How names look.
    pub name: Format,
    /// Whether what a name is made of is not looked at.
    pub any_prefix: bool,
    /// Whether finalizers without a domain are let through.
    pub any_finalizers: bool,
    /// How often an update is looked at, besides once by what all kinds share: upstream tells an error each time.
    pub update: Looks,
}

/// How often metadata are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looks {
    /// As a change.
    pub at_change: usize,
    /// As an object.
    pub at_object: usize,
}

impl Default for MetadataRules {
    fn default() -> Self {
        Self {
            name: names::dns1123_subdomain,
            any_prefix: false,
            any_finalizers: false,
            update: Looks { at_change: 1, at_object: 1 },
        }
    }
}

/// A line of the table that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("rules.txt: line {line}: {what}")]
pub(crate) struct BadRule {
    line: usize,
    what: String,
}

/// All rules and functions.
#[derive(Default)]
pub(crate) struct Registry {
    types: Vec<TypeRules>,
    by_id: HashMap<StructId, usize>,
    metadata: HashMap<StructId, MetadataRules>,
    kinds: HashMap<(StructId, String), Vec<Check>>,
    warnings: HashMap<StructId, Vec<Warn>>,
}

/// The rules of all kinds, read once.
pub(crate) fn registry() -> &'static Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
        let mut registry = Registry::default();
        // A line that cannot be read is found by this module's test; it is left out here.
        for table in crate::TABLES {
            registry.read(table, builtin());
        }
        crate::register(&mut registry);
        registry.connect(builtin());
        registry
    });
    &REGISTRY
}

impl Registry {
    /// Calls a function on every value of a type, wherever it is (but in `status`).
    pub fn on_type(&mut self, name: &str, check: Check) {
        if let Some(id) = builtin().type_named(name) {
            let at = self.slot(id);
            self.types[at].checks.push(check);
        } else {
            debug_assert!(false, "no type {name}");
        }
    }

    /// Calls a function on objects of a kind when this subresource (empty: the object itself) is written.
    pub fn on_kind(&mut self, name: &str, subresource: &str, check: Check) {
        match builtin().type_named(name) {
            Some(id) => self.kinds.entry((id, subresource.to_owned())).or_default().push(check),
            None => debug_assert!(false, "no type {name}"),
        }
    }

    /// Calls a function that warns of objects of a kind.
    pub fn on_warning(&mut self, name: &str, warn: Warn) {
        match builtin().type_named(name) {
            Some(id) => self.warnings.entry(id).or_default().push(warn),
            None => debug_assert!(false, "no type {name}"),
        }
    }

    pub fn type_rules(&self, id: StructId) -> Option<&TypeRules> {
        self.by_id.get(&id).map(|&at| &self.types[at])
    }

    pub fn at(&self, slot: usize) -> &TypeRules {
        &self.types[slot]
    }

    pub fn metadata(&self, id: StructId) -> MetadataRules {
        self.metadata.get(&id).copied().unwrap_or_default()
    }

    pub fn kind_checks(&self, id: StructId, subresource: &str) -> &[Check] {
        self.kinds.get(&(id, subresource.to_owned())).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn warnings(&self, id: StructId) -> &[Warn] {
        self.warnings.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    fn slot(&mut self, id: StructId) -> usize {
        *self.by_id.entry(id).or_insert_with(|| {
            self.types.push(TypeRules::default());
            self.types.len() - 1
        })
    }

    /// Reads the table; gives the lines that cannot be read.
    fn read(&mut self, text: &str, schema: &Schema) -> Vec<BadRule> {
        let mut bad = Vec::new();
        let mut current = None;
        for (i, line) in text.lines().enumerate() {
            let mut wrong = |what: String| bad.push(BadRule { line: i + 1, what });
            let words = line.trim();
            if words.is_empty() || words.starts_with('#') {
                continue;
            }
            let (head, rest) = words.split_once(' ').unwrap_or((words, ""));
            if !line.starts_with(' ') {
                current = schema.type_named(words);
                if current.is_none() {
                    wrong(format!("no type {words}"));
                }
                continue;
            }
            let Some(id) = current else { continue };
            if let Some(part) = head.strip_prefix("metadata.") {
                let metadata = self.metadata.entry(id).or_default();
                match (part, rest.trim()) {
                    ("name", format) => match formats::named(format) {
                        Some(format) => metadata.name = format,
                        None => wrong(format!("no format {rest:?}")),
                    },
                    ("generateName", "any") => metadata.any_prefix = true,
                    ("finalizers", "any") => metadata.any_finalizers = true,
                    ("update", looks) => {
                        let count = |what: &str| looks.split(' ').filter(|word| *word == what).count();
                        metadata.update = Looks { at_change: count("change"), at_object: count("object") };
                    }
                    _ => wrong(format!("no rule {words:?}")),
                }
                continue;
            }
            if head == "*" && rest.trim() == "byHand" {
                let names = schema.flat_fields(id).into_iter().map(|f| f.name.clone());
                let at = self.slot(id);
                self.types[at].by_hand.extend(names.chain([String::new()]));
                continue;
            }
            let Some(field) = schema.field(id, head) else {
                wrong(format!("no field {head}"));
                continue;
            };
            let (rest, by_hand) = match rest.trim().strip_suffix("byHand") {
                Some(rest) => (rest, true),
                None => (rest, false),
            };
            match rules(rest, schema, id, field) {
                Ok(rules) => {
                    let zero = zero(field);
                    let at = self.slot(id);
                    if by_hand {
                        self.types[at].by_hand.push(head.to_owned());
                    }
                    if !rules.is_empty() {
                        self.types[at].fields.push(FieldRules { name: head.to_owned(), zero, rules });
                    }
                }
                Err(what) => wrong(what),
            }
        }
        bad
    }

    /// Finds the ways that lead to types with rules, so that a walk visits nothing else.
    fn connect(&mut self, schema: &Schema) {
        let mut known = self.by_id.len() + 1;
        while known != self.by_id.len() {
            known = self.by_id.len();
            for (id, s) in schema.structs() {
                let leads = s.fields.iter().any(|f| target(&f.ty).is_some_and(|(t, _)| self.by_id.contains_key(&t)));
                if leads {
                    self.slot(id);
                }
            }
        }
        for (id, _) in schema.structs() {
            let Some(&at) = self.by_id.get(&id) else { continue };
            let ways = schema.flat_fields(id).into_iter().filter_map(|field| {
                let (inner, shape) = target(&field.ty)?;
                let shape = if shape == Shape::One && !field.ptr { Shape::Always } else { shape };
                Some((field.name.clone(), shape, *self.by_id.get(&inner)?))
            });
            let by_hand = std::mem::take(&mut self.types[at].by_hand);
            let open = |name: &str| !matches!(name, "status" | "metadata") && !by_hand.iter().any(|b| b == name);
            self.types[at].ways = ways.filter(|(name, ..)| open(name)).collect();
            // An embedded struct's rules hold for what embeds it.
            let inlined: Vec<usize> = schema[id]
                .fields
                .iter()
                .filter(|f| f.inline && open(""))
                .filter_map(|f| self.by_id.get(&target(&f.ty)?.0).copied())
                .collect();
            for slot in inlined {
                self.types[at].ways.push((String::new(), Shape::One, slot));
            }
        }
    }
}

fn target(ty: &Type) -> Option<(StructId, Shape)> {
    match ty {
        Type::Struct(id) => Some((*id, Shape::One)),
        Type::List(inner) => target(inner).map(|(id, _)| (id, Shape::List)),
        Type::Map(inner) => target(inner).map(|(id, _)| (id, Shape::Map)),
        _ => None,
    }
}

fn zero(field: &Field) -> Value {
    match field.ty {
        _ if field.ptr => Value::Null,
        Type::String | Type::Bytes => "".into(),
        Type::Int32 | Type::Int64 | Type::IntOrString => 0.into(),
        Type::Bool => false.into(),
        Type::Quantity => "0".into(),
        _ => Value::Null,
    }
}

/// Splits `a b(c d, e) f("x y")` at top-level separators.
fn split(text: &str, at: fn(char) -> bool) -> Vec<&str> {
    let (mut depth, mut quoted, mut start) = (0_usize, false, 0);
    let mut out = Vec::new();
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 && at(c) => {
                out.push(&text[start..i]);
                start = i + c.len_utf8();
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out.into_iter().map(str::trim).filter(|w| !w.is_empty()).collect()
}

fn rules(text: &str, schema: &Schema, owner: StructId, field: &Field) -> Result<Vec<Rule>, String> {
    split(text, |c| c == ' ').into_iter().map(|word| rule(word, schema, owner, field)).collect()
}

fn rule(word: &str, schema: &Schema, owner: StructId, field: &Field) -> Result<Rule, String> {
    if let Some(word) = word.strip_suffix('!') {
        return Ok(Rule::Always(Box::new(rule(word, schema, owner, field)?)));
    }
    let (name, inner) = match word.split_once('(') {
        Some((name, inner)) => (name, inner.strip_suffix(')').ok_or_else(|| format!("no ) in {word:?}"))?),
        None => (word, ""),
    };
    let words = || split(inner, |c| c == ',').into_iter().map(|w| w.trim_matches('"').to_owned()).collect::<Vec<_>>();
    let text = || inner.trim_matches('"').to_owned();
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| format!("no number in {word:?}"));
    let count = || inner.trim().parse::<usize>().map_err(|_| format!("no number in {word:?}"));
    Ok(match name {
        "required" => Rule::Required(text()),
        "notEmpty" => Rule::NotEmpty(text()),
        "enum" | "oneOf" => {
            let mut values = words();
            if values.is_empty() {
                let enumeration = field.enumeration.as_deref();
                let known = enumeration.and_then(|e| schema.enumeration(&schema[owner].package, e));
                values = known.ok_or_else(|| format!("{} has no enumeration", field.name))?.values.clone();
                values.sort_unstable();
            }
            if name == "enum" { Rule::Enum(values) } else { Rule::OneOf(values) }
        }
        "min" => Rule::Min(number(inner)?),
        "nonNegative" => Rule::Min(0),
        "positive" => Rule::Positive("must be greater than 0"),
        "aboveZero" => Rule::Positive("must be greater than zero"),
        "id" => Rule::Range(0, i32::MAX.into()),
        "mode" => Rule::Mode,
        "portOrName" => Rule::PortOrName,
        "port" => Rule::Range(1, 65_535),
        "range" => {
            let (from, to) = inner.split_once(',').ok_or_else(|| format!("no range in {word:?}"))?;
            Rule::Range(number(from)?, number(to)?)
        }
        "maxBytes" => Rule::MaxBytes(count()?),
        "maxItems" => Rule::MaxItems(count()?),
        "immutable" => Rule::Immutable,
        "unique" => Rule::Unique(words()),
        "each" => Rule::Each(rules(inner, schema, owner, field)?),
        "keys" => Rule::Keys(formats::named(inner).ok_or_else(|| format!("no format {inner:?}"))?),
        "forbidden" => Rule::Forbidden(text()),
        "labels" => Rule::Labels,
        "annotations" => Rule::Annotations,
        other => Rule::Format(formats::named(other).ok_or_else(|| format!("no rule {other:?}"))?),
    })
}

impl Rule {
    /// Applies the rule; false when the rules after it have nothing to look at.
    pub fn apply(&self, place: &Place<'_>, zero: &Value, errors: &mut Errors) -> bool {
        let before = errors.len();
        match self {
            Rule::Required(detail) => {
                let missing = match place.value {
                    Value::Null => true,
                    Value::String(text) => text.is_empty(),
                    Value::Array(items) => items.is_empty(),
                    _ => false,
                };
                if missing {
                    errors.required(place, detail.as_str());
                }
            }
            Rule::OneOf(_) => self.check(place, if place.is_set() { place.value } else { zero }, errors),
            Rule::Always(rule) => rule.check(place, if place.is_set() { place.value } else { zero }, errors),
            Rule::Immutable if place.subject.old.is_some() && place.is_changed() => {
                let value = if place.is_set() { place.value } else { zero };
                errors.invalid_value(place, value.clone(), "field is immutable");
            }
            Rule::Immutable => {}
            _ if place.is_set() => self.check(place, place.value, errors),
            _ => {}
        }
        errors.len() == before
    }

    fn check(&self, place: &Place<'_>, value: &Value, errors: &mut Errors) {
        let text = value.as_str().unwrap_or_default();
        let number = value.as_int();
        match self {
            Rule::Enum(values) | Rule::OneOf(values) => {
                if !values.iter().any(|v| v == text) {
                    let supported: Vec<&str> = values.iter().map(String::as_str).collect();
                    errors.not_supported(place, value.clone(), &supported);
                }
            }
            Rule::NotEmpty(detail) => {
                if text.is_empty() {
                    errors.required(place, detail.as_str());
                }
            }
            Rule::Min(least) => {
                if number.is_some_and(|n| n < *least) {
                    let why = format!("must be greater than or equal to {least}");
                    errors.invalid_value(place, value.clone(), why);
                }
            }
            Rule::Positive(why) => {
                if number.is_some_and(|n| n <= 0) {
                    errors.invalid_value(place, value.clone(), *why);
                }
            }
            Rule::Mode => {
                if number.is_some_and(|n| !(0..=0o777).contains(&n)) {
                    let why = "must be a number between 0 and 0777 (octal), both inclusive";
                    errors.invalid_value(place, value.clone(), why);
                }
            }
            Rule::Range(from, to) => {
                if number.is_some_and(|n| n < *from || n > *to) {
                    errors.invalid_value(place, value.clone(), format!("must be between {from} and {to}, inclusive"));
                }
            }
            Rule::PortOrName => match number {
                Some(n) if (1..=65_535).contains(&n) => {}
                Some(n) => errors.invalid_value(place, n, "must be between 1 and 65535, inclusive"),
                None => errors.format(place, text, names::port_name(text)),
            },
            Rule::Format(format) => errors.format(place, text, format(text)),
            Rule::MaxBytes(most) => {
                if text.len() > *most {
                    errors.too_long(place, *most);
                }
            }
            Rule::MaxItems(most) => {
                let count = value.as_array().map_or(0, <[Value]>::len);
                if count > *most {
                    errors.too_many(place, count, *most);
                }
            }
            Rule::Unique(keys) => unique(place, keys, errors),
            Rule::Each(rules) => {
                for i in 0..value.as_array().map_or(0, <[Value]>::len) {
                    let item = place.index(i);
                    let _all = rules.iter().all(|rule| rule.apply(&item, &Value::Null, errors));
                }
            }
            Rule::Keys(format) => {
                for key in value.as_object().into_iter().flat_map(trireme_schema::Map::keys) {
                    errors.format(&place.key(key), key, format(key));
                }
            }
            Rule::Forbidden(detail) => errors.forbidden(place, detail.as_str()),
            Rule::Labels => crate::metadata::labels(place, errors),
            Rule::Annotations => crate::metadata::annotations(place, errors),
            Rule::Required(_) | Rule::Always(_) | Rule::Immutable => {}
        }
    }
}

/// Each element is there once; the member that tells, or the element, is named.
fn unique(place: &Place<'_>, keys: &[String], errors: &mut Errors) {
    let items = place.value.as_array().unwrap_or_default();
    for (i, item) in items.iter().enumerate() {
        let item_place = place.index(i);
        match keys {
            [] => {
                if items[..i].contains(item) {
                    errors.duplicate(&item_place, item.clone());
                }
            }
            [key] => {
                let value = item.get(key);
                if value.is_some() && items[..i].iter().any(|other| other.get(key) == value) {
                    errors.duplicate(&item_place.child(key), value.cloned().unwrap_or_default());
                }
            }
            keys => {
                let same = |other: &Value| keys.iter().all(|k| other.get(k) == item.get(k));
                if items[..i].iter().any(same) {
                    let shown: Value = item
                        .as_object()
                        .into_iter()
                        .flat_map(trireme_schema::Map::iter)
                        .filter(|(k, _)| keys.iter().any(|key| key == k.as_str()))
                        .map(|(k, v)| (k.clone(), v.clone()))
                        .collect::<trireme_schema::Map>()
                        .into();
                    errors.duplicate(&item_place, shown);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_can_be_read() {
        let read = |table: &&str| Registry::default().read(table, builtin());
        let told: Vec<String> = crate::TABLES.iter().flat_map(read).map(|bad| bad.to_string()).collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
    }

    #[test]
    fn a_bad_line_is_told() {
        let told = |text: &str| {
            Registry::default().read(text, builtin()).iter().map(ToString::to_string).collect::<Vec<_>>().join(";")
        };
        assert_eq!(told("core.v1.Nope\n"), "rules.txt: line 1: no type core.v1.Nope");
        assert_eq!(told("core.v1.Pod\n  nope required\n"), "rules.txt: line 2: no field nope");
        assert_eq!(told("core.v1.PodSpec\n  nodeName nope\n"), "rules.txt: line 2: no rule \"nope\"");
    }
}
