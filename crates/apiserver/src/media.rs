//! Which form an answer takes, and which form a body has.

use trireme_schema::Status;

/// The forms of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// JSON.
    #[default]
    Json,
    /// YAML.
    Yaml,
    /// Protobuf in its envelope.
    Protobuf,
}

/// What an answer shows of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// The whole object.
    #[default]
    Object,
    /// A table of cells.
    Table,
    /// Metadata alone, of one object.
    PartialMetadata,
    /// Metadata alone, of a list.
    PartialMetadataList,
}

/// The answer's form and shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Form.
    pub form: Form,
    /// Shape.
    pub shape: Shape,
    /// Indented JSON.
    pub pretty: bool,
    /// The shape in its `v1beta1` version.
    pub beta: bool,
}

/// The media types that are understood, as error messages list them.
pub const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

impl Wanted {
    /// Reads an Accept header.
    ///
    /// # Errors
    /// 406 when nothing in it can be served: in the router's words, or in those of who would write the answer.
    pub fn negotiate(accept: &str) -> Result<Self, Status> {
        let accept = if accept.trim().is_empty() { "*/*" } else { accept };
        let mut clauses: Vec<Clause<'_>> = accept.split(',').map(Clause::read).collect();
        if !clauses.iter().any(|clause| clause.media == "*/*" || clause.form().is_some()) {
            return Err(Status::not_acceptable(SUPPORTED));
        }
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality).then_with(|| a.wild().cmp(&b.wild())));
        let refused = || {
            let message = format!("only the following media types are accepted: {SUPPORTED}");
            Status::failure(406, "NotAcceptable", message)
        };
        clauses.iter().find_map(Clause::wanted).ok_or_else(refused)
    }

    /// The version of tables and partial metadata.
    pub fn meta_version(self) -> &'static str {
        if self.beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
    }

    /// The Content-Type of an answer.
    pub fn content_type(self) -> &'static str {
        match self.form {
            Form::Json => "application/json",
            Form::Yaml => "application/yaml",
            Form::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// One clause of an Accept header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn read(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts.map(|p| p.split_once('=').unwrap_or((p, ""))).collect();
        let quality = parameters.iter().find(|(name, _)| *name == "q").map_or(1.0, |(_, q)| q.parse().unwrap_or(1.0));
        Self { media, parameters, quality }
    }

    /// Those that name a type come before those that take any.
    fn wild(&self) -> u8 {
        u8::from(self.media.starts_with('*')) * 2 + u8::from(self.media.ends_with('*'))
    }

    fn form(&self) -> Option<Form> {
        match self.media {
            "application/json" => Some(Form::Json),
            "application/yaml" => Some(Form::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Form::Protobuf),
            _ => None,
        }
    }

    fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().rev().find(|(have, _)| *have == name).map_or("", |(_, value)| value)
    }

    /// What the clause asks for; `None` when that cannot be served.
    fn wanted(&self) -> Option<Wanted> {
        let form = match self.media {
            "*/*" | "application/*" => Form::Json,
            _ => self.form()?,
        };
        let mut wanted = Wanted { form, pretty: self.parameter("pretty") == "1", ..Wanted::default() };
        let transforms = ["as", "g", "v"].iter().any(|name| self.parameters.iter().any(|(have, _)| have == name));
        if transforms {
            let version = (self.parameter("g"), self.parameter("v"));
            wanted.beta = match version {
                ("meta.k8s.io", "v1") => false,
                ("meta.k8s.io", "v1beta1") => true,
                _ => return None,
            };
            wanted.shape = match self.parameter("as") {
                // Tables have no protobuf form.
                "Table" if form != Form::Protobuf => Shape::Table,
                "PartialObjectMetadata" => Shape::PartialMetadata,
                "PartialObjectMetadataList" => Shape::PartialMetadataList,
                _ => return None,
            };
        }
        Some(wanted)
    }
}

/// The form of a body, from its Content-Type; JSON when there is none.
///
/// # Errors
/// 415 for what is not understood.
pub fn body_form(content_type: &str) -> Result<Form, Status> {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" => Ok(Form::Json),
        "application/yaml" => Ok(Form::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Form::Protobuf),
        _ => Err(Status::unsupported_media_type(SUPPORTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_gets_its_table() {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(Wanted::negotiate(accept).unwrap().shape, Shape::Table);
        assert_eq!(Wanted::negotiate("application/vnd.kubernetes.protobuf, */*").unwrap().form, Form::Protobuf);
        assert_eq!(Wanted::negotiate("application/json;q=0.5,application/yaml").unwrap().form, Form::Yaml);
        for (accept, why) in [
            ("text/html", "406: Not Acceptable"),
            ("application/*", "406: Not Acceptable"),
            ("application/json;as=Table;g=meta.k8s.io;v=v9", "only the following media types"),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", "only the following media types"),
        ] {
            let status = Wanted::negotiate(accept).unwrap_err();
            assert_eq!((status.code, status.message.starts_with(why)), (406, true), "{accept}");
        }
        let beta = Wanted::negotiate("application/json;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io").unwrap();
        assert_eq!(beta.meta_version(), "meta.k8s.io/v1beta1");
    }
}
