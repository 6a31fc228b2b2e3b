//! Priority and fairness (KEP-1040): which requests run, which wait, which are refused, by flow schemas and priority
//! levels. What comes from components in this process is not held up: they bound their own calls.

mod bootstrap;
mod follow;
mod metrics;
mod schema;
mod work;

pub(crate) use bootstrap::objects as bootstrap_objects;
pub(crate) use follow::start;

use crate::answer::{self, Body};
use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;
use crate::user::User;
use arc_swap::ArcSwap;
use http::{HeaderValue, Response, header};
use metrics::Counters;
use schema::Schema;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_fairness::{Control, Level, Permit, Refused, Spec};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Seats in all: upstream's `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
const SEATS: u32 = 600;
/// A quarter of what a request may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The server's seats, and the rules by which they are given.
pub struct FlowControl {
    control: Control,
    rules: ArcSwap<Rules>,
}

/// Schemas in the order in which they are tried, and levels.
#[derive(Default)]
struct Rules {
    schemas: Vec<Schema>,
    levels: BTreeMap<String, Arc<Level>>,
}

/// A request that may run.
pub struct Pass {
    permit: Permit,
    counters: Arc<Counters>,
    seats: u32,
    since: Instant,
    waited: Waited,
    headers: [HeaderValue; 2],
}

/// How long a request waited for its seats; on its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waited(pub(crate) Duration);

impl Default for FlowControl {
    /// No rules: everything passes until the objects are read.
    fn default() -> Self {
        Self { control: Control::new(SEATS), rules: ArcSwap::default() }
    }
}

impl FlowControl {
    /// Takes up the objects as they are now. Counters of schemas that stay go on.
    fn set(&self, schemas: Vec<Schema>, levels: &BTreeMap<String, Spec>) {
        let old = self.rules.load();
        let levels = self.control.set(levels);
        let mut schemas = schemas;
        for schema in &mut schemas {
            if let Some(same) = old.schemas.iter().find(|s| s.name == schema.name && s.level == schema.level) {
                schema.counters = same.counters.clone();
            }
        }
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        self.rules.store(Arc::new(Rules { schemas, levels }));
    }

    /// Lets a request in, at once or when it is its turn. `None` while there are no rules.
    ///
    /// # Errors
    /// The 429 that it gets instead.
    pub async fn enter(
        &self,
        server: &ApiServer,
        user: &User,
        info: &RequestInfo,
        query: &Query,
    ) -> Result<Option<Pass>, Box<Response<Body>>> {
        let (flow, headers, counters, level) = {
            let rules = self.rules.load();
            let matching = rules.schemas.iter().find(|s| s.matches(user, info));
            let Some(schema) = matching else { return Ok(None) };
            let Some(level) = rules.levels.get(&schema.level) else { return Ok(None) };
            (schema.flow(user, info), schema.headers.clone(), schema.counters.clone(), level.clone())
        };
        let started = Instant::now();
        let seats = work::seats(server, info, query, level.numbers().bounds.nominal);
        let waits = counters.waits(seats);
        let entered = level.enter(flow, seats, PATIENCE).await;
        drop(waits);
        counters.waited(entered.is_ok(), started.elapsed());
        match entered {
            Ok(permit) => {
                counters.runs(seats);
                let waited = Waited(started.elapsed());
                Ok(Some(Pass { permit, counters, seats, since: Instant::now(), waited, headers }))
            }
            Err(refused) => {
                counters.refused(refused);
                Err(Box::new(with_headers(too_many(), &headers)))
            }
        }
    }
}

/// The answer to a request that cannot be served now.
fn too_many() -> Response<Body> {
    let mut response = answer::text(429, "Too many requests, please try again later.\n");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn with_headers(mut response: Response<Body>, [schema, level]: &[HeaderValue; 2]) -> Response<Body> {
    response.headers_mut().insert("x-kubernetes-pf-flowschema-uid", schema.clone());
    response.headers_mut().insert("x-kubernetes-pf-prioritylevel-uid", level.clone());
    response
}

impl Pass {
    /// Gives the seats back with the answer: with its last byte where it is made piece by piece, which a list is.
    pub fn finish(self, list: bool, response: Response<Body>) -> Response<Body> {
        let mut response = with_headers(response, &self.headers);
        response.extensions_mut().insert(self.waited);
        if !list {
            return response;
        }
        response.map(|body| answer::keeping(body, self))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        debug_assert!(self.permit.seats() > 0);
        self.counters.ran(self.seats, self.since.elapsed());
    }
}

/// Upstream's word for a refusal.
fn reason(refused: Refused) -> &'static str {
    match refused {
        Refused::ConcurrencyLimit => "concurrency-limit",
        Refused::QueueFull => "queue-full",
        Refused::TimedOut => "time-out",
    }
}
