//! Stateful sets.

use crate::core::pod;
use crate::core::replication_controller::always_running;
use crate::rules::Registry;
use crate::{Errors, Place, Subject, engine, metadata, selectors};
use trireme_schema::{Value, names};

const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("apps.v1.StatefulSet", "", check);
    registry.on_kind("apps.v1.StatefulSet", "status", |c, errors| status(&c.child("status"), errors));
    registry.on_warning("apps.v1.StatefulSet", warnings);
}

fn check(set: &Place<'_>, errors: &mut Errors) {
    let spec = set.child("spec");
    let policy = spec.child("podManagementPolicy");
    match policy.str() {
        "" => errors.required(&policy, ""),
        "OrderedReady" | "Parallel" => {}
        other => errors.invalid_value(&policy, other, "must be 'OrderedReady' or 'Parallel'"),
    }
    strategy(&spec.child("updateStrategy"), errors);
    for field in ["whenDeleted", "whenScaled"] {
        let retention = spec.child("persistentVolumeClaimRetentionPolicy");
        let when = retention.child(field);
        if retention.is_set() && !matches!(when.str(), "Retain" | "Delete") {
            errors.not_supported(&when, when.str(), &["Retain", "Delete"]);
        }
    }
    let start = spec.child("ordinals.start");
    if start.value.as_int().is_some_and(|n| n < 0) {
        errors.invalid(&start, "must be greater than or equal to 0");
    }
    // The limit was not looked at in older days.
    let limit = spec.child("revisionHistoryLimit");
    if limit.is_changed() && limit.value.as_int().is_some_and(|n| n < 0) {
        errors.invalid(&limit, "must be greater than or equal to 0");
    }
    let service = spec.text("serviceName");
    if !service.is_empty() && spec.subject.is_create() {
        errors.format(&spec.child("serviceName"), service, names::dns1123_label(service));
    }
    for claim in spec.items("volumeClaimTemplates") {
        engine::walk_type("core.v1.PersistentVolumeClaimSpec", &claim.child("spec"), errors);
    }
    let selector = spec.child("selector");
    if super::selector(&spec, "statefulset", errors) {
        super::selects_template(&spec, errors);
        let template = spec.child("template");
        // Upstream tells these without `metadata`, and once more with the rest of the template.
        let meta = template.child("metadata");
        metadata::labels(&template.child("labels").with(meta.child("labels").value), errors);
        metadata::annotations(&template.child("annotations").with(meta.child("annotations").value), errors);
        let with_claims = claims_as_volumes(&spec);
        let seen = template.with(with_claims.as_ref().unwrap_or(template.value));
        engine::walk_type("core.v1.PodTemplateSpec", &seen, errors);
    } else {
        errors.invalid_shown(&selector, selectors::shown(selector.value), "");
    }
    always_running(&spec.child("template"), "StatefulSet", errors);
    if let Some(old) = spec.old {
        let differ = |a: &Value, b: &Value| {
            let fields = a.as_object().into_iter().flat_map(trireme_schema::Map::iter);
            let mut other = fields.filter(|(name, _)| !CHANGEABLE.contains(&name.as_str()));
            other.any(|(name, value)| b.get(name) != Some(value))
        };
        if differ(spec.value, old) || differ(old, spec.value) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
            errors.forbidden(&spec, why);
        }
    }
}

fn strategy(strategy: &Place<'_>, errors: &mut Errors) {
    let rolling = strategy.child("rollingUpdate");
    match strategy.text("type") {
        "" => errors.required(strategy, ""),
        "OnDelete" => {
            if rolling.is_set() {
                let ty = "apps.v1.RollingUpdateStatefulSetStrategy";
                errors.invalid_internal(&rolling, ty, "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            let partition = rolling.child("partition");
            if partition.value.as_int().is_some_and(|n| n < 0) {
                errors.invalid(&partition, "must be greater than or equal to 0");
            }
            if let Some(most) = rolling.field("maxUnavailable") {
                super::percent::check(&most, errors);
                if super::percent::number(most.value) == 0 {
                    errors.invalid(&most, "cannot be 0");
                }
                super::percent::at_most_all(&most, errors);
            }
        }
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            errors.invalid_internal(strategy, "apps.v1.StatefulSetUpdateStrategy", why);
        }
    }
}

/// The template with the claims that each pod gets as volumes, in place of volumes of these names.
fn claims_as_volumes(spec: &Place<'_>) -> Option<Value> {
    let claims = spec.list("volumeClaimTemplates");
    let mut names: Vec<&str> = Vec::with_capacity(claims.len());
    for name in claims.iter().map(|c| c.str_at(&["metadata", "name"])) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut template = spec.value.get("template").filter(|_| !names.is_empty())?.clone();
    let volumes = template.at(&["spec", "volumes"]).and_then(Value::as_array).unwrap_or_default();
    let others = volumes.iter().filter(|v| !names.contains(&v.str_at(&["name"]))).cloned();
    let made = names.iter().map(|name| {
        let mut volume = Value::object();
        volume.set_at(&["name"], *name);
        volume.set_at(&["persistentVolumeClaim", "claimName"], *name);
        volume
    });
    let all: Vec<Value> = made.chain(others).collect();
    template.set_at(&["spec", "volumes"], all);
    Some(template)
}

fn status(status: &Place<'_>, errors: &mut Errors) {
    const COUNTS: [&str; 7] = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    super::counts(status, &COUNTS, errors);
    super::not_above(status, &COUNTS[1..5], "replicas", "cannot be greater than status.replicas", errors);
    let why = "cannot be greater than status.readyReplicas";
    super::not_above(status, &["availableReplicas"], "readyReplicas", why, errors);
    super::collisions(status, errors);
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    pod::workload_warnings(subject, &["spec", "template"], false, warnings);
}
