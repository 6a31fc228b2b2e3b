//! What a write through a (sub)resource cannot change: each kind's strategy puts it back, so nobody owns it by that.

use trireme_merge::Set;

/// The fields that writes through a (sub)resource leave alone.
pub(super) fn fields(group: &str, kind: &str, subresource: &str, has_status: bool) -> Set {
    const LABELS: &[&str] = &["metadata", "labels"];
    const METADATA: &[&str] = &["metadata"];
    const SPEC: &[&str] = &["spec"];
    const STATUS: &[&str] = &["status"];
    let paths: Vec<&[&str]> = match (group, kind, subresource) {
        ("", "Pod", "status") => {
            vec![SPEC, &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]
        }
        ("apps", "Deployment", "status") => vec![SPEC, LABELS],
        ("storage.k8s.io", "VolumeAttachment", "status") => vec![SPEC, METADATA],
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", _, "status") => vec![SPEC, METADATA],
        ("certificates.k8s.io", "CertificateSigningRequest", "approval") => {
            vec![SPEC, &["status", "certificate"]]
        }
        // Who asks, and for what, is told once; upstream counts it as put back.
        ("certificates.k8s.io", "CertificateSigningRequest", "") => vec![SPEC, STATUS],
        (_, _, "status") => vec![SPEC],
        (_, _, "finalize") => vec![STATUS],
        (_, _, "") if has_status => vec![STATUS],
        _ => Vec::new(),
    };
    Set::of_fields(paths)
}
