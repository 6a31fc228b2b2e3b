//! Pods near pods, and away from them.

use std::sync::Arc;

use crate::framework::{
    Actions, ClusterEvent, Context, CycleState, Hint, Interest, MAX_SCORE, Plugin, Point, Points, PreFilter, PreScore,
    Reach, Source, Status,
};
use crate::index::{Count, Domain, Domains, KeyId, Kind, Nodes, Pods};
use crate::{Cluster, NodeInfo, PodInfo, Term};

/// A pod goes near the pods that it needs and away from those that it or they do not bear, and rather where it is liked.
pub struct InterPodAffinity {
    /// How much a placed pod that needed this one likes it near (`hardPodAffinityWeight`).
    pub hard_weight: i64,
    /// Whether likes of placed pods do not count for pods that have none themselves.
    pub ignore_likes_of_others: bool,
}

/// What is required.
#[derive(Clone, Default)]
struct Required {
    /// By affinity term, pods that match all affinity terms.
    affinity: Vec<Count>,
    /// How many of them there are, counted once for each term.
    found: u64,
    /// Whether the pod matches its own affinity terms: then it may be the first.
    first: bool,
    /// By anti-affinity term, pods that match it.
    anti_affinity: Vec<Count>,
    /// By key, the domains in which placed pods do not bear this one.
    repelled: Vec<(KeyId, Arc<Vec<Domain>>, Vec<u32>)>,
}

/// By key, how much each domain is liked.
#[derive(Clone, Default)]
struct Liked(Vec<(KeyId, Arc<Vec<Domain>>, Vec<i64>)>);

impl Default for InterPodAffinity {
    fn default() -> Self {
        Self { hard_weight: 1, ignore_likes_of_others: false }
    }
}

impl Required {
    fn of(cx: Context<'_>) -> Self {
        let pod = cx.pod;
        cx.cluster.with_index(|index, namespaces| {
            let all = || pod.affinity.iter().map(|term| term.pods.clone()).collect();
            let mut counts = |terms: &[Term], of: &dyn Fn(&Term) -> Vec<_>| -> Vec<Count> {
                let count = |term: &Term| {
                    let pods = Pods { selectors: of(term), living: false };
                    index.count(pods, Nodes::default(), &term.key, namespaces)
                };
                terms.iter().map(count).collect()
            };
            let affinity = counts(&pod.affinity, &|_| all());
            let anti_affinity = counts(&pod.anti_affinity, &|term| vec![term.pods.clone()]);
            let mut repelled: Vec<(KeyId, Arc<Vec<Domain>>, Vec<u32>)> = Vec::new();
            for held in index.held(&pod.shape, namespaces).into_iter().filter(|held| held.kind == Kind::Repels) {
                match repelled.iter_mut().find(|(key, ..)| *key == held.key) {
                    Some((_, _, holders)) => {
                        holders.iter_mut().zip(held.holders).for_each(|(sum, more)| *sum += more);
                    }
                    None => repelled.push((held.key, index.domains(held.key), held.holders)),
                }
            }
            let found = affinity.iter().flat_map(|count| &count.pods).map(|pods| u64::from(*pods)).sum();
            let first =
                !pod.affinity.is_empty() && Pods { selectors: all(), living: false }.select(&pod.shape, namespaces);
            Self { affinity, found, first, anti_affinity, repelled }
        })
    }

    fn is_empty(&self) -> bool {
        self.affinity.is_empty()
            && self.anti_affinity.is_empty()
            && self.repelled.iter().all(|(_, _, holders)| holders.iter().all(|holders| *holders == 0))
    }

