//! DenyServiceExternalIPs: no service takes addresses that are not the cluster's (CVE-2020-8554).

use super::Attributes;
use trireme_schema::{Status, Value};

/// Refuses external addresses that were not there before.
pub(super) fn external_ips(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !attributes.writes() || !attributes.is("", "services", "") {
        return Ok(());
    }
    let before = old.map(|o| o.list_at(&["spec", "externalIPs"])).unwrap_or_default();
    if object.list_at(&["spec", "externalIPs"]).iter().all(|ip| before.contains(ip)) {
        return Ok(());
    }
    Err(attributes.forbidden(object, "Use of external IPs is denied by admission control"))
}
