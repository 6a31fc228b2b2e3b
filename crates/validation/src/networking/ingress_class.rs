//! Classes of ingresses.

use super::ingress;
use crate::rules::Registry;
use crate::{Errors, Place, formats};
use trireme_schema::names;

const LONGEST_CONTROLLER: usize = 250;

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("networking.v1.IngressClassSpec", spec);
}

fn spec(spec: &Place<'_>, errors: &mut Errors) {
    let controller = spec.child("controller");
    if controller.str().len() > LONGEST_CONTROLLER {
        errors.too_long(&controller, LONGEST_CONTROLLER);
    }
    formats::domain_prefixed_path(&controller, errors);
    let Some(parameters) = spec.field("parameters") else { return };
    ingress::reference(&parameters, errors);
    let (scope, namespace) = (parameters.child("scope"), parameters.child("namespace"));
    match scope.str() {
        "" => errors.required(&scope, ""),
        "Cluster" => {
            if namespace.is_set() {
                errors.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'");
            }
        }
        "Namespace" => {
            if namespace.is_set() {
                errors.format(&namespace, namespace.str(), names::dns1123_label(namespace.str()));
            } else {
                errors.required(&namespace, "`parameters.scope` is set to 'Namespace'");
            }
        }
        other => errors.not_supported(&scope, other, &["Cluster", "Namespace"]),
    }
}
