use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Resource, Response, Selection, Transport, WatchStream};

/// How long a call may take before the client gives up on it; above the server's own limit of 60 s.
const DEADLINE: Duration = Duration::from_secs(70);

/// Makes calls to one API server as one user. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    user_agent: Arc<str>,
}

/// Typed calls about one resource, in one namespace or in all.
pub struct Api<K> {
    client: Client,
    resource: Resource,
    namespace: Option<String>,
    kind: PhantomData<fn() -> K>,
}

/// A list of objects.
#[derive(Debug, Deserialize)]
pub struct List<K> {
    /// Revision and continuation of the list.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects.
    #[serde(default = "Vec::new")]
    pub items: Vec<K>,
}

/// Metadata of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    /// The revision at which the list was true.
    pub resource_version: String,
    /// The token for the next page, empty at the end.
    #[serde(rename = "continue")]
    pub continue_token: String,
}

/// Which objects to list, and how many at a time.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Label selector in its text form.
    pub labels: Option<String>,
    /// Field selector in its text form.
    pub fields: Option<String>,
    /// Page size; 0 lists everything.
    pub limit: u32,
    /// The token of the page before.
    pub continue_token: Option<String>,
    /// `0` accepts what the server's cache holds; `None` asks for the newest state.
    pub resource_version: Option<String>,
}

/// What happens to the objects that a deleted object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Propagation {
    /// The dependents go first.
    Foreground,
    /// The dependents are collected afterwards.
    Background,
    /// The dependents stay.
    Orphan,
}

/// How to delete.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOptions {
    /// Seconds that the object is given to end; 0 removes it at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// What happens to dependents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<Propagation>,
    /// Only this very object, and only in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
}

/// What must hold for a deletion to take place.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// The object's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The object's resource version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Deletes only the object with this uid.
    #[must_use]
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        self.preconditions.get_or_insert_default().uid = Some(uid.into());
        self
    }

    /// Sets the grace period.
    #[must_use]
    pub fn grace(mut self, seconds: i64) -> Self {
        self.grace_period_seconds = Some(seconds);
        self
    }

    /// Sets what happens to dependents.
    #[must_use]
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation_policy = Some(propagation);
        self
    }
}

/// A change to an object, in one of the four languages of the API.
#[derive(Clone, Debug)]
pub enum Patch {
    /// JSON Patch (RFC 6902).
    Json(serde_json::Value),
    /// JSON Merge Patch (RFC 7386).
    Merge(serde_json::Value),
    /// Strategic merge patch.
    Strategic(serde_json::Value),
    /// Server-side apply.
    Apply {
        /// The object as its manager wants it.
        object: serde_json::Value,
        /// The field manager.
        manager: String,
        /// Whether to take over fields that others manage.
        force: bool,
    },
}

// === impl Client ===

impl Client {
    /// A client over a transport; `user_agent` names the component.
    pub fn new(transport: Arc<dyn Transport>, user_agent: &str) -> Self {
        Self { transport, user_agent: user_agent.into() }
    }

    /// Calls about a cluster-scoped resource, or about a namespaced one in all namespaces.
    pub fn all<K: Kind>(&self) -> Api<K> {
        Api { client: self.clone(), resource: K::resource(), namespace: None, kind: PhantomData }
    }

    /// Calls about a namespaced resource in one namespace.
    pub fn namespaced<K: Kind>(&self, namespace: &str) -> Api<K> {
        Api { client: self.clone(), resource: K::resource(), namespace: Some(namespace.to_owned()), kind: PhantomData }
    }

    /// Calls about a resource that is known only at run time; `K` is how its objects are read.
    pub fn dynamic<K>(&self, resource: Resource, namespace: Option<&str>) -> Api<K> {
        Api { client: self.clone(), resource, namespace: namespace.map(str::to_owned), kind: PhantomData }
    }

    /// Watches a selection; see [`Transport::watch`].
    pub fn watch(&self, selection: Selection, since: Option<String>) -> WatchStream {
        self.transport.watch(selection, since)
    }

    /// Makes any call. An answer with an error status is an [`Error::Api`].
    pub async fn request(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Response, Error> {
        self.call(method, path_and_query, "application/json", body).await
    }

    /// Reads a document in the form of a media type.
    pub async fn document(&self, path: &str, accept: &str) -> Result<Response, Error> {
        self.call(Method::GET, path, accept, None).await
    }

    async fn call(
        &self,
        method: Method,
        path_and_query: &str,
        accept: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Response, Error> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path_and_query)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, &*self.user_agent);
        let body = match body {
            Some((content_type, body)) => {
                request = request.header(header::CONTENT_TYPE, content_type);
                body
            }
            None => Bytes::new(),
        };
        let request = request.body(body).map_err(|error| Error::Request(error.to_string()))?;
        let answer = tokio::time::timeout(DEADLINE, self.transport.send(request))
            .await
            .map_err(|_| Error::Deadline(DEADLINE))??;
        if answer.status().is_client_error() || answer.status().is_server_error() {
            return Err(Error::from_answer(answer.status(), answer.body()));
        }
        Ok(answer)
    }
}

