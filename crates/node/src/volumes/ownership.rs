//! Whose a pod's volumes are.

use trireme_schema::Value;

/// Whose the files of a pod's volumes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ownership {
    /// The group (`fsGroup`).
    pub(super) group: Option<u32>,
    /// The user that all containers run as, if it is one.
    pub(super) user: Option<u32>,
}

impl Ownership {
    pub(super) fn of(pod: &Value) -> Self {
        let number = |value: Option<&Value>| value.and_then(Value::as_int).and_then(|n| u32::try_from(n).ok());
        let whole = pod.at(&["spec", "securityContext", "runAsUser"]);
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let mut users = lists
            .into_iter()
            .flat_map(|list| pod.list_at(&["spec", list]))
            .map(|c| number(c.at(&["securityContext", "runAsUser"]).or(whole)));
        let first = users.next().flatten();
        Self {
            group: number(pod.at(&["spec", "securityContext", "fsGroup"])),
            user: first.filter(|_| users.all(|u| u == first)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn a_user_counts_only_when_all_containers_have_it() {
        for (spec, user) in [
            (r#"{"securityContext":{"runAsUser":7},"containers":[{},{}]}"#, Some(7)),
            (r#"{"securityContext":{"runAsUser":7},"containers":[{},{"securityContext":{"runAsUser":8}}]}"#, None),
            (r#"{"containers":[{"securityContext":{"runAsUser":8}},{}]}"#, None),
            (r#"{"containers":[{}]}"#, None),
        ] {
            let pod = json::parse(format!("{{\"spec\":{spec}}}").as_bytes()).unwrap();
            assert_eq!(Ownership::of(&pod).user, user, "{spec}");
        }
    }
}
