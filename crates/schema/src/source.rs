//! Reads the API from its text form, `api/*.api`.
//!
//! One file a package, one line a thing; indented lines belong to the line above them:
//!
//! ```text
//! package apps.v1
//! group apps/v1                                  # the group and version that it registers
//! kinds Deployment DeploymentList                # Kind, or Kind=other.package.Type
//! resource deployments Deployment deployment namespaced verbs=create,get short=deploy categories=all fields=a.b served
//!   subresource scale autoscaling/v1.Scale verbs=get,patch,update
//!   column "Name" string format=name wide about meta.v1.ObjectMeta.name   # described as a field is, or by a JSON text
//! enum DeploymentConditionType open ["Available"]
//! type Deployment struct=atomic
//!   spec DeploymentSpec 2 ptr omit               # name, type, protobuf number or -, flags
//! ```
//!
//! Types are scalars, `[T]`, `{T}` (a map from text), `Local` and `other.package.Name`. Flags: `ptr`, `omit`
//! (omitempty), `empty`, `omitzero`, `req`, `inline`, `fixed`, `wrap`, `elemwrap`, `list=map:key,key|set|atomic`,
//! `map=atomic`, `struct=atomic|granular`, `patch=merge,retainKeys:key`, `enum=Name`, `named=GoName`, `default=json`.

use crate::model::{
    About, Column, Enumeration, Field, GroupVersion, ListKind, PatchStrategy, Resource, Schema, Struct, StructId,
    Subresource, Type,
};
use crate::{json, value::Value};
use std::collections::HashMap;

/// A line that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{package}: line {line}: {what}")]
pub struct BadSource {
    package: String,
    line: usize,
    what: String,
}

/// Reads packages that may refer to each other.
///
/// # Errors
/// When a line is malformed or names an unknown type.
pub fn read(files: &[&str]) -> Result<Schema, BadSource> {
    let mut schema = Schema::default();
    for text in files {
        declare(text, &mut schema);
    }
    for text in files {
        Reader { schema: &mut schema, package: String::new(), gv: None, current: None, line: 0 }.read(text)?;
    }
    index(&mut schema);
    Ok(schema)
}

/// Gives every struct its id, so that types can refer to what comes later.
fn declare(text: &str, schema: &mut Schema) {
    let mut package = "";
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("package") => package = words.next().unwrap_or_default(),
            Some("type") if !line.starts_with(' ') => {
                let name = words.next().unwrap_or_default();
                let id = StructId(schema.structs.len() as u32);
                schema.names.insert(format!("{package}.{name}"), id);
                schema.structs.push(Struct {
                    package: package.to_owned(),
                    name: name.to_owned(),
                    atomic: line.ends_with("struct=atomic"),
                    fields: Vec::new(),
                    by_tag: Vec::new(),
                    by_name: HashMap::new(),
                });
            }
            _ => {}
        }
    }
}

fn index(schema: &mut Schema) {
    for i in 0..schema.structs.len() {
        let mut paths = HashMap::new();
        name_paths(schema, StructId(i as u32), &mut Vec::new(), &mut paths);
        let s = &mut schema.structs[i];
        s.by_name = paths;
        let mut tagged: Vec<usize> = (0..s.fields.len()).filter(|&f| s.fields[f].tag.is_some()).collect();
        tagged.sort_by_key(|&f| s.fields[f].tag);
        s.by_tag = tagged;
    }
}

fn name_paths(schema: &Schema, id: StructId, way: &mut Vec<usize>, out: &mut HashMap<String, Vec<usize>>) {
    for (i, field) in schema[id].fields.iter().enumerate() {
        way.push(i);
        match (&field.ty, field.inline) {
            (Type::Struct(inner), true) if way.len() < 8 => name_paths(schema, *inner, way, out),
            _ => {
                out.entry(field.name.clone()).or_insert_with(|| way.clone());
            }
        }
        way.pop();
    }
}

struct Reader<'a> {
    schema: &'a mut Schema,
    package: String,
    gv: Option<GroupVersion>,
    current: Option<StructId>,
    line: usize,
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

