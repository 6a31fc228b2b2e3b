//! The server: its state, and the way of a request through it.

use crate::admission::{self, Admission, Policies, ServiceAddresses, Webhooks};
use crate::aggregation::{self, Aggregation, Elsewhere, proxy};
use crate::allocate::Range;
use crate::answer::{self, Body};
use crate::audit::{self, Audit, Origin};
use crate::authn::{Authenticator, Credentials};
use crate::authz;
use crate::catalogue::Catalogue;
use crate::compress;
use crate::discovery;
use crate::documents;
use crate::flow::{FlowControl, Waited};
use crate::kubelet::Kubelets;
use crate::media::Wanted;
use crate::metrics::{About, Metrics, Watches};
use crate::notes::Notes;
use crate::reloads::Reloads;
use crate::request::{Query, RequestInfo};
use crate::resources;
use crate::retries::Retries;
use crate::user::User;
use bytes::Bytes;
use http::{Request, Response, header};
use hyper::body::Body as _;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trireme_schema::Status;
use trireme_schema::field::quote;
use trireme_store::Store;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ranges of cluster IPs; the first decides the default family.
    pub service_ranges: Vec<Range>,
    /// Where the server is reached, for the `kubernetes` service.
    pub advertise_address: IpAddr,
    /// The port of that.
    pub advertise_port: u16,
    /// The name of the cluster's DNS domain.
    pub cluster_domain: String,
    /// What `/version` says, such as `v1.36.0+trireme0.1.0`.
    pub version: String,
    /// PEM of the certificates that client certificates are checked against.
    pub client_ca: String,
    /// PEM of the certificates that the server's own is checked against.
    pub server_ca: String,
    /// PEM of the key that signs service-account tokens.
    pub service_account_key: String,
    /// Bearer tokens that stand for users.
    pub static_tokens: Vec<(String, User)>,
    /// How users prove who they are, besides certificates and the server's own tokens.
    pub authentication: crate::authn::Options,
    /// Who decides what users may do.
    pub authorization: Arc<authz::Chain>,
    /// Which admission plugins run, and how.
    pub admission: admission::Options,
    /// What is noted of requests, and where.
    pub audit: audit::Options,
    /// How other servers are asked for what is theirs.
    pub aggregation: aggregation::Options,
}

/// Bodies larger than this are refused (etcd's limit is 1.5 MB; upstream's request limit 3 MB).
pub const LARGEST_BODY: usize = 3 << 20;
/// Requests that are no watch and no stream end by then.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// Events are kept for an hour.
const EVENT_LIFE: u64 = 3600;

/// Writes the metrics of a component.
type MetricsWriter = Box<dyn Fn(&mut String) + Send + Sync>;

/// The API server.
pub struct ApiServer {
    /// For what outlives a call and must not hold the server.
    pub(crate) itself: Weak<Self>,
    pub(crate) store: Store,
    pub(crate) catalogue: Catalogue,
    pub(crate) config: Config,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorization: authz::Authorization,
    pub(crate) admission: Admission,
    pub(crate) node_pods: authz::NodePods,
    pub(crate) flow: FlowControl,
    pub(crate) audit: Option<Arc<Audit>>,
    /// Held by a write that counts what there is, until it is done.
    pub(crate) turns: tokio::sync::Mutex<()>,
    pub(crate) retries: Retries,
    pub(crate) reloads: Reloads,
    pub(crate) webhooks: Webhooks,
    pub(crate) policies: Policies,
    pub(crate) metrics: Metrics,
    /// Of components in the same process.
    pub(crate) more_metrics: parking_lot::RwLock<Vec<MetricsWriter>>,
    pub(crate) kubelets: Kubelets,
    pub(crate) aggregation: Aggregation,
    pub(crate) documents: discovery::Documents,
    pub(crate) stopping: tokio_util::sync::CancellationToken,
}