    /// Takes into account that a pod came to the node of a slot, or went.
    fn suppose(&mut self, cx: Context<'_>, other: &PodInfo, slot: usize, came: bool) {
        let select = |selector: &crate::PodSelector, pod: &PodInfo| {
            selector.matches(&pod.namespace, &pod.labels, |name| cx.cluster.namespace(name))
        };
        let terms = &cx.pod.affinity;
        if !terms.is_empty() && terms.iter().all(|term| select(&term.pods, other)) {
            for count in &mut self.affinity {
                if count.suppose(slot, came) {
                    self.found = if came { self.found + 1 } else { self.found.saturating_sub(1) };
                }
            }
        }
        for (term, count) in cx.pod.anti_affinity.iter().zip(&mut self.anti_affinity) {
            if select(&term.pods, other) {
                count.suppose(slot, came);
            }
        }
        for term in other.anti_affinity.iter().filter(|term| select(&term.pods, cx.pod)) {
            let (key, domains) = cx.cluster.with_index(|index, _| {
                let key = index.key(&term.key);
                (key, index.domains(key))
            });
            if !self.repelled.iter().any(|(known, ..)| *known == key) {
                self.repelled.push((key, domains, Vec::new()));
            }
            if let Some((_, domains, holders)) = self.repelled.iter_mut().find(|(known, ..)| *known == key) {
                crate::index::change(holders, at(domains, slot), 1, came);
            }
        }
    }

    fn verdict(&self, slot: usize) -> Result<(), Status> {
        let mut there = true;
        for count in &self.affinity {
            match count.at(slot) {
                None => return Err(Status::unresolvable(AFFINITY)),
                Some(pods) => there &= pods > 0,
            }
        }
        let may_be_first = self.found == 0 && self.first;
        if !there && !may_be_first {
            return Err(Status::unresolvable(AFFINITY));
        }
        if self.anti_affinity.iter().any(|count| count.at(slot).is_some_and(|pods| pods > 0)) {
            return Err(Status::unschedulable("node(s) didn't match pod anti-affinity rules"));
        }
        let repels = |domains: &[Domain], holders: &[u32]| {
            holders.get(at(domains, slot) as usize).is_some_and(|holders| *holders > 0)
        };
        if self.repelled.iter().any(|(_, domains, holders)| repels(domains, holders)) {
            return Err(Status::unschedulable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }
}

const AFFINITY: &str = "node(s) didn't match pod affinity rules";

fn at(domains: &[Domain], slot: usize) -> Domain {
    domains.get(slot).copied().unwrap_or(Domains::NONE)
}

impl Liked {
    fn of(cx: Context<'_>, hard_weight: i64) -> Self {
        let pod = cx.pod;
        cx.cluster.with_index(|index, namespaces| {
            let mut liked = Self::default();
            for (weight, term) in &pod.preferred_pods {
                let pods = Pods { selectors: vec![term.pods.clone()], living: false };
                let count = index.count(pods, Nodes::default(), &term.key, namespaces);
                liked.add(index.key(&term.key), &count.domains, &count.pods, *weight);
            }
            for held in index.held(&pod.shape, namespaces) {
                let weight = match held.kind {
                    Kind::Repels => continue,
                    Kind::Needs => hard_weight,
                    Kind::Likes(weight) => weight,
                };
                let domains = index.domains(held.key);
                liked.add(held.key, &domains, &held.holders, weight);
            }
            liked
        })
    }

    fn add(&mut self, key: KeyId, domains: &Arc<Vec<Domain>>, pods: &[u32], weight: i64) {
        if weight == 0 || pods.iter().all(|pods| *pods == 0) {
            return;
        }
        if !self.0.iter().any(|(known, ..)| *known == key) {
            self.0.push((key, Arc::clone(domains), vec![0; pods.len()]));
        }
        if let Some((_, _, scores)) = self.0.iter_mut().find(|(known, ..)| *known == key) {
            scores.iter_mut().zip(pods).for_each(|(score, pods)| *score += weight * i64::from(*pods));
        }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score])
    }

    fn reach(&self, _pod: &PodInfo) -> Reach {
        Reach::Cluster
    }

    fn indifferent(&self, pod: &Arc<PodInfo>, cluster: &Cluster) -> bool {
        pod.preferred_pods.is_empty()
            && (self.ignore_likes_of_others
                || !cluster.with_index(|index, namespaces| index.is_minded(&pod.shape, namespaces)))
    }

