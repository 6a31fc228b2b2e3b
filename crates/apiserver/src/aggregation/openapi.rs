//! What the server of an APIService tells of the shape of its objects: its v2 document becomes a part of ours, its v3
//! documents are passed on (upstream's OpenAPI aggregation controllers).

mod convert;
mod merge;

pub(super) use merge::merge;

use super::remote::Remote;
use super::service;
use crate::discovery::Packed;
use crate::server::{ApiServer, header_text};
use crate::user::User;
use http::header;
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use trireme_client::Backoff;
use trireme_schema::{Value, json};

/// Documents of a server's group and version.
#[derive(Default)]
pub(crate) struct Specs {
    /// The v2 document, as far as it is about the group and version.
    pub v2: Option<Arc<Packed>>,
    /// The tag of the whole.
    tag: String,
    /// Where its v3 document is.
    pub v3: Option<V3>,
}

/// Where a v3 document is.
#[derive(Clone)]
pub(crate) enum V3 {
    /// At the server, under this URL, which changes with the document.
    There(String),
    /// Here, made of the v2 document, for a server that has none.
    Made(Arc<Packed>),
}

/// A server answers within this.
const WITHIN: Duration = Duration::from_secs(60);
/// Servers that have just come are let rest.
const FIRST: Duration = Duration::from_secs(1);
/// A server is asked again after this: it tells nobody when it changes.
const REFRESH: Duration = Duration::from_secs(60);
/// How soon one that failed is asked again, at first and at last.
const AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// Keeps a server's documents fresh, until its APIService is gone.
pub(super) async fn keep(server: Weak<ApiServer>, remote: Arc<Remote>, stopping: tokio_util::sync::CancellationToken) {
    let (mut back_off, mut wait) = (Backoff::new(AGAIN.0, AGAIN.1), FIRST);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = remote.ended.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = remote.refresh[1].notified() => back_off.reset(),
        }
        let Some(server) = server.upgrade() else { return };
        let old = remote.specs.load_full();
        wait = match fetch(&server, &remote, &old).await {
            Ok(new) => {
                back_off.reset();
                let changed = old.v2.as_ref().map(|v2| v2.hash()) != new.v2.as_ref().map(|v2| v2.hash());
                remote.specs.store(Arc::new(new));
                if changed {
                    server.documents.forget(&BTreeSet::new());
                }
                REFRESH
            }
            Err(why) => {
                tracing::debug!(name = remote.name(), why, "the documents of a server are not known");
                back_off.step()
            }
        };
    }
}

async fn fetch(server: &ApiServer, remote: &Remote, old: &Specs) -> Result<Specs, String> {
    let user = User { name: "system:aggregator".into(), ..User::default() };
    let accept = (header::ACCEPT, "application/json");
    let mut specs = Specs::default();

    let index = remote.ask(server, &user, "/openapi/v3", std::slice::from_ref(&accept), WITHIN).await?;
    let converts = match index.status().as_u16() {
        200 => {
            let index = json::parse(index.body()).map_err(|e| e.to_string())?;
            let key = v3_key(&remote.gv.group, &remote.gv.version);
            let url = index.at(&["paths", key.as_str(), "serverRelativeURL"]).and_then(Value::as_str);
            specs.v3 = url.map(|url| V3::There(url.to_owned()));
            false
        }
        404 => true,
        code => return Err(format!("/openapi/v3: answered {code}")),
    };

    let mut headers = vec![accept];
    if !old.tag.is_empty() && old.v2.is_some() {
        headers.push((header::IF_NONE_MATCH, &old.tag));
    }
    let answer = remote.ask(server, &user, "/openapi/v2", &headers, WITHIN).await?;
    match answer.status().as_u16() {
        304 => (specs.v2, specs.tag) = (old.v2.clone(), old.tag.clone()),
        200 => {
            let document = json::parse(answer.body()).map_err(|e| e.to_string())?;
            let part = merge::filter(document, &format!("{}/", remote.path()));
            specs.v2 = Some(Arc::new(Packed::new(&json::to_vec(&part))));
            specs.tag = header_text(answer.headers(), header::ETAG);
        }
        // A server may have none.
        404 => {}
        code => return Err(format!("/openapi/v2: answered {code}")),
    }
    if converts {
        specs.v3 = match (&specs.v2, &old.v2, &old.v3) {
            (Some(new), Some(old), Some(made @ V3::Made(_))) if new.hash() == old.hash() => Some(made.clone()),
            (Some(v2), ..) => {
                let document = json::parse(&v2.unpack()).map_err(|e| e.to_string())?;
                Some(V3::Made(Arc::new(Packed::new(&json::to_vec(&convert::to_v3(&document))))))
            }
            _ => None,
        };
    }
    Ok(specs)
}

/// How the index of v3 documents names a group version.
pub(super) fn v3_key(group: &str, version: &str) -> String {
    service::path_of(group, version).trim_start_matches('/').to_owned()
}
