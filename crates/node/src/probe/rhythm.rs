//! What a probe is for, how often it asks and how patient it is.

use std::time::Duration;
use trireme_schema::Value;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Whether the container has started; nothing else is asked before.
    Startup,
    /// Whether it is to go on.
    Liveness,
    /// Whether it can serve.
    Readiness,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// The container's field.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Startup => "startupProbe",
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
        }
    }

    /// Its name as events begin.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// How often and how patiently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rhythm {
    /// From the container's start.
    pub(crate) delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    pub(crate) successes: i64,
    pub(crate) failures: i64,
}

impl Rhythm {
    /// Reads a probe's numbers.
    pub(crate) fn of(probe: &Value) -> Self {
        let n = |field: &str, default: i64| probe.int_at(&[field]).filter(|n| *n > 0).unwrap_or(default);
        let seconds = |n: i64| Duration::from_secs(n as u64);
        Self {
            delay: seconds(n("initialDelaySeconds", 0)),
            period: seconds(n("periodSeconds", 10)),
            timeout: seconds(n("timeoutSeconds", 1)),
            successes: n("successThreshold", 1),
            failures: n("failureThreshold", 3),
        }
    }
}
