//! Replica sets.

use super::deployment;
use crate::core::{pod, replication_controller};
use crate::rules::Registry;
use crate::{Errors, Place, Subject};

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("apps.v1.ReplicaSet", "", check);
    registry.on_kind("apps.v1.ReplicaSet", "status", |c, errors| {
        replication_controller::status(&c.child("status"), errors)
    });
    registry.on_warning("apps.v1.ReplicaSet", warnings);
}

fn check(set: &Place<'_>, errors: &mut Errors) {
    let spec = set.child("spec");
    deployment::pods(&spec, errors);
    super::keeps_selector(&spec, errors);
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    pod::workload_warnings(subject, &["spec", "template"], true, warnings);
}