    fn pre_filter(&self, cx: Context<'_>, state: &mut CycleState) -> Result<PreFilter, Status> {
        let required = Required::of(cx);
        if required.is_empty() {
            return Ok(PreFilter::Skip);
        }
        state.set(required);
        Ok(PreFilter::Proceed)
    }

    fn add_pod(&self, cx: Context<'_>, state: &mut CycleState, added: &Arc<PodInfo>, node: &NodeInfo) {
        if let Some(required) = state.get_mut::<Required>() {
            required.suppose(cx, added, node.slot, true);
        }
    }

    fn remove_pod(&self, cx: Context<'_>, state: &mut CycleState, removed: &Arc<PodInfo>, node: &NodeInfo) {
        if let Some(required) = state.get_mut::<Required>() {
            required.suppose(cx, removed, node.slot, false);
        }
    }

    fn filter(&self, _cx: Context<'_>, state: &CycleState, node: &NodeInfo) -> Result<(), Status> {
        state.get::<Required>().map_or(Ok(()), |required| required.verdict(node.slot))
    }

    fn pre_score(&self, cx: Context<'_>, state: &mut CycleState, _nodes: &[&NodeInfo]) -> Result<PreScore, Status> {
        if self.ignore_likes_of_others && cx.pod.preferred_pods.is_empty() {
            return Ok(PreScore::Skip);
        }
        let liked = Liked::of(cx, self.hard_weight);
        if liked.0.is_empty() {
            return Ok(PreScore::Skip);
        }
        state.set(liked);
        Ok(PreScore::Proceed)
    }

    fn score(&self, _cx: Context<'_>, state: &CycleState, node: &NodeInfo) -> i64 {
        let Some(liked) = state.get::<Liked>() else { return 0 };
        let of = |domains: &[Domain], scores: &[i64]| scores.get(at(domains, node.slot) as usize).copied().unwrap_or(0);
        liked.0.iter().map(|(_, domains, scores)| of(domains, scores)).sum()
    }

    fn normalizes(&self) -> bool {
        true
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        let (least, most) = scores.iter().fold((i64::MAX, i64::MIN), |(l, m), score| (l.min(*score), m.max(*score)));
        for score in scores {
            *score = match most.saturating_sub(least) {
                0 => 0,
                width => (MAX_SCORE as f64 * ((*score - least) as f64 / width as f64)) as i64,
            };
        }
    }

    fn interests(&self) -> Vec<Interest> {
        vec![
            Interest::of(Source::AssignedPod, Actions::ADD.and(Actions::DELETE).and(Actions::POD_LABEL)),
            Interest::of(Source::Node, Actions::ADD.and(Actions::NODE_LABEL)),
            Interest::of(Source::TargetPod, Actions::POD_LABEL),
            Interest::of(Source::Namespace, Actions::ADD.and(Actions::UPDATE)),
        ]
    }

