//! Pods and pod templates (upstream: `pkg/apis/core/validation`, `ValidatePodSpec` and what it calls).

mod affinity;
mod annotations;
mod container;
mod env;
mod handlers;
mod mounts;
mod resources;
mod security;
mod spec;
mod spread;
mod status;
mod template;
mod tolerations;
mod update;
mod warnings;
mod windows;

use crate::rules::Registry;
use crate::{Errors, Place};

pub(crate) use env::{file_field, resource_selector};
pub(crate) use resources::{
    container_resource_name, is_extended, is_overcommitted, overhead, quantity_value, resource_name,
};
pub(crate) use tolerations::taint_effect;
pub(crate) use warnings::{node_term as node_term_warnings, workload as workload_warnings};

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("core.v1.PodSpec", spec::check);
    registry.on_type("core.v1.PodSecurityContext", security::pod);
    registry.on_type("core.v1.SecurityContext", security::container);
    registry.on_type("core.v1.SeccompProfile", security::seccomp);
    registry.on_type("core.v1.AppArmorProfile", security::app_armor);
    registry.on_type("core.v1.WindowsSecurityContextOptions", windows::options);
    registry.on_type("core.v1.Toleration", tolerations::check);
    registry.on_type("core.v1.TopologySpreadConstraint", spread::constraint);
    registry.on_type("core.v1.NodeAffinity", affinity::node);
    registry.on_type("core.v1.NodeSelector", affinity::required_terms);
    registry.on_type("core.v1.WeightedPodAffinityTerm", affinity::weight);
    registry.on_type("core.v1.PodAffinityTerm", affinity::pod_term);
    registry.on_type("core.v1.EnvVar", env::variable);
    registry.on_type("core.v1.HTTPGetAction", handlers::http_headers);
    registry.on_type("core.v1.PodTemplateSpec", template::check);
    registry.on_kind("core.v1.Pod", "", pod);
    registry.on_kind("core.v1.Pod", "status", status::update);
    registry.on_kind("core.v1.Pod", "ephemeralcontainers", update::ephemeral_containers);
    registry.on_kind("core.v1.Pod", "resize", update::resize);
    registry.on_warning("core.v1.Pod", warnings::pod);
    registry.on_warning("core.v1.PodTemplate", warnings::pod_template);
}

/// What only pods must have, and pod templates need not.
fn pod(pod: &Place<'_>, errors: &mut Errors) {
    annotations::check(&pod.child("metadata.annotations"), &pod.child("spec"), errors);
    let spec = pod.child("spec");
    spec::of_pod(&spec, errors);
    if pod.old.is_some() {
        update::pod(pod, errors);
        return;
    }
    if !spec.list("ephemeralContainers").is_empty() {
        errors.forbidden(&spec.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && !spec.list("schedulingGates").is_empty() {
        errors.forbidden(&spec.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    annotations::match_fields(&pod.child("metadata.annotations"), &spec, errors);
}

/// All containers of a spec with their places: init, then others, then ephemeral.
fn for_each_container(spec: &Place<'_>, mut visit: impl FnMut(&Place<'_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.items(list).for_each(|container| visit(&container));
    }
}
