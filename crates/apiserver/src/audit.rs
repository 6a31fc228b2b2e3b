//! Auditing: who asked what, when, and how it ended, as a policy says (audit.k8s.io/v1).

mod event;
mod log;
mod policy;
mod webhook;

pub use log::LogOptions;
pub use policy::Policy;
pub use webhook::WebhookOptions;

use crate::answer::{self, Body};
use crate::notes::Notes;
use crate::request::RequestInfo;
use crate::user::User;
use bytes::Bytes;
use event::Draft;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use policy::{Asked, Level};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use trireme_schema::{Value, json};

/// What the server is told of auditing. Without a policy nothing is noted.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which requests are noted, and what of them.
    pub policy: Option<Policy>,
    /// Where lines are written.
    pub log: Option<LogOptions>,
    /// Where batches are sent.
    pub webhook: Option<WebhookOptions>,
}

/// Where a request comes from, as its extensions tell.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The other end of the connection.
    pub peer: Option<IpAddr>,
    /// Who asked to be somebody else, and by which verb he may.
    pub asker: Option<(Arc<User>, String)>,
}

/// The stages of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
}

/// Takes events.
pub struct Audit {
    policy: Policy,
    log: Option<log::Log>,
    webhook: Option<webhook::Webhook>,
    events: AtomicU64,
    lost: AtomicU64,
}

impl Audit {
    /// Opens what events are written to; `None` without a policy.
    ///
    /// # Errors
    /// What cannot be opened.
    pub fn open(options: &Options) -> Result<Option<Arc<Self>>, String> {
        let Some(policy) = options.policy.clone() else { return Ok(None) };
        Ok(Some(Arc::new(Self {
            policy,
            log: options.log.as_ref().map(log::Log::open).transpose()?,
            webhook: options.webhook.as_ref().map(webhook::Webhook::start).transpose()?,
            events: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })))
    }

    fn take(&self, event: &Value) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let line = json::to_vec(event);
        if let Some(log) = &self.log
            && let Err(error) = log.write(&line)
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "an audit event could not be written");
        }
        if let Some(webhook) = &self.webhook
            && !webhook.send(line)
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The exposition of what was taken.
    pub(crate) fn metrics(&self, out: &mut String) {
        for (name, help, n) in [
            ("apiserver_audit_event_total", "Audit events that were made", &self.events),
            ("apiserver_audit_error_total", "Audit events that could not be written", &self.lost),
        ] {
            let n = n.load(Ordering::Relaxed);
            out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {n}\n"));
        }
    }

    /// Begins to follow a request; `None` when the policy says nothing is to be noted of it.
    pub(crate) fn begin(
        self: &Arc<Self>,
        (user, origin, notes): (&Arc<User>, &Origin, &Notes),
        info: &RequestInfo,
        uri: &str,
        headers: &HeaderMap,
    ) -> Option<Trail> {
        // The policy is about who asked, not about who he wants to be.
        let asker = origin.asker.as_ref().map_or(user, |(asker, _)| asker);
        let told = self.policy.of(&Asked { user: asker, info });
        if told.level == Level::None {
            return None;
        }
        let id = headers.get("audit-id").and_then(|v| v.to_str().ok()).filter(|id| id.len() <= 64);
        let id = id.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        let draft = Draft::new(&id, uri, info, (asker, user, origin), headers);
        let mut trail = Trail { audit: self.clone(), told, draft, notes: notes.clone(), done: false };
        trail.tell(Stage::RequestReceived);
        Some(trail)
    }
}

/// A request that is followed. When it is dropped, the request is over.
pub(crate) struct Trail {
    audit: Arc<Audit>,
    told: policy::Told,
    draft: Draft,
    notes: Notes,
    done: bool,
}

impl Trail {
    /// Whether the request's object is wanted.
    pub(crate) fn wants_request(&self) -> bool {
        self.told.level >= Level::Request
    }

    fn wants_response(&self) -> bool {
        self.told.level >= Level::RequestResponse
    }

    /// The body of the request.
    pub(crate) fn request(&mut self, content_type: &str, body: &Bytes) {
        self.draft.request = event::object(content_type, body, self.told.omit_managed_fields);
    }

    fn tell(&mut self, stage: Stage) {
        if !self.told.omit.contains(&stage) {
            let event = self.draft.event(self.told.level, stage, &self.notes.annotations());
            self.audit.take(&event);
        }
    }

    /// By which the request is named.
    pub(crate) fn id(&self) -> &str {
        &self.draft.id
    }

    /// Takes note of an answer's head, and names the request in it. Whether it goes on from here.
    fn begin(&mut self, response: &mut Response<Body>, lasts: bool) -> bool {
        self.draft.code = Some(response.status().as_u16());
        if let Ok(id) = http::HeaderValue::from_str(&self.draft.id) {
            response.headers_mut().insert("audit-id", id);
        }
        let goes_on = lasts && response.status().is_success();
        if goes_on {
            self.tell(Stage::ResponseStarted);
        }
        goes_on
    }

    /// Ends with an answer that is another server's, when its last piece has gone; what is in it is that one's to note.
    pub(crate) fn passed_on(mut self, mut response: Response<Body>, lasts: bool) -> Response<Body> {
        self.begin(&mut response, lasts);
        response.map(|body| answer::keeping(body, self))
    }

    /// Ends with the answer: at once, or, for one that lasts, when its last piece has gone.
    pub(crate) async fn answered(mut self, mut response: Response<Body>, lasts: bool) -> Response<Body> {
        if self.begin(&mut response, lasts) {
            return response.map(|body| answer::keeping(body, self));
        }
        let failed = !response.status().is_success();
        if !failed && !self.wants_response() {
            return response;
        }
        // A refusal is told with its reason at every level.
        let content_type = crate::server::header_text(response.headers(), http::header::CONTENT_TYPE);
        let (parts, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(broken) => {
                let pieces = futures::stream::iter([Err(broken)]);
                return Response::from_parts(parts, answer::breakable(futures::StreamExt::boxed(pieces)));
            }
        };
        let object = event::object(&content_type, &bytes, self.told.omit_managed_fields);
        if failed {
            self.draft.status = object.clone();
        }
        if self.wants_response() {
            self.draft.response = object;
        }
        Response::from_parts(parts, answer::whole(bytes))
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if !self.done {
            self.done = true;
            self.tell(Stage::ResponseComplete);
        }
    }
}

impl Options {
    /// Reads a policy's file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_policy(path: &Path) -> Result<Policy, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Policy::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
    }
}
