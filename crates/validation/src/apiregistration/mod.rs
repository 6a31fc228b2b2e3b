//! The group `apiregistration.k8s.io`.

use crate::rules::Registry;
use crate::{Errors, Place, formats};
use trireme_schema::names;

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    registry.on_kind("apiregistration.v1.APIService", "", service);
}

fn service(api: &Place<'_>, errors: &mut Errors) {
    let spec = api.child("spec");
    let (group, version) = (spec.child("group"), spec.child("version"));
    let (meta, wanted) = (api.child("metadata"), format!("{}.{}", version.str(), group.str()));
    let name = meta.child("name");
    if !name.str().is_empty() && name.str() != wanted {
        errors.invalid(&name, format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"));
    }
    let generated = meta.child("generateName");
    if !generated.str().is_empty() {
        errors.invalid(&generated, format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"));
    }
    if group.str().is_empty() && version.str() != "v1" {
        errors.required(&group, "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.str().is_empty() {
        errors.format(&group, group.str(), names::dns1123_subdomain(group.str()));
    }
    errors.format(&version, version.str(), names::dns1035_label(version.str()));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let value = spec.int(field).unwrap_or_default();
        if value <= 0 || value > most {
            errors.invalid_value(&spec.child(field), value, format!("must be positive and less than {most}"));
        }
    }
    let (bundle, insecure) = (spec.child("caBundle"), spec.child("insecureSkipTLSVerify"));
    let Some(to) = spec.field("service") else {
        if !bundle.str().is_empty() {
            let size = formats::base64_size(bundle.str());
            errors.invalid_value(&bundle, format!("{size} bytes"), "local APIServices may not have a caBundle");
        }
        if spec.is("insecureSkipTLSVerify") {
            errors.invalid(&insecure, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    };
    for field in ["namespace", "name"] {
        if to.text(field).is_empty() {
            errors.required(&to.child(field), "");
        }
    }
    let port = to.int("port").unwrap_or_default();
    if !(1..=65_535).contains(&port) {
        errors.invalid_value(&to.child("port"), port, "port is not valid: must be between 1 and 65535, inclusive");
    }
    if spec.is("insecureSkipTLSVerify") && !bundle.str().is_empty() {
        errors.invalid(&insecure, "may not be true if caBundle is present");
    }
}