impl ApiServer {
    /// A server on a store, with the objects that every cluster has.
    ///
    /// # Errors
    /// When a key cannot be used or the store refuses.
    pub async fn open(store: Store, config: Config, kubelets: Kubelets) -> Result<Arc<Self>, StartError> {
        let catalogue = Catalogue::builtin();
        let authenticator = Authenticator::new(&config).map_err(StartError::Key)?;
        let admission = Admission::new(&config.admission).map_err(StartError::Admission)?;
        let audit = Audit::open(&config.audit).map_err(StartError::Audit)?;
        let node_pods = authz::NodePods::new(&catalogue, &store);
        let webhooks = Webhooks::new(Arc::new(ServiceAddresses(store.clone())));
        let policies = Policies::new(&store);
        let server = Arc::new_cyclic(|itself| Self {
            itself: itself.clone(),
            store,
            catalogue,
            authenticator,
            authorization: authz::Authorization::new(config.authorization.clone()),
            admission,
            node_pods,
            flow: FlowControl::default(),
            audit,
            turns: tokio::sync::Mutex::new(()),
            retries: Retries::default(),
            reloads: Reloads::new(&format!("apiserver-{}:{}", config.advertise_address, config.advertise_port)),
            webhooks,
            policies,
            metrics: Metrics::default(),
            more_metrics: parking_lot::RwLock::default(),
            kubelets,
            aggregation: Aggregation::default(),
            documents: discovery::Documents::default(),
            stopping: tokio_util::sync::CancellationToken::new(),
            config,
        });
        crate::bootstrap::ensure(&server).await.map_err(StartError::Bootstrap)?;
        crate::custom::definitions::start(&server).await;
        aggregation::start(&server).await;
        crate::flow::start(&server).await;
        Ok(server)
    }

    /// Serves the metrics of another component too, which writes them in Prometheus' text form.
    pub fn add_metrics(&self, write: impl Fn(&mut String) + Send + Sync + 'static) {
        self.more_metrics.write().push(Box::new(write));
    }

    /// What it was told.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// When an event that is written now goes.
    pub(crate) fn event_expiry(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + EVENT_LIFE
    }

    /// Ends watches, so that connections can be drained.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Answers a request from the network.
    pub async fn answer(self: &Arc<Self>, mut request: Request<Incoming>, peer: Credentials) -> Response<Body> {
        let started = Instant::now();
        let accept = header_text(request.headers(), header::ACCEPT);
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let info = RequestInfo::read(request.method(), request.uri().path(), &query);
        let mut origin = Origin { peer: peer.address, asker: None };
        let found = self.authenticator.authenticate(self, request.headers(), &info.path, &peer).await;
        self.metrics.authenticated(found.as_ref().ok().map(|user| user.name.as_str()), started.elapsed());
        let user = match found {
            Ok(user) => Arc::new(user),
            Err(status) => {
                let nobody = Arc::new(User::default());
                let trail = self.trail(&request, &info, &nobody, &origin, &Notes::default());
                return ended(trail, answer::failure(&status, Wanted::default())).await;
            }
        };
        self.authenticator.forget_proofs(request.headers_mut());
        let user = match authz::impersonated(self, &user, request.headers(), &authz::Action::of(&info)).await {
            Ok(None) => user,
            Ok(Some(other)) => {
                origin.asker = Some((user, other.constraint));
                Arc::new(other.user)
            }
            Err(status) => {
                let trail = self.trail(&request, &info, &user, &origin, &Notes::default());
                return ended(trail, answer::failure(&status, Wanted::default())).await;
            }
        };
        authz::forget_impersonation(request.headers_mut());
        request.extensions_mut().insert(origin);
        let known = self.catalogue.find(&info.group, &info.version, &info.resource).is_some();
        let about = About::of(&info, &query, &header_text(request.headers(), header::CONTENT_TYPE), known);
        let running = about.is_short().then(|| self.metrics.begun(&about));
        let response = self.serve(request, info, query, user, &accept).await;
        drop(running);
        let waited = response.extensions().get::<Waited>().copied().unwrap_or_default();
        let size = response.body().size_hint().exact();
        self.metrics.answered(&about, response.status().as_u16(), started.elapsed(), waited.0, size);
        if !about.is_watch() || !response.status().is_success() {
            return response;
        }
        let watches = Watches::begun(self.clone(), about);
        response.map(|body| answer::keeping(body, watches))
    }

    /// What follows a request for the audit log, where something is to be noted of it.
    fn trail(
        &self,
        request: &Request<Incoming>,
        info: &RequestInfo,
        user: &Arc<User>,
        origin: &Origin,
        notes: &Notes,
    ) -> Option<audit::Trail> {
        let audit = self.audit.as_ref()?;
        let uri = request.uri().path_and_query().map_or("", |p| p.as_str());
        audit.begin((user, origin, notes), info, uri, request.headers())
    }

