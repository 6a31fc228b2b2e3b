//! Lifecycle hooks.

use crate::cri::Cri;
use crate::probe::{self, Outcome, Target};
use std::time::Duration;
use trireme_schema::Value;

/// A hook may take as long as it likes: who calls it bounds it, or gives it up.
const LONG: Duration = Duration::from_secs(86_400);

/// Runs a hook; an error says what went wrong.
pub(super) async fn run(cri: &Cri, target: &Target, hook: &Value) -> Result<(), String> {
    if let Some(sleep) = hook.get("sleep") {
        let seconds = sleep.int_at(&["seconds"]).unwrap_or_default();
        tokio::time::sleep(Duration::from_secs(seconds.max(0) as u64)).await;
        return Ok(());
    }
    if let Some(get) = hook.get("httpGet") {
        return probe::reach(target, get).await;
    }
    match probe::ask(cri, target, hook, LONG).await {
        Outcome::Success | Outcome::Warning(_) => Ok(()),
        Outcome::Failure(why) | Outcome::Unknown(why) => Err(why),
    }
}
