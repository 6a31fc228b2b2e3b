//! Which groups and versions clients are told of first.

use super::service::ApiService;
use std::collections::BTreeMap;

/// Priorities of an APIService's group and version.
pub(super) type Priority = (i64, i64);

/// The groups that this server has, with upstream's priorities of group and version. The aggregator's own group has no
/// APIService and comes before all.
const LOCAL: [(&str, &str, i64, i64); 21] = [
    ("", "v1", 18_000, 1),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("apps", "v1", 17_800, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("resource.k8s.io", "v1", 16_200, 21),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
];
/// The aggregator's own group, above all that an APIService may ask for.
const FIRST: (&str, Priority) = ("apiregistration.k8s.io", (20_001, 0));
/// What definitions bring.
pub(super) const CUSTOM: Priority = (1000, 100);

/// What this server has by itself: group, version, priorities.
pub(super) fn local() -> impl Iterator<Item = (&'static str, &'static str, Priority)> {
    LOCAL.iter().map(|(group, version, of_group, of_version)| (*group, *version, (*of_group, *of_version)))
}

/// The priorities of what this server serves, where no APIService says others.
fn usual(group: &str, version: &str) -> Priority {
    match group {
        group if group == FIRST.0 => FIRST.1,
        _ => local().find(|(g, v, _)| (*g, *v) == (group, version)).map_or(CUSTOM, |(_, _, priority)| priority),
    }
}

/// In which order documents name groups of the same priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ties {
    /// By their names: the aggregated document.
    Group,
    /// By the names of APIServices, which begin with the version: the list of groups.
    Service,
}

/// Groups (but the one without a name) with their versions, in the order in which clients are told of them; the first
/// version is the preferred one.
pub(super) fn order<'a>(
    versions: impl Iterator<Item = (&'a str, &'a str)>,
    services: &BTreeMap<String, ApiService>,
    ties: Ties,
) -> Vec<(String, Vec<String>)> {
    let mut groups: BTreeMap<&str, Vec<(Priority, &str)>> = BTreeMap::new();
    for (group, version) in versions.filter(|(group, _)| !group.is_empty()) {
        let service = services.get(&super::service::name_of(group, version));
        let priority = service.map_or_else(|| usual(group, version), |s| s.priority);
        let all = groups.entry(group).or_default();
        if !all.iter().any(|(_, known)| *known == version) {
            all.push((priority, version));
        }
    }
    let mut out: Vec<(i64, String, &str, Vec<&str>)> = Vec::new();
    for (group, mut versions) in groups {
        versions.sort_by(|(a, a_version), (b, b_version)| {
            b.1.cmp(&a.1).then_with(|| trireme_extensions::version::order(a_version, b_version))
        });
        let most = versions.iter().map(|(priority, _)| priority.0).max().unwrap_or_default();
        let least = versions
            .iter()
            .filter(|(priority, _)| priority.0 == most)
            .map(|(_, version)| super::service::name_of(group, version))
            .min();
        let tie = match ties {
            Ties::Group => group.to_owned(),
            Ties::Service => least.unwrap_or_default(),
        };
        out.push((most, tie, group, versions.into_iter().map(|(_, version)| version).collect()));
    }
    out.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let owned = |versions: Vec<&str>| versions.into_iter().map(str::to_owned).collect();
    out.into_iter().map(|(_, _, group, versions)| (group.to_owned(), owned(versions))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(group: &str, version: &str, priority: Priority) -> (String, ApiService) {
        let service = ApiService { group: group.into(), version: version.into(), priority, ..ApiService::default() };
        (super::super::service::name_of(group, version), service)
    }

    fn ordered(services: &BTreeMap<String, ApiService>, all: &[(&str, &str)], ties: Ties) -> Vec<String> {
        let groups = order(all.iter().copied(), services, ties);
        groups.into_iter().map(|(group, versions)| format!("{group}:{}", versions.join(","))).collect()
    }

    #[test]
    fn higher_priorities_come_first_and_names_break_ties() {
        let all = [
            ("b.example.com", "v1"),
            ("a.example.com", "v1beta1"),
            ("a.example.com", "v2"),
            ("apps", "v1"),
            ("autoscaling", "v1"),
            ("autoscaling", "v2"),
            ("c.example.com", "v1alpha1"),
            ("apiregistration.k8s.io", "v1"),
            ("", "v1"),
        ];
        let none = BTreeMap::new();
        let usual = ["apiregistration.k8s.io:v1", "apps:v1", "autoscaling:v2,v1"];
        let rest = ["a.example.com:v2,v1beta1", "b.example.com:v1", "c.example.com:v1alpha1"];
        assert_eq!(ordered(&none, &all, Ties::Group), [usual, rest].concat());
        let rest = ["b.example.com:v1", "c.example.com:v1alpha1", "a.example.com:v2,v1beta1"];
        assert_eq!(ordered(&none, &all, Ties::Service), [usual, rest].concat());
        let services = BTreeMap::from([
            service("c.example.com", "v1alpha1", (19_000, 1)),
            service("a.example.com", "v1beta1", (100, 200)),
            service("a.example.com", "v2", (100, 100)),
        ]);
        let usual = ["apiregistration.k8s.io:v1", "c.example.com:v1alpha1", "apps:v1", "autoscaling:v2,v1"];
        let wanted = [&usual[..], &["b.example.com:v1", "a.example.com:v1beta1,v2"][..]].concat();
        assert_eq!(ordered(&services, &all, Ties::Group), wanted);
    }
}
