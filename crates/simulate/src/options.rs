use crate::{Rate, Span, Zone};
use std::time::Duration;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// What their names begin with; a number follows.
    pub prefix: String,
    /// Zones, which nodes take in turn; none when empty.
    pub zones: Vec<Zone>,
    /// What a node has.
    pub size: Size,
    /// Further labels.
    pub labels: Vec<(String, String)>,
    /// Taints: key, value, effect.
    pub taints: Vec<(String, String, String)>,
    /// How long things take.
    pub times: Times,
    /// What goes wrong.
    pub trouble: Trouble,
    /// What chance begins with: the same seed draws the same times.
    pub seed: u64,
    /// Trireme's version, which nodes tell as that of their runtime.
    pub version: String,
    /// The version of Kubernetes that nodes tell.
    pub kubernetes: String,
}

/// What a node has, as quantities.
#[derive(Clone, Debug)]
pub struct Size {
    /// Processors.
    pub cpu: String,
    /// Memory.
    pub memory: String,
    /// Ephemeral storage.
    pub storage: String,
    /// The most pods.
    pub pods: u32,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From when a node hears of a pod until its containers run.
    pub start: Span,
    /// How long an image is pulled that the node does not have yet; on top of the start.
    pub pull: Option<Span>,
    /// How long containers run whose pods are to end.
    pub run: Span,
    /// How long containers take to stop when they are told to.
    pub stop: Span,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// Pods in which a container fails.
    pub fail_pods: Rate,
    /// Nodes that are not heard of for a while.
    pub flap_nodes: Rate,
    /// How long that is.
    pub flap_for: Duration,
    /// A zone whose nodes are gone for good after a time.
    pub kill: Option<(String, Duration)>,
}

impl Default for Size {
    fn default() -> Self {
        Self { cpu: "32".into(), memory: "256Gi".into(), storage: "1Ti".into(), pods: 110 }
    }
}

impl Default for Times {
    fn default() -> Self {
        let millis = |least, most| Span::new(Duration::from_millis(least), Duration::from_millis(most));
        Self { start: millis(50, 2000), pull: None, run: millis(10_000, 10_000), stop: millis(100, 1000) }
    }
}

impl Options {
    /// The name of a node.
    pub fn name(&self, index: usize) -> String {
        let width = self.nodes.saturating_sub(1).to_string().len();
        format!("{}{index:0width$}", self.prefix)
    }

    /// Whether a name is that of one of the nodes.
    pub fn is_ours(&self, name: &str) -> bool {
        let number = name.strip_prefix(self.prefix.as_str()).and_then(|number| number.parse().ok());
        number.is_some_and(|index| index < self.nodes && self.name(index) == name)
    }

    /// The zone of a node.
    pub fn zone(&self, index: usize) -> Option<&Zone> {
        index.checked_rem(self.zones.len()).and_then(|at| self.zones.get(at))
    }
}

#[cfg(test)]
pub(crate) fn some(nodes: usize) -> Options {
    Options {
        nodes,
        prefix: "s-".into(),
        zones: vec!["eu/a".parse().unwrap(), "b".parse().unwrap()],
        size: Size::default(),
        labels: vec![("x".into(), "y".into())],
        taints: Vec::new(),
        times: Times::default(),
        trouble: Trouble::default(),
        seed: 1,
        version: "1.2.3".into(),
        kubernetes: "v1.36.2".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_length_and_ours_are_known() {
        let options = some(100);
        assert_eq!((options.name(7), options.name(99)), ("s-07".into(), "s-99".into()));
        for (name, ours) in [("s-07", true), ("s-7", false), ("s-100", false), ("t-07", false), ("s-", false)] {
            assert_eq!(options.is_ours(name), ours, "{name}");
        }
        assert_eq!(some(1).name(0), "s-0");
    }

    #[test]
    fn nodes_take_zones_in_turn() {
        let zones: Vec<&str> =
            (0..3).map(|i| some(3).zone(i).unwrap().name.clone()).map(|n| if n == "a" { "a" } else { "b" }).collect();
        assert_eq!(zones, ["a", "b", "a"]);
        assert_eq!(Options { zones: Vec::new(), ..some(3) }.zone(1), None);
    }
}