impl Reader<'_> {
    fn bad(&self, what: impl Into<String>) -> BadSource {
        BadSource { package: self.package.clone(), line: self.line, what: what.into() }
    }

    fn read(&mut self, text: &str) -> Result<(), BadSource> {
        for (number, line) in text.lines().enumerate() {
            self.line = number + 1;
            let (head, rest) = line.trim_start().split_once(' ').unwrap_or((line.trim_start(), ""));
            match (line.starts_with(' '), head) {
                (false, "") => {}
                (false, "package") => self.package = rest.to_owned(),
                (false, "group") => self.gv = Some(GroupVersion::parse(rest)),
                (false, "kinds") => self.kinds(rest)?,
                (false, "resource") => self.resource(rest)?,
                (false, "enum") => self.enumeration(rest)?,
                (false, "type") => {
                    let name = rest.split(' ').next().unwrap_or_default();
                    self.current = self.schema.type_named(&format!("{}.{name}", self.package));
                }
                (true, "subresource") if self.current.is_none() => self.subresource(rest)?,
                (true, "column") if self.current.is_none() => self.column(rest)?,
                (true, _) => self.field(line.trim_start())?,
                _ => return Err(self.bad(format!("unknown line {head:?}"))),
            }
        }
        Ok(())
    }

    fn group_version(&self) -> Result<GroupVersion, BadSource> {
        self.gv.clone().ok_or_else(|| self.bad("no group line above"))
    }

    fn kinds(&mut self, rest: &str) -> Result<(), BadSource> {
        let gv = self.group_version()?;
        for word in rest.split(' ') {
            let (kind, name) = match word.split_once('=') {
                Some((kind, name)) => (kind, name.to_owned()),
                None => (word, format!("{}.{word}", self.package)),
            };
            let id = self.schema.type_named(&name).ok_or_else(|| self.bad(format!("no type {name}")))?;
            self.schema.kinds.entry(gv.clone()).or_default().insert(kind.to_owned(), id);
        }
        Ok(())
    }

    fn resource(&mut self, rest: &str) -> Result<(), BadSource> {
        let words: Vec<&str> = rest.split(' ').collect();
        let [plural, kind, singular, scope, options @ ..] = &words[..] else {
            return Err(self.bad("resource needs plural, kind, singular and scope"));
        };
        let mut resource = Resource {
            gv: self.group_version()?,
            plural: (*plural).to_owned(),
            kind: (*kind).to_owned(),
            singular: (*singular).to_owned(),
            namespaced: *scope == "namespaced",
            verbs: Vec::new(),
            short_names: Vec::new(),
            categories: Vec::new(),
            field_selectors: Vec::new(),
            served: false,
            subresources: Vec::new(),
            columns: Vec::new(),
        };
        for option in options {
            match option.split_once('=') {
                Some(("verbs", v)) => resource.verbs = list(v),
                Some(("short", v)) => resource.short_names = list(v),
                Some(("categories", v)) => resource.categories = list(v),
                Some(("fields", v)) => resource.field_selectors = list(v),
                None if *option == "served" => resource.served = true,
                _ => return Err(self.bad(format!("unknown option {option:?}"))),
            }
        }
        self.schema.resources.push(resource);
        Ok(())
    }

    fn subresource(&mut self, rest: &str) -> Result<(), BadSource> {
        let words: Vec<&str> = rest.split(' ').collect();
        let [name, kind, verbs] = words[..] else { return Err(self.bad("subresource needs name, kind and verbs")) };
        let (gv, kind) = match kind.rsplit_once('.') {
            Some((gv, kind)) => (Some(GroupVersion::parse(gv)), kind),
            None => (None, kind),
        };
        let subresource = Subresource {
            name: name.to_owned(),
            kind: kind.to_owned(),
            gv,
            verbs: list(verbs.strip_prefix("verbs=").unwrap_or_default()),
        };
        match self.schema.resources.last_mut() {
            Some(resource) => resource.subresources.push(subresource),
            None => return Err(self.bad("no resource above")),
        }
        Ok(())
    }

    fn column(&mut self, rest: &str) -> Result<(), BadSource> {
        let Some((name, rest)) = rest.strip_prefix('"').and_then(|r| r.split_once("\" ")) else {
            return Err(self.bad("a column needs a quoted name and a type"));
        };
        let (rest, about) = match rest.split_once(" about ") {
            Some((rest, text)) if text.starts_with('"') => {
                let text = json::parse(text.as_bytes()).map_err(|e| self.bad(e.to_string()))?;
                (rest, About::Text(text.as_str().unwrap_or_default().to_owned()))
            }
            Some((rest, field)) => {
                let Some((owner, field)) = field.rsplit_once('.') else { return Err(self.bad("no type or field")) };
                let Some(id) = self.schema.type_named(owner) else {
                    return Err(self.bad(format!("unknown type {owner}")));
                };
                (rest, About::Field(id, field.to_owned()))
            }
            None => (rest, About::Text(String::new())),
        };
        let name = name.to_owned();
        let mut column = Column { name, kind: String::new(), format: String::new(), wide: false, about };
        for (i, word) in rest.split(' ').enumerate() {
            match word.strip_prefix("format=") {
                Some(format) => column.format = format.to_owned(),
                None if word == "wide" => column.wide = true,
                None if i == 0 => column.kind = word.to_owned(),
                None => return Err(self.bad(format!("unknown column flag {word:?}"))),
            }
        }
        match self.schema.resources.last_mut() {
            Some(resource) => resource.columns.push(column),
            None => return Err(self.bad("no resource above")),
        }
        Ok(())
    }

    fn enumeration(&mut self, rest: &str) -> Result<(), BadSource> {
        let words: Vec<&str> = rest.splitn(3, ' ').collect();
        let [name, state, values] = words[..] else { return Err(self.bad("enum needs name, state and values")) };
        let values = json::parse(values.as_bytes()).map_err(|e| self.bad(e.to_string()))?;
        let values =
            values.as_array().unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let enumeration = Enumeration { package: self.package.clone(), closed: state == "closed", values };
        self.schema.enumerations.insert(format!("{}.{name}", self.package), enumeration);
        Ok(())
    }

    fn type_of(&self, text: &str) -> Result<Type, BadSource> {
        let inner = |open, close| text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
        if let Some(element) = inner('[', ']') {
            return Ok(Type::List(Box::new(self.type_of(element)?)));
        }
        if let Some(value) = inner('{', '}') {
            return Ok(Type::Map(Box::new(self.type_of(value)?)));
        }
        Ok(match text {
            "string" => Type::String,
            "bool" => Type::Bool,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "quantity" => Type::Quantity,
            "time" => Type::Time,
            "microTime" => Type::MicroTime,
            "duration" => Type::Duration,
            "intOrString" => Type::IntOrString,
            "rawExtension" => Type::RawExtension,
            "fieldsV1" => Type::FieldsV1,
            "json" => Type::Json,
            "any" => Type::Any,
            "jsonSchemaPropsOrBool" => Type::SchemaOrBool,
            "jsonSchemaPropsOrArray" => Type::SchemaOrArray,
            "jsonSchemaPropsOrStringArray" => Type::SchemaOrStrings,
            _ => {
                let id = self.schema.type_named(&format!("{}.{text}", self.package));
                let id = id.or_else(|| self.schema.type_named(text));
                Type::Struct(id.ok_or_else(|| self.bad(format!("no type {text}")))?)
            }
        })
    }

    fn field(&mut self, text: &str) -> Result<(), BadSource> {
        let Some(id) = self.current else { return Err(self.bad("no type above")) };
        let mut words = text.splitn(4, ' ');
        let (Some(name), Some(ty), Some(tag)) = (words.next(), words.next(), words.next()) else {
            return Err(self.bad("a field needs name, type and number"));
        };
        let mut field = Field {
            name: if name == "-" { String::new() } else { name.to_owned() },
            ty: self.type_of(ty)?,
            tag: tag.parse().ok(),
            ptr: false,
            omit: false,
            omit_zero: false,
            keeps_empty: false,
            required: false,
            inline: false,
            list: ListKind::Atomic,
            list_declared: false,
            atomic: None,
            patch: PatchStrategy::default(),
            enumeration: None,
            named: None,
            wrap: false,
            elem_wrap: false,
            default: None,
        };
        let mut flags = words.next().unwrap_or_default();
        while !flags.is_empty() {
            // A default is JSON, may hold spaces, and stands last.
            let (flag, rest) = match flags.starts_with("default=") {
                true => (flags, ""),
                false => flags.split_once(' ').unwrap_or((flags, "")),
            };
            flags = rest;
            field.list_declared |= flag.starts_with("list=");
            match flag.split_once('=').unwrap_or((flag, "")) {
                ("ptr", _) => field.ptr = true,
                ("omit", _) => field.omit = true,
                ("empty", _) => field.keeps_empty = true,
                ("omitzero", _) => field.omit_zero = true,
                ("req", _) => field.required = true,
                ("inline", _) => field.inline = true,
                ("fixed" | "go" | "pname", _) => {}
                ("wrap", _) => field.wrap = true,
                ("elemwrap", _) => field.elem_wrap = true,
                ("list", "set") => field.list = ListKind::Set,
                ("list", "atomic") => field.list = ListKind::Atomic,
                ("list", keys) => field.list = ListKind::Map(list(keys.strip_prefix("map:").unwrap_or_default())),
                ("map" | "struct", kind) => field.atomic = Some(kind == "atomic"),
                ("patch", value) => {
                    let (strategies, key) = value.split_once(':').unwrap_or((value, ""));
                    field.patch = PatchStrategy {
                        merge: strategies.split(',').any(|s| s == "merge"),
                        retain_keys: strategies.split(',').any(|s| s == "retainKeys"),
                        key: (!key.is_empty()).then(|| key.to_owned()),
                    };
                }
                ("enum", name) => field.enumeration = Some(name.to_owned()),
                ("named", name) => field.named = Some(name.to_owned()),
                ("default", value) => {
                    field.default = Some(json::parse(value.as_bytes()).map_err(|e| self.bad(e.to_string()))?);
                }
                _ => return Err(self.bad(format!("unknown flag {flag:?}"))),
            }
        }
        self.schema.structs[id.0 as usize].fields.push(field);
        Ok(())
    }
}