    /// Answers a request of a known user.
    pub async fn serve(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        info: RequestInfo,
        query: Query,
        user: Arc<User>,
        accept: &str,
    ) -> Response<Body> {
        let notes = Notes::default();
        request.extensions_mut().insert(notes.clone());
        // Components in this process bring no origin; they are not held up.
        let origin = request.extensions().get::<Origin>().cloned();
        let mut trail = self.trail(&request, &info, &user, origin.as_ref().unwrap_or(&Origin::default()), &notes);
        if let Some(elsewhere) = self.elsewhere(&info) {
            return self.passed_on(elsewhere, request, (&info, &query), user, trail, &notes).await;
        }
        let long = info.verb == "watch" || resources::is_stream(&info, &query);
        let held = origin.is_some() && !resources::is_stream(&info, &query);
        let compressed = info.is_resource && !long && compress::takes_gzip(request.headers());
        let pass = match if held { self.flow.enter(self, &user, &info, &query).await } else { Ok(None) } {
            Ok(pass) => pass,
            Err(refusal) => return ended(trail, *refusal).await,
        };
        let response = match self.followed(request, &mut trail).await {
            Ok(request) => self.negotiated(request, &info, &query, user, (accept, long), &notes).await,
            Err(status) => answer::failure(&status, Wanted::default()),
        };
        let response = match pass {
            Some(pass) => pass.finish(info.verb == "list", response),
            None => response,
        };
        let response = match trail {
            Some(trail) => trail.answered(response, long).await,
            None => response,
        };
        if compressed { compress::gzip(response).await } else { response }
    }

    /// The server that has what a request is about, unless it is this one.
    fn elsewhere(&self, info: &RequestInfo) -> Option<Elsewhere> {
        match info.path.strip_prefix("/openapi/v3/") {
            Some(name) => self.aggregation.document_elsewhere(name).filter(|e| e.remote.has_document()),
            None => self.aggregation.elsewhere(&info.path),
        }
    }

    /// Passes a request on to the server that has what it is about, when its user may do here what he asks for.
    async fn passed_on(
        self: &Arc<Self>,
        elsewhere: Elsewhere,
        request: Request<Incoming>,
        (info, query): (&RequestInfo, &Query),
        user: Arc<User>,
        trail: Option<audit::Trail>,
        notes: &Notes,
    ) -> Response<Body> {
        let watches = info.verb == "watch";
        let streams = resources::is_stream(info, query) || proxy::is_upgrade(request.headers());
        let lasts = watches || streams;
        let origin = request.extensions().get::<Origin>();
        let peer = origin.and_then(|origin| origin.peer);
        let held = origin.is_some() && !streams;
        let pass = match if held { self.flow.enter(self, &user, info, query).await } else { Ok(None) } {
            Ok(pass) => pass,
            Err(refusal) => return ended(trail, *refusal).await,
        };
        let wanted = Wanted::negotiate(&header_text(request.headers(), header::ACCEPT)).unwrap_or_default();
        if let Some(refusal) = self.refused(&user, info, request.uri(), wanted, notes).await {
            return ended(trail, refusal).await;
        }
        let document = !info.is_resource && info.path.split('/').filter(|part| !part.is_empty()).count() == 3;
        let within = if document { proxy::DOCUMENT } else { REQUEST_DEADLINE };
        let until = (!lasts).then(|| tokio::time::Instant::now() + within);
        let audit_id = match &trail {
            Some(trail) => trail.id().to_owned(),
            None => uuid::Uuid::new_v4().to_string(),
        };
        let asked = proxy::Asked { user: &user, audit_id: &audit_id, peer, until };
        let response = proxy::pass(self, &elsewhere.remote, elsewhere.available, request, asked).await;
        let response = match pass {
            // A watch gives its seat back when it has begun.
            Some(pass) => pass.finish(!watches, response),
            None => response,
        };
        match trail {
            Some(trail) => trail.passed_on(response, lasts),
            None => response,
        }
    }

    /// The refusal of a request that its user may not make; notes what was decided.
    async fn refused(
        &self,
        user: &User,
        info: &RequestInfo,
        uri: &http::Uri,
        wanted: Wanted,
        notes: &Notes,
    ) -> Option<Response<Body>> {
        let action = authz::Action::of(info);
        let decision = authz::decide_request(self, user, &action).await;
        if self.audit.is_some() {
            note(notes, &decision);
        }
        if decision.is_allowed() {
            return None;
        }
        if decision.error.is_empty() {
            return Some(answer::failure(&authz::refusal(user, &action, &decision.reason), wanted));
        }
        // Who could not be asked might have allowed it.
        let uri = uri.path_and_query().map_or("", |p| p.as_str());
        Some(answer::text(500, format!("Internal Server Error: {}: {}\n", quote(uri), decision.error)))
    }

    /// The request, whose body has been read where it is to be noted.
    async fn followed(
        &self,
        request: Request<Incoming>,
        trail: &mut Option<audit::Trail>,
    ) -> Result<Request<Incoming>, Status> {
        let writes = !matches!(*request.method(), http::Method::GET | http::Method::HEAD);
        let Some(trail) = trail.as_mut().filter(|trail| writes && trail.wants_request()) else { return Ok(request) };
        let (parts, body) = request.into_parts();
        let bytes = body.read().await?;
        trail.request(&header_text(&parts.headers, header::CONTENT_TYPE), &bytes);
        Ok(Request::from_parts(parts, Incoming::Whole(bytes)))
    }

