//! Calls to the API server whose objects are read as trees.

use bytes::Bytes;
use http::Method;
use trireme_client::{Client, Error};
use trireme_schema::{Value, json};

/// Reads an object.
pub(crate) async fn get(client: &Client, path: &str) -> Result<Value, Error> {
    let answer = client.request(Method::GET, path, None).await?;
    Ok(json::parse(answer.body()).unwrap_or_default())
}

/// Sends a body, and reads the object that answers.
pub(crate) async fn send(
    client: &Client,
    method: Method,
    path: &str,
    content_type: &'static str,
    body: &Value,
) -> Result<Value, Error> {
    let bytes = Bytes::from(json::to_vec(body));
    let answer = client.request(method, path, Some((content_type, bytes))).await?;
    Ok(json::parse(answer.body()).unwrap_or_default())
}

/// A strategic merge patch.
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// A merge patch.
pub(crate) const MERGE: &str = "application/merge-patch+json";
/// An object.
pub(crate) const JSON: &str = "application/json";