    fn hint(&self, pod: &Arc<PodInfo>, event: &ClusterEvent) -> Hint {
        let helps = match event.source {
            Source::AssignedPod => {
                // By the names of namespaces alone, which is all that a hint knows; by labels when in doubt.
                let of = |selector: &crate::PodSelector, other: &PodInfo| {
                    selector.matches(&other.namespace, &other.labels, |_| None) || selector.by_namespace_labels()
                };
                let needs =
                    |other: &PodInfo| !pod.affinity.is_empty() && pod.affinity.iter().all(|term| of(&term.pods, other));
                let conflicts = |other: &PodInfo| {
                    pod.anti_affinity.iter().any(|term| of(&term.pods, other))
                        || other.anti_affinity.iter().any(|term| of(&term.pods, pod))
                };
                match (event.old_pod(), event.pod()) {
                    (None, Some(new)) => needs(new),
                    // With the last of them gone the pod may be the first itself.
                    (Some(old), None) => conflicts(old) || needs(old),
                    (Some(old), Some(new)) => needs(new) && !needs(old) || conflicts(old) && !conflicts(new),
                    (None, None) => true,
                }
            }
            Source::Node => event.node().is_none_or(|(_, node)| {
                let moved = |term: &Term| {
                    let (new, old) =
                        (node.labels.get(&term.key), event.old_node().map(|old| old.labels.get(&term.key)));
                    old.map_or(new.is_some(), |old| old != new)
                };
                // Who needs nobody was in somebody's way: another domain may do.
                pod.affinity.is_empty() || pod.affinity.iter().any(moved)
            }),
            _ => true,
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::Code;
    use crate::testing::{Lab, labelled, roomy};
    use serde_json::{Value, json};

    fn term(app: &str, key: &str) -> Value {
        json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
    }

    fn asking(name: &str, app: &str, kind: &str, terms: Value) -> Arc<PodInfo> {
        let affinity = json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
        labelled(name, json!({"app": app}), json!({"affinity": affinity}))
    }

    fn liking(name: &str, kind: &str, terms: &[(i64, Value)]) -> Arc<PodInfo> {
        let terms: Vec<Value> =
            terms.iter().map(|(weight, term)| json!({"weight": weight, "podAffinityTerm": term})).collect();
        let affinity = json!({kind: {"preferredDuringSchedulingIgnoredDuringExecution": terms}});
        labelled(name, json!({"app": name}), json!({"affinity": affinity}))
    }

    fn plain(name: &str, app: &str) -> Arc<PodInfo> {
        labelled(name, json!({"app": app}), json!({}))
    }

    /// Nodes a1 and a2 in zone a, b1 in zone b, and x without a zone.
    fn lab() -> Lab {
        let mut lab = Lab::default();
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
            lab.cluster.set_node(name, roomy(json!({"zone": zone, "host": name})));
        }
        lab.cluster.set_node("x", roomy(json!({"host": "x"})));
        lab
    }

    #[test]
    fn required_terms_are_upstreams() {
        let first = "node(s) didn't match pod affinity rules";
        let anti = "node(s) didn't match pod anti-affinity rules";
        let existing = "node(s) didn't satisfy existing pods anti-affinity rules";
        let plugin = InterPodAffinity::default();
        for (about, placed, pod, expected) in [
            (
                "near one that is there",
                vec![(plain("p", "db"), "a1")],
                asking("q", "web", "podAffinity", json!([term("db", "zone")])),
                [None, None, Some(first), Some(first)],
            ),
            (
                "near nobody, but itself",
                vec![],
                asking("q", "web", "podAffinity", json!([term("web", "zone")])),
                [None, None, None, Some(first)],
            ),
            ("near nobody", vec![], asking("q", "web", "podAffinity", json!([term("db", "zone")])), [Some(first); 4]),
            (
                "one pod must match all terms",
                vec![(plain("p", "db"), "a1"), (plain("r", "cache"), "b1")],
                asking("q", "web", "podAffinity", json!([term("db", "zone"), term("cache", "zone")])),
                [Some(first); 4],
            ),
            (
                "away from one that is there",
                vec![(plain("p", "db"), "a1")],
                asking("q", "web", "podAntiAffinity", json!([term("db", "host")])),
                [Some(anti), None, None, None],
            ),
            (
                "away from one that does not bear us",
                vec![(asking("p", "db", "podAntiAffinity", json!([term("web", "zone")])), "a1")],
                plain("q", "web"),
                [Some(existing), Some(existing), None, None],
            ),
        ] {
            let mut lab = lab();
            for (pod, node) in placed {
                lab.cluster.place(pod, node);
            }
            let verdicts = lab.verdicts(&plugin, &pod);
            let texts: Vec<Option<String>> =
                verdicts.iter().map(|v| v.as_ref().err().map(ToString::to_string)).collect();
            assert_eq!(texts, expected.map(|text| text.map(ToOwned::to_owned)), "{about}");
            for status in verdicts.into_iter().filter_map(Result::err) {
                assert_eq!(status.code == Code::Unresolvable, status.reasons[0] == first, "{about}");
            }
        }
    }

    #[test]
    fn a_what_if_counts_like_the_cluster_would() {
        let plugin = InterPodAffinity::default();
        let pods = [
            plain("p", "db"),
            asking("r", "db", "podAntiAffinity", json!([term("web", "zone")])),
            asking("s", "web", "podAntiAffinity", json!([term("web", "host")])),
        ];
        for asked in [
            asking("q", "web", "podAffinity", json!([term("db", "zone"), term("db", "host")])),
            asking("q", "web", "podAntiAffinity", json!([term("db", "zone"), term("web", "host")])),
            plain("q", "web"),
        ] {
            for pod in &pods {
                let (mut with, mut without) = (lab(), lab());
                for lab in [&mut with, &mut without] {
                    let base = asking("base", "db", "podAntiAffinity", json!([term("web", "host")]));
                    lab.cluster.place(base, "b1");
                }
                with.cluster.place(Arc::clone(pod), "a2");
                let text = |verdicts: Vec<Result<(), Status>>| format!("{verdicts:?}");
                let added = without.verdicts_if(&plugin, &asked, pod, "a2", true);
                assert_eq!(text(added), text(with.verdicts(&plugin, &asked)), "{} with {}", asked.key, pod.key);
                let removed = with.verdicts_if(&plugin, &asked, pod, "a2", false);
                assert_eq!(text(removed), text(without.verdicts(&plugin, &asked)), "{} without {}", asked.key, pod.key);
            }
        }
    }

    #[test]
    fn likes_add_up_over_terms_and_over_both_sides() {
        let plugin = InterPodAffinity::default();
        let mut lab = lab();
        lab.cluster.place(plain("p", "db"), "a1");
        lab.cluster.place(plain("r", "db"), "b1");
        lab.cluster.place(plain("s", "db"), "b1");
        let near = liking("q", "podAffinity", &[(10, term("db", "zone"))]);
        assert_eq!(lab.scores(&plugin, &near), [50, 50, 100, 0]);
        let away = liking("q", "podAntiAffinity", &[(10, term("db", "zone"))]);
        assert_eq!(lab.scores(&plugin, &away), [50, 50, 0, 100]);
        lab.cluster.place(liking("t", "podAffinity", &[(20, term("q", "host"))]), "a2");
        assert_eq!(lab.scores(&plugin, &near), [33, 100, 66, 0]);
        lab.cluster.place(asking("u", "u", "podAffinity", json!([term("web", "zone")])), "b1");
        assert_eq!(lab.scores(&plugin, &plain("w", "web")), [0, 0, 100, 0], "who needed us likes us near");
    }

    #[test]
    fn only_pods_that_are_near_or_were_in_the_way_help() {
        let event =
            |old: Option<Arc<PodInfo>>, new: Option<Arc<PodInfo>>| crate::events::of_assigned(old, new).unwrap();
        let plugin = InterPodAffinity::default();
        let needing = asking("q", "web", "podAffinity", json!([term("db", "zone")]));
        assert_eq!(plugin.hint(&needing, &event(None, Some(plain("p", "db")))), Hint::Queue);
        assert_eq!(plugin.hint(&needing, &event(None, Some(plain("p", "x")))), Hint::Skip);
        let repelling = asking("q", "web", "podAntiAffinity", json!([term("db", "zone")]));
        assert_eq!(plugin.hint(&repelling, &event(Some(plain("p", "db")), None)), Hint::Queue);
        assert_eq!(plugin.hint(&repelling, &event(Some(plain("p", "x")), None)), Hint::Skip);
        let repelled = asking("p", "db", "podAntiAffinity", json!([term("web", "zone")]));
        assert_eq!(plugin.hint(&plain("q", "web"), &event(Some(repelled), None)), Hint::Queue);
    }
}