    async fn negotiated(
        self: &Arc<Self>,
        request: Request<Incoming>,
        info: &RequestInfo,
        query: &Query,
        user: Arc<User>,
        (accept, long): (&str, bool),
        notes: &Notes,
    ) -> Response<Body> {
        // Documents and metrics have media types of their own.
        let wanted = match Wanted::negotiate(accept) {
            Ok(wanted) => wanted,
            Err(_) if !info.is_resource => Wanted::default(),
            Err(status) => return answer::failure(&status, Wanted::default()),
        };
        let pretty = query.flag("pretty") || (!query.has("pretty") && is_by_hand(request.headers()));
        let wanted = Wanted { pretty: wanted.pretty || pretty, ..wanted };
        let work = self.dispatch(request, info, query, user, wanted, notes);
        let result = if long {
            work.await
        } else {
            match tokio::time::timeout(REQUEST_DEADLINE, work).await {
                Ok(result) => result,
                Err(_) => Err(Status::timeout("request did not complete within the allotted timeout", 0)),
            }
        };
        result.unwrap_or_else(|status| answer::failure(&status, wanted))
    }

    async fn dispatch(
        self: &Arc<Self>,
        request: Request<Incoming>,
        info: &RequestInfo,
        query: &Query,
        user: Arc<User>,
        wanted: Wanted,
        notes: &Notes,
    ) -> Result<Response<Body>, Status> {
        if let Some(refusal) = self.refused(&user, info, request.uri(), wanted, notes).await {
            return Ok(refusal);
        }
        if !info.is_resource {
            return documents::answer(self, info, query, request.headers(), wanted);
        }
        if !documents::is_api(self, info) {
            return Ok(documents::not_found());
        }
        Ok(resources::answer(self, request, info, query, user, wanted).await)
    }
}

/// Notes what was decided about a request.
fn note(notes: &Notes, decision: &authz::Decision) {
    let reason = if decision.is_allowed() || decision.error.is_empty() {
        let word = if decision.is_allowed() { "allow" } else { "forbid" };
        notes.annotate("authorization.k8s.io/decision", word);
        &decision.reason
    } else {
        "internal error"
    };
    notes.annotate("authorization.k8s.io/reason", reason);
}

/// An answer that is given before the request was looked at.
async fn ended(trail: Option<audit::Trail>, response: Response<Body>) -> Response<Body> {
    match trail {
        Some(trail) => trail.answered(response, false).await,
        None => response,
    }
}

/// A request's body: from the network, or whole from a caller in process.
pub enum Incoming {
    /// From the network; upgrades can be had from the request's extensions.
    Network(hyper::body::Incoming),
    /// From this process.
    Whole(Bytes),
}

impl Incoming {
    /// Reads the body, up to the limit.
    ///
    /// # Errors
    /// 413 for a body beyond it, 400 for one that breaks off.
    pub async fn read(self) -> Result<Bytes, Status> {
        use http_body_util::{BodyExt, Limited};
        let too_large = || Status::too_large(format!("Request entity too large: limit is {LARGEST_BODY}"));
        match self {
            Incoming::Whole(bytes) if bytes.len() > LARGEST_BODY => Err(too_large()),
            Incoming::Whole(bytes) => Ok(bytes),
            Incoming::Network(body) => match Limited::new(body, LARGEST_BODY).collect().await {
                Ok(collected) => Ok(collected.to_bytes()),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
                Err(error) => Err(Status::bad_request(format!("unable to read the request body: {error}"))),
            },
        }
    }
}

/// A browser or `curl`: upstream indents for them.
fn is_by_hand(headers: &http::HeaderMap) -> bool {
    let agent = header_text(headers, header::USER_AGENT);
    agent.starts_with("curl") || agent.starts_with("Wget") || agent.starts_with("Mozilla/5.0")
}

/// A header's text; empty when absent or no text.
pub(crate) fn header_text(headers: &http::HeaderMap, name: header::HeaderName) -> String {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key, or how users prove who they are, cannot be used.
    #[error("authentication: {0}")]
    Key(String),
    /// Admission is set up wrongly.
    #[error("admission: {0}")]
    Admission(String),
    /// What is audited cannot be written where it should be.
    #[error("audit: {0}")]
    Audit(String),
    /// The objects that every cluster has cannot be written.
    #[error("cannot write the cluster's first objects: {0}")]
    Bootstrap(Status),
}
