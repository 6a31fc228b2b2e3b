//! Configurations that are read again while the server runs.

use crate::authz::Chain;
use crate::measure::Family;
use crate::server::ApiServer;
use trireme_schema::Value;

const LABELS: &[&str] = &["apiserver_id_hash", "status"];

macro_rules! families {
    ($($what:literal),*) => {
        [$((
            Family::counter(
                concat!("apiserver_", $what, "_config_controller_automatic_reloads_total"),
                LABELS,
                "Times that the configuration was read again",
            ),
            Family::gauge(
                concat!("apiserver_", $what, "_config_controller_automatic_reload_last_timestamp_seconds"),
                LABELS,
                "When the configuration was last read again",
            ),
        )),*]
    };
}

/// What was configured anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Configured {
    Authentication,
    Authorization,
    Encryption,
}

/// How often configurations were read again, and when last.
pub(crate) struct Reloads {
    id: String,
    families: [(Family, Family); 3],
}

impl Reloads {
    /// `id` tells this server from others of a cluster.
    pub(crate) fn new(id: &str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { id: format!("sha256:{hex}"), families: families!("authentication", "authorization", "encryption") }
    }

    fn note(&self, what: Configured, result: Result<(), &str>) {
        match result {
            Ok(()) => tracing::info!(?what, "configured anew"),
            Err(why) => tracing::error!(?what, why, "a new configuration cannot be used, the old one holds"),
        }
        if let Some((count, last)) = self.families.get(what as usize) {
            let labels = [self.id.as_str(), if result.is_ok() { "success" } else { "failure" }];
            count.add(&labels);
            last.set(&labels, jiff::Timestamp::now().as_millisecond() as f64 / 1e3);
        }
    }

    /// The exposition.
    pub(crate) fn write(&self, out: &mut String) {
        self.families.iter().flat_map(|(count, last)| [count, last]).for_each(|family| family.write(out));
    }
}

fn outcome(result: &Result<(), String>) -> Result<(), &str> {
    match result {
        Ok(()) => Ok(()),
        Err(why) => Err(why),
    }
}

impl ApiServer {
    /// From now on the authorizers of a file decide that has been read again. One that cannot be used changes nothing.
    pub fn reload_authorization(&self, read: Result<Chain, String>) {
        let result = read.map(|chain| self.authorization.replace(chain));
        self.reloads.note(Configured::Authorization, outcome(&result));
    }

    /// From now on the identity providers of an `AuthenticationConfiguration` are asked that has been read again.
    pub fn reload_authentication(&self, read: Result<Value, String>) {
        let result = read.and_then(|config| self.authenticator.reload(&config));
        self.reloads.note(Configured::Authentication, outcome(&result));
    }

    /// Notes that the store seals values by another configuration, or why it does not.
    pub fn encryption_reloaded(&self, result: &Result<(), String>) {
        self.reloads.note(Configured::Encryption, outcome(result));
    }
}
