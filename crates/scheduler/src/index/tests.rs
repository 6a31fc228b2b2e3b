use super::*;
use crate::shape::{PodSelector, Shapes};
use crate::testing::{node, roomy};
use crate::{Cluster, view};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use trireme_client::Key;

const APPS: [&str; 3] = ["web", "db", "cache"];
const SPACES: [&str; 3] = ["a", "b", "c"];

/// A cluster that is changed at random, and what is true of it, kept the simple way.
struct Model {
    rng: SmallRng,
    shapes: Shapes,
    cluster: Cluster,
    namespaces: NamespaceLabels,
    nodes: HashMap<String, Arc<NodeSpec>>,
    pods: HashMap<String, (Arc<PodInfo>, String)>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut model = Self {
            rng: SmallRng::seed_from_u64(seed),
            shapes: Shapes::default(),
            cluster: Cluster::default(),
            namespaces: HashMap::new(),
            nodes: HashMap::new(),
            pods: HashMap::new(),
        };
        for name in SPACES {
            model.label_namespace(name);
        }
        model
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.random_range(0..of.len())]
    }

    fn label_namespace(&mut self, name: &str) {
        let team = self.pick(&["x", "y"]);
        let labels: Labels = [("team", team)].into_iter().collect();
        self.namespaces.insert(name.into(), labels.clone());
        self.cluster.set_namespace(name, Some(labels));
    }

    fn step(&mut self) {
        let name = format!("n{}", self.rng.random_range(0..6));
        match self.rng.random_range(0..10) {
            0 | 1 => self.change_node(&name),
            2 => {
                self.cluster.remove_node(&name);
                self.nodes.remove(&name);
            }
            3 => {
                let space = self.pick(&SPACES);
                self.label_namespace(space);
            }
            4 | 5 => {
                let pod = format!("p{}", self.rng.random_range(0..30));
                if let Some((pod, _)) = self.pods.remove(&pod) {
                    self.cluster.remove(&pod.key);
                }
            }
            _ => self.place(&name),
        }
    }

    fn change_node(&mut self, name: &str) {
        let mut labels = json!({"kubernetes.io/hostname": name});
        let zone = self.pick(&["z1", "z2", "z3", ""]);
        if !zone.is_empty() {
            labels["zone"] = json!(zone);
        }
        let taints = if self.rng.random_bool(0.3) { json!([{"key": "k", "effect": "NoSchedule"}]) } else { json!([]) };
        let spec = node(labels, json!({"taints": taints}), json!({}));
        self.nodes.insert(name.into(), Arc::clone(&spec));
        self.cluster.set_node(name, spec);
    }

    fn place(&mut self, node: &str) {
        let name = format!("p{}", self.rng.random_range(0..30));
        let (app, space) = (self.pick(&APPS), self.pick(&SPACES));
        let mut meta = json!({"name": name, "namespace": space, "uid": name, "labels": {"app": app}});
        if self.rng.random_bool(0.2) {
            meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let term = self.term();
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let affinity = match self.rng.random_range(0..4) {
            0 => json!({"podAntiAffinity": {required: [term]}}),
            1 => json!({"podAffinity": {required: [term]}}),
            2 => json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": 3, "podAffinityTerm": term}]}}),
            _ => json!({}),
        };
        let pod: view::Pod = serde_json::from_value(json!({"metadata": meta, "spec": {"affinity": affinity}})).unwrap();
        let pod = Arc::new(PodInfo::read(pod, &mut self.shapes).unwrap());
        if let Some((old, _)) = self.pods.insert(name, (Arc::clone(&pod), node.into())) {
            self.cluster.remove(&old.key);
        }
        self.cluster.place(pod, node);
    }

    fn term(&mut self) -> Value {
        let app = self.pick(&APPS);
        let mut term = json!({"topologyKey": self.pick(&["zone", "kubernetes.io/hostname"]),
            "labelSelector": {"matchLabels": {"app": app}}});
        match self.rng.random_range(0..3) {
            0 => term["namespaceSelector"] = json!({"matchLabels": {"team": self.pick(&["x", "y"])}}),
            1 => term["namespaceSelector"] = json!({}),
            _ => {}
        }
        term
    }

    /// Pods by the value of a node label, counted one by one.
    fn slowly(&self, pods: &Pods, nodes: &Nodes, key: &str) -> HashMap<String, u32> {
        let mut counts = HashMap::new();
        for (name, spec) in &self.nodes {
            let Some(value) = spec.labels.get(key).filter(|_| nodes.include(name, spec)) else { continue };
            let here = self.pods.values().filter(|(_, node)| node == name);
            let count = here
                .filter(|(pod, _)| pods.select(&pod.shape, &self.namespaces) && !(pods.living && pod.terminating))
                .count();
            *counts.entry(value.to_owned()).or_insert(0) += u32::try_from(count).unwrap();
        }
        counts
    }

    /// The same from the index.
    fn quickly(&self, pods: &Pods, nodes: &Nodes, key: &str) -> HashMap<String, u32> {
        let count =
            self.cluster.with_index(|index, namespaces| index.count(pods.clone(), nodes.clone(), key, namespaces));
        let mut counts = HashMap::new();
        for node in self.cluster.nodes() {
            let domain = count.domains.get(node.slot).copied().unwrap_or(Domains::NONE);
            if domain != Domains::NONE && count.sizes[domain as usize] > 0 {
                let value = node.spec.labels.get(key).unwrap().to_owned();
                counts.insert(value, count.pods[domain as usize]);
            }
        }
        counts
    }
}

