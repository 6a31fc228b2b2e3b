//! EventRateLimit: events come no faster than limits of the server, of a namespace, of a user or about an object.

use super::Attributes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Instant;
use trireme_schema::{Status, Value};

/// What a limit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

/// A bucket of tokens that fills at a rate.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    since: Instant,
}

#[derive(Debug)]
struct Limit {
    scope: Scope,
    rate: f64,
    burst: f64,
    /// Buckets that are kept.
    most: usize,
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// The limits (eventratelimit.admission.k8s.io `Configuration`).
#[derive(Debug, Default)]
pub(super) struct Limits(Vec<Limit>);

impl Limits {
    pub(super) fn read(config: Option<&Value>) -> Result<Self, String> {
        let list = config.map(|c| c.list_at(&["limits"])).unwrap_or_default();
        let limits = list.iter().map(|limit| {
            let scope = match limit.str_at(&["type"]) {
                "Server" => Scope::Server,
                "Namespace" => Scope::Namespace,
                "User" => Scope::User,
                "SourceAndObject" => Scope::SourceAndObject,
                other => return Err(format!("EventRateLimit: limits: no type {other:?}")),
            };
            let number = |name: &str| match limit.int_at(&[name]) {
                Some(n) if n > 0 => Ok(n as f64),
                _ => Err(format!("EventRateLimit: limits: {name} must be positive")),
            };
            let most = limit.int_at(&["cacheSize"]).filter(|n| *n > 0).unwrap_or(4096);
            let most = usize::try_from(most).unwrap_or(4096);
            Ok(Limit { scope, rate: number("qps")?, burst: number("burst")?, most, buckets: Mutex::default() })
        });
        limits.collect::<Result<_, _>>().map(Self)
    }
}

impl Limit {
    /// Takes a token from a key's bucket.
    fn takes(&self, key: &str, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        let full = Bucket { tokens: self.burst, since: now };
        if buckets.len() >= self.most && !buckets.contains_key(key) {
            // A bucket that has filled up again is as good as none.
            buckets.retain(|_, b| b.tokens + now.duration_since(b.since).as_secs_f64() * self.rate < self.burst);
            if buckets.len() >= self.most
                && let Some(oldest) = buckets.iter().min_by_key(|(_, b)| b.since).map(|(k, _)| k.clone())
            {
                buckets.remove(&oldest);
            }
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(full);
        let filled = bucket.tokens + now.duration_since(bucket.since).as_secs_f64() * self.rate;
        *bucket = Bucket { tokens: filled.min(self.burst), since: now };
        let takes = bucket.tokens >= 1.0;
        if takes {
            bucket.tokens -= 1.0;
        }
        takes
    }
}

fn key(scope: Scope, attributes: &Attributes<'_>, event: &Value) -> String {
    match scope {
        Scope::Server => String::new(),
        Scope::Namespace => attributes.target.namespace.clone(),
        Scope::User => attributes.target.user.name.clone(),
        Scope::SourceAndObject => {
            let source = ["component", "host"].map(|f| event.str_at(&["source", f]));
            let object =
                ["kind", "namespace", "name", "uid", "apiVersion"].map(|f| event.str_at(&["involvedObject", f]));
            [source.concat(), object.concat()].concat()
        }
    }
}

/// Refuses an event that comes too soon.
pub(super) fn limit(attributes: &Attributes<'_>, object: &Value, _: Option<&Value>) -> Result<(), Status> {
    if !attributes.writes() || !attributes.is("", "events", "") || attributes.dry_run {
        return Ok(());
    }
    let now = Instant::now();
    for limit in &attributes.server.admission.event_limits.0 {
        let key = key(limit.scope, attributes, object);
        if !limit.takes(&key, now) {
            let why = format!("limit reached on type {:?} for key {key}", limit.scope);
            return Err(Status::too_many_requests(why, 1));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use trireme_schema::json;

    #[test]
    fn a_bucket_empties_and_fills() {
        let config = json::parse(br#"{"limits":[{"type":"Namespace","qps":1,"burst":2,"cacheSize":2}]}"#).unwrap();
        let limits = Limits::read(Some(&config)).unwrap();
        let limit = limits.0.first().unwrap();
        let now = Instant::now();
        assert!(limit.takes("a", now) && limit.takes("a", now) && !limit.takes("a", now));
        assert!(limit.takes("b", now) && limit.takes("c", now));
        assert_eq!(limit.buckets.lock().len(), 2);
        assert!(limit.takes("b", now + Duration::from_secs(1)));
        assert!(Limits::read(Some(&json::parse(br#"{"limits":[{"type":"x"}]}"#).unwrap())).is_err());
    }
}
