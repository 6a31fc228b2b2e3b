//! What is sent back.

use crate::media::{Form, Wanted};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};
use trireme_schema::{GroupVersion, Status, builtin, decode, json, proto, yaml};

/// A body: whole or streamed. What comes from elsewhere may break off, and who reads it is to see that.
pub type Body = BoxBody<Bytes, Broken>;

/// An answer broke off.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub struct Broken(pub String);

/// A body that is there already.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body that comes in pieces.
pub fn streamed(pieces: BoxStream<'static, Bytes>) -> Body {
    breakable(pieces.map(Ok).boxed())
}

/// A body that comes in pieces, and may break off.
pub fn breakable(pieces: BoxStream<'static, Result<Bytes, Broken>>) -> Body {
    BodyExt::boxed(StreamBody::new(pieces.map(|piece| piece.map(Frame::data)).boxed().into_sync()))
}

/// A body that comes from another server, piece by piece as it comes. Its trailers are left out.
pub fn passed_on(body: hyper::body::Incoming) -> Body {
    let pieces = futures::stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        loop {
            match body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some((Ok(data), Some(body)));
                    }
                }
                Err(error) => return Some((Err(Broken(error.to_string())), None)),
            }
        }
    });
    breakable(pieces.boxed())
}

/// A body that keeps something until it has been sent, or nobody wants it any more.
pub fn keeping<T: Send + Sync + Unpin + 'static>(body: Body, kept: T) -> Body {
    BodyExt::boxed(Keeping { body, _kept: kept })
}

struct Keeping<T> {
    body: Body,
    _kept: T,
}

impl<T: Unpin> hyper::body::Body for Keeping<T> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// Makes a stream shareable for bodies that must be `Sync`.
trait IntoSync: Sized {
    fn into_sync(self) -> SyncStream<Self>;
}

impl<S> IntoSync for S {
    fn into_sync(self) -> SyncStream<S> {
        SyncStream(std::sync::Mutex::new(self))
    }
}

/// A stream behind a lock that is never contended: only the body polls it.
struct SyncStream<S>(std::sync::Mutex<S>);

impl<S: futures::Stream + Unpin> futures::Stream for SyncStream<S> {
    type Item = S::Item;
    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        match self.get_mut().0.get_mut() {
            Ok(inner) => inner.poll_next_unpin(cx),
            Err(poisoned) => poisoned.into_inner().poll_next_unpin(cx),
        }
    }
}

/// An answer with a body of a type.
pub fn typed(status: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Plain text.
pub fn text(status: u16, text: impl Into<String>) -> Response<Body> {
    let mut response = typed(status, "text/plain; charset=utf-8", whole(text.into()));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// An object given as JSON text, in the form that is wanted.
pub fn object(status: u16, wanted: Wanted, bytes: Bytes) -> Response<Body> {
    let body = match wanted.form {
        Form::Json if wanted.pretty => whole(pretty(&bytes)),
        Form::Json => whole(bytes),
        Form::Yaml => {
            let mut text = String::new();
            yaml::write(&json::parse(&bytes).unwrap_or_default(), &mut text);
            whole(text)
        }
        Form::Protobuf => match to_protobuf(&bytes) {
            Some(message) => whole(message),
            // Tables and their like have no protobuf form.
            None => return typed(status, "application/json", whole(bytes)),
        },
    };
    typed(status, wanted.content_type(), body)
}

/// JSON indented by two spaces.
pub fn pretty(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    for (i, &b) in bytes.iter().enumerate() {
        if quoted {
            out.push(b);
            quoted = escaped || b != b'"';
            escaped = b == b'\\' && !escaped;
            continue;
        }
        match b {
            b'{' | b'[' => {
                out.push(b);
                depth += 1;
                if !matches!(bytes.get(i + 1), Some(b'}' | b']')) {
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !matches!(i.checked_sub(1).and_then(|i| bytes.get(i)), Some(b'{' | b'[')) {
                    line(&mut out, depth);
                }
                out.push(b);
            }
            b',' => {
                out.push(b);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b'"' => {
                quoted = true;
                out.push(b);
            }
            other => out.push(other),
        }
    }
    out
}

/// An object's JSON text as protobuf; `None` when its type has no such form.
pub fn to_protobuf(bytes: &[u8]) -> Option<Vec<u8>> {
    let schema = builtin();
    let tree = json::parse(bytes).ok()?;
    let gv = GroupVersion::parse(tree.str_at(&["apiVersion"]));
    let kind = tree.str_at(&["kind"]);
    if gv.group == "meta.k8s.io" && kind == "Table" {
        return None;
    }
    let id = match gv.group.as_str() {
        "meta.k8s.io" => schema.type_named(&format!("meta.{}.{kind}", gv.version)),
        _ => schema.kind(&gv, kind).or_else(|| schema.type_named(&format!("meta.v1.{kind}"))),
    }?;
    let value = decode::decode(schema, id, tree).ok()?.value;
    Some(proto::encode(schema, id, &value))
}

/// An error.
pub fn failure(status: &Status, wanted: Wanted) -> Response<Body> {
    let schema = builtin();
    let value = status.to_value();
    let bytes = match schema.type_named("meta.v1.Status") {
        Some(id) => trireme_schema::encode::to_vec(schema, id, &value),
        None => json::to_vec(&value),
    };
    let mut response = object(status.code, wanted, bytes.into());
    if let Some(seconds) = status.details.as_ref().map(|d| d.retry_after_seconds).filter(|&s| s > 0)
        && let Ok(value) = HeaderValue::from_str(&seconds.to_string())
    {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}