fn questions() -> Vec<(Pods, Nodes, &'static str)> {
    let mut questions = Vec::new();
    for app in APPS {
        let labels = Some(serde_json::from_value(json!({"matchLabels": {"app": app}})).unwrap());
        for namespaces in [
            Namespaces::Named(vec!["a".into()]),
            Namespaces::All,
            Namespaces::Selected(
                vec!["b".into()],
                serde_json::from_value(json!({"matchLabels": {"team": "x"}})).unwrap(),
            ),
        ] {
            for (living, key) in [(true, "zone"), (false, "kubernetes.io/hostname")] {
                let selector = PodSelector { namespaces: namespaces.clone(), labels: labels.clone() };
                let pods = Pods { selectors: vec![selector], living };
                let picky = Nodes { tolerations: living.then(Vec::new), keys: vec!["zone".into()], ..Nodes::default() };
                questions.push((pods.clone(), Nodes::default(), key));
                questions.push((pods, picky, key));
            }
        }
    }
    questions
}

#[test]
fn counts_that_follow_changes_are_those_of_a_count_one_by_one() {
    let questions = questions();
    for seed in 0..40 {
        let mut model = Model::new(seed);
        for step in 0..120 {
            model.step();
            if step % 10 != 9 {
                continue;
            }
            for (pods, nodes, key) in &questions {
                let (quick, slow) = (model.quickly(pods, nodes, key), model.slowly(pods, nodes, key));
                assert_eq!(quick, slow, "seed {seed}, step {step}: {pods:?} {nodes:?} {key}");
            }
        }
    }
}

#[test]
fn held_terms_that_follow_changes_are_those_of_the_pods_that_are_there() {
    for seed in 0..40 {
        let mut model = Model::new(seed);
        for step in 0..120 {
            model.step();
            if step % 10 != 9 {
                continue;
            }
            let asking: Vec<Arc<PodInfo>> = model.pods.values().map(|(pod, _)| Arc::clone(pod)).collect();
            for pod in asking {
                let mut slow: HashMap<(String, bool), u32> = HashMap::new();
                for (other, node) in model.pods.values() {
                    let Some(spec) = model.nodes.get(node) else { continue };
                    for (repels, term) in
                        other.anti_affinity.iter().map(|t| (true, t)).chain(other.affinity.iter().map(|t| (false, t)))
                    {
                        let selector = Pods { selectors: vec![term.pods.clone()], living: false };
                        if selector.select(&pod.shape, &model.namespaces)
                            && let Some(value) = spec.labels.get(&term.key)
                        {
                            *slow.entry((format!("{}={value}", term.key), repels)).or_default() += 1;
                        }
                    }
                }
                let mut quick: HashMap<(String, bool), u32> = HashMap::new();
                model.cluster.with_index(|index, namespaces| {
                    for held in index.held(&pod.shape, namespaces) {
                        let domains = index.domains(held.key);
                        let key =
                            ["zone", "kubernetes.io/hostname"].into_iter().find(|name| index.key(name) == held.key);
                        for (domain, holders) in held.holders.iter().enumerate().filter(|(_, holders)| **holders > 0) {
                            let slot = domains.iter().position(|of| *of as usize == domain).unwrap();
                            let value = model.cluster.at(slot).unwrap().spec.labels.get(key.unwrap()).unwrap();
                            let repels = match held.kind {
                                Kind::Repels => true,
                                Kind::Needs => false,
                                Kind::Likes(_) => continue,
                            };
                            *quick.entry((format!("{}={value}", key.unwrap()), repels)).or_default() += holders;
                        }
                    }
                });
                assert_eq!(quick, slow, "seed {seed}, step {step}, pod {}", pod.key);
            }
        }
    }
}

#[test]
fn what_nobody_uses_is_forgotten() {
    let mut cluster = Cluster::default();
    cluster.set_node("n1", roomy(json!({"zone": "a"})));
    let mut shapes = Shapes::default();
    let term = json!({"topologyKey": "zone", "labelSelector": {}});
    let affinity = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "p"}, "spec": {"affinity": affinity}});
    let pod = Arc::new(PodInfo::read(serde_json::from_value(pod).unwrap(), &mut shapes).unwrap());
    cluster.place(Arc::clone(&pod), "n1");
    let terms = |cluster: &Cluster| cluster.with_index(|index, _| (index.by_term.len(), index.by_query.len()));
    assert_eq!(terms(&cluster), (1, 1));
    cluster.remove(&Key::new("n", "p"));
    assert_eq!(terms(&cluster), (0, 0));
}
