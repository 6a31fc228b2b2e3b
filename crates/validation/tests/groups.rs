//! Rules of the groups around the core, where recordings have nothing to say.

#![allow(clippy::unwrap_used)] // a test fails loudly

use trireme_schema::{Value, builtin, json};
use trireme_validation::{Subject, validate};

/// What is wrong with an object of a type such as `storage.v1.StorageClass`, or with its change.
fn wrong(ty: &str, subresource: &str, old: Option<&str>, new: &str) -> Vec<String> {
    let id = builtin().type_named(ty).unwrap();
    let parse = |text: &str| json::parse(text.as_bytes()).unwrap();
    let (new, old): (Value, Option<Value>) = (parse(new), old.map(parse));
    let kind = ty.rsplit('.').next().unwrap_or_default();
    let subject =
        Subject { group: "x", version: "v1", kind, id, namespaced: false, subresource, new: &new, old: old.as_ref() };
    validate(&subject).iter().map(ToString::to_string).collect()
}

const CLAIM: &str =
    r#"{"metadata":{"name":"c"},"spec":{"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"c"}}]}}"#;

fn claim(status: &str) -> String {
    format!(r#"{CLAIM},"status":{status}}}"#)
}

#[test]
fn claims_are_reserved_only_when_they_are_allocated() {
    let old = claim("{}");
    let reserved = claim(r#"{"reservedFor":[{"resource":"pods","name":"p","uid":"u"}]}"#);
    let told = wrong("resource.v1.ResourceClaim", "status", Some(&old), &reserved);
    assert_eq!(told, ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]);
}

#[test]
fn devices_of_a_claim_are_those_that_it_was_given() {
    let given = r#""allocation":{"devices":{"results":[{"request":"r","driver":"d.io","pool":"p","device":"a"}]}}"#;
    let with =
        |device: &str| claim(&format!(r#"{{{given},"devices":[{{"driver":"d.io","pool":"p","device":"{device}"}}]}}"#));
    let old = claim("{}");
    assert_eq!(wrong("resource.v1.ResourceClaim", "status", Some(&old), &with("a")), [""; 0]);
    let told = wrong("resource.v1.ResourceClaim", "status", Some(&old), &with("b"));
    assert_eq!(told, [r#"status.devices[0]: Invalid value: "d.io/p/b": must be an allocated device in the claim"#]);
}

#[test]
fn ranges_of_services_can_become_dual_stack_and_nothing_else() {
    let range = |cidrs: &str| format!(r#"{{"metadata":{{"name":"r"}},"spec":{{"cidrs":{cidrs}}}}}"#);
    let change = |old: &str, new: &str| wrong("networking.v1.ServiceCIDR", "", Some(&range(old)), &range(new));
    assert_eq!(change(r#"["10.1.0.0/24"]"#, r#"["10.1.0.0/24","fd00::/112"]"#), [""; 0]);
    let told = change(r#"["10.1.0.0/24"]"#, r#"["10.2.0.0/24"]"#);
    assert_eq!(told, [r#"spec.cidrs[0]: Invalid value: "10.2.0.0/24": field is immutable"#]);
    let told = change(r#"["10.1.0.0/24","fd00::/112"]"#, r#"["10.1.0.0/24"]"#);
    assert_eq!(told, [r#"spec.cidrs: Invalid value: ["10.1.0.0/24"]: field is immutable"#]);
}

#[test]
fn reasons_of_conditions_are_words() {
    let status = |reason: &str| {
        format!(
            r#"{{"metadata":{{"name":"r","namespace":"n"}},"spec":{{"minAvailable":1}},"status":{{"conditions":[{{
            "type":"DisruptionAllowed","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z","message":"",
            "reason":"{reason}"}}]}}}}"#
        )
    };
    for (reason, count) in [("Fine", 0), ("a_b,c:d", 0), ("a:", 1), ("1a", 1), ("", 1), ("a b", 1)] {
        let told = wrong("policy.v1.PodDisruptionBudget", "status", Some(&status("Old")), &status(reason));
        assert_eq!(told.len(), count, "{reason}: {told:?}");
    }
}

#[test]
fn what_classes_of_storage_are_is_told_before_what_cannot_change() {
    let class = |policy: &str, key: &str| {
        format!(
            r#"{{"metadata":{{"name":"c"}},"provisioner":"p","reclaimPolicy":"{policy}",
            "volumeBindingMode":"Immediate","parameters":{{"{key}":"b"}}}}"#
        )
    };
    let told = wrong("storage.v1.StorageClass", "", Some(&class("Delete", "a")), &class("Keep", "b"));
    assert_eq!(
        told,
        [
            r#"reclaimPolicy: Unsupported value: "Keep": supported values: "Delete", "Retain""#,
            r#"parameters: Invalid value: {"b":"b"}: field is immutable"#,
            r#"reclaimPolicy: Invalid value: "Keep": field is immutable"#,
        ]
    );
}
