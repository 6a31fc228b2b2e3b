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
    /// Metadata alone.
    PartialMetadata,
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
}

/// The media types that are understood, as error messages list them.
pub const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

impl Wanted {
    /// Reads an Accept header; `None` stands for none that can be served.
    pub fn negotiate(accept: &str) -> Option<Self> {
        let mut clauses: Vec<(f32, Self)> = Vec::new();
        let accept = if accept.trim().is_empty() { "*/*" } else { accept };
        for clause in accept.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            let form = match parts.next().unwrap_or_default() {
                "application/json" | "*/*" | "application/*" => Form::Json,
                "application/yaml" => Form::Yaml,
                "application/vnd.kubernetes.protobuf" => Form::Protobuf,
                _ => continue,
            };
            let (mut wanted, mut quality, mut known) = (Self { form, ..Self::default() }, 1.0, true);
            let (mut kind, mut group, mut version) = ("", "", "");
            for parameter in parts {
                match parameter.split_once('=').unwrap_or((parameter, "")) {
                    ("as", v) => kind = v,
                    ("g", v) => group = v,
                    ("v", v) => version = v,
                    ("q", v) => quality = v.parse().unwrap_or(0.0),
                    ("pretty", v) => wanted.pretty = v == "1",
                    ("stream", _) | ("charset", _) => {}
                    _ => {}
                }
            }
            if !kind.is_empty() {
                wanted.shape = match (kind, group, version) {
                    ("Table", "meta.k8s.io", "v1") => Shape::Table,
                    ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                        Shape::PartialMetadata
                    }
                    _ => {
                        known = false;
                        Shape::Object
                    }
                };
            }
            if known && quality > 0.0 {
                clauses.push((quality, wanted));
            }
        }
        let best = clauses.iter().map(|(q, _)| *q).fold(0.0, f32::max);
        clauses.into_iter().find(|(q, _)| *q == best).map(|(_, wanted)| wanted)
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
        assert_eq!(Wanted::negotiate("text/html"), None);
    }
}