// === impl Api ===

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> Api<K> {
    /// The resource that the calls are about.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    fn collection(&self) -> String {
        self.resource.collection(self.namespace.as_deref())
    }

    fn object(&self, name: &str, subresource: Option<&str>) -> String {
        let path = self.resource.object(self.namespace.as_deref(), name);
        match subresource {
            Some(subresource) => format!("{path}/{subresource}"),
            None => path,
        }
    }

    fn decode<T: DeserializeOwned>(&self, what: &str, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body)
            .map_err(|source| Error::Decode { what: format!("{} {what}", self.resource.kind), source })
    }

    /// Encodes an object with the apiVersion and kind of the resource, which partial views may not write themselves.
    fn encode<T: Serialize>(&self, object: &T) -> Result<Bytes, Error> {
        encode(object)
    }

    /// Deletes an object. What the server answers (a `Status`, or the object that is now being deleted) is dropped.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<(), Error> {
        let body = encode(options)?;
        self.client.request(Method::DELETE, &self.object(name, None), Some(("application/json", body))).await.map(drop)
    }

    /// Deletes an object if it is still there.
    pub async fn delete_if_present(&self, name: &str, options: &DeleteOptions) -> Result<(), Error> {
        match self.delete(name, options).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Deletes every object of the selection.
    pub async fn delete_collection(&self, selection: &ListOptions, options: &DeleteOptions) -> Result<(), Error> {
        let path = format!("{}{}", self.collection(), selection.query());
        let body = encode(options)?;
        self.client.request(Method::DELETE, &path, Some(("application/json", body))).await.map(drop)
    }

    /// Posts `body` to a subresource, such as `binding`, `eviction` or `token`, and decodes the answer.
    pub async fn post<B: Serialize, R: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        body: &B,
    ) -> Result<R, Error> {
        let path = self.object(name, Some(subresource));
        let answer = self.client.request(Method::POST, &path, Some(("application/json", encode(body)?))).await?;
        self.decode(name, answer.body())
    }
}

impl<K: DeserializeOwned> Api<K> {
    /// Reads an object.
    pub async fn get(&self, name: &str) -> Result<K, Error> {
        let answer = self.client.request(Method::GET, &self.object(name, None), None).await?;
        self.decode(name, answer.body())
    }

    /// Reads an object that may not be there.
    pub async fn find(&self, name: &str) -> Result<Option<K>, Error> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists objects.
    pub async fn list(&self, options: &ListOptions) -> Result<List<K>, Error> {
        let path = format!("{}{}", self.collection(), options.query());
        let answer = self.client.request(Method::GET, &path, None).await?;
        self.decode("list", answer.body())
    }

    /// Creates an object and gives it back as the server stored it.
    pub async fn create<T: Serialize>(&self, object: &T) -> Result<K, Error> {
        let body = self.encode(object)?;
        let answer = self.client.request(Method::POST, &self.collection(), Some(("application/json", body))).await?;
        self.decode("created", answer.body())
    }

    /// Replaces an object; its resource version must be the current one when it is set.
    pub async fn update<T: Serialize>(&self, name: &str, object: &T) -> Result<K, Error> {
        self.put(name, None, object).await
    }

    /// Replaces an object's status.
    pub async fn update_status<T: Serialize>(&self, name: &str, object: &T) -> Result<K, Error> {
        self.put(name, Some("status"), object).await
    }

    /// Replaces an object through a subresource, such as `status`, `scale`, `finalize` or `approval`.
    pub async fn put<T: Serialize>(&self, name: &str, subresource: Option<&str>, object: &T) -> Result<K, Error> {
        let path = self.object(name, subresource);
        let body = self.encode(object)?;
        let answer = self.client.request(Method::PUT, &path, Some(("application/json", body))).await?;
        self.decode(name, answer.body())
    }

    /// Patches an object, or its subresource.
    pub async fn patch(&self, name: &str, subresource: Option<&str>, patch: &Patch) -> Result<K, Error> {
        let (content_type, document, query) = match patch {
            Patch::Json(document) => ("application/json-patch+json", document, String::new()),
            Patch::Merge(document) => ("application/merge-patch+json", document, String::new()),
            Patch::Strategic(document) => ("application/strategic-merge-patch+json", document, String::new()),
            Patch::Apply { object, manager, force } => {
                ("application/apply-patch+yaml", object, format!("?fieldManager={}&force={force}", escape(manager)))
            }
        };
        let path = format!("{}{query}", self.object(name, subresource));
        let body = encode(document)?;
        let answer = self.client.request(Method::PATCH, &path, Some((content_type, body))).await?;
        self.decode(name, answer.body())
    }
}

impl ListOptions {
    fn query(&self) -> String {
        let mut query = String::new();
        let mut add = |key: &str, value: &str| {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(key);
            query.push('=');
            query.push_str(&escape(value));
        };
        for (key, value) in [
            ("labelSelector", &self.labels),
            ("fieldSelector", &self.fields),
            ("continue", &self.continue_token),
            ("resourceVersion", &self.resource_version),
        ] {
            if let Some(value) = value {
                add(key, value);
            }
        }
        if self.limit > 0 {
            add("limit", &self.limit.to_string());
        }
        query
    }
}

fn encode<T: Serialize + ?Sized>(object: &T) -> Result<Bytes, Error> {
    serde_json::to_vec(object).map(Bytes::from).map_err(|error| Error::Request(error.to_string()))
}

/// Percent-encodes a query value (RFC 3986, everything but unreserved characters).
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => {
                escaped.push('%');
                for digit in [byte >> 4, byte & 15] {
                    escaped.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
                }
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_options_become_an_escaped_query() {
        let options = ListOptions { labels: Some("a in (b,c)".into()), limit: 5, ..ListOptions::default() };
        assert_eq!(options.query(), "?labelSelector=a%20in%20%28b%2Cc%29&limit=5");
        assert_eq!(ListOptions::default().query(), "");
    }
}
