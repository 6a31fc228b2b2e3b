use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crate::Rejection;

/// Why no node can take a pod. Its text is what users see in the pod's condition and event.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    nodes: usize,
    reasons: BTreeMap<Cow<'static, str>, usize>,
    rejected_by: Vec<&'static str>,
    preemptable: usize,
}

impl Diagnosis {
    /// Of a cluster of so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }

    /// A plugin rejected a node.
    pub fn reject(&mut self, by: &'static str, rejection: Rejection) {
        self.blame(by);
        self.preemptable += usize::from(rejection.preemptable);
        for reason in rejection.reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    /// A plugin ruled out so many nodes beforehand.
    pub fn others(&mut self, by: &'static str, nodes: usize) {
        if nodes > 0 {
            self.blame(by);
            let reason = Cow::Borrowed("node(s) didn't satisfy plugin(s) [NodeAffinity]");
            *self.reasons.entry(reason).or_default() += nodes;
        }
    }

    /// The plugins that rejected nodes.
    pub fn rejected_by(&self) -> &[&'static str] {
        &self.rejected_by
    }

    /// On how many nodes the removal of pods might help.
    pub fn preemptable(&self) -> usize {
        self.preemptable
    }

    fn blame(&mut self, plugin: &'static str) {
        if !self.rejected_by.contains(&plugin) {
            self.rejected_by.push(plugin);
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available", self.nodes)?;
        // Upstream sorts the finished phrases as text, so that counts come in dictionary order.
        let mut phrases: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        phrases.sort();
        if phrases.is_empty() { f.write_str(".") } else { write!(f, ": {}.", phrases.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_sorted() {
        let mut diagnosis = Diagnosis::new(3);
        diagnosis.reject(
            "NodeResourcesFit",
            Rejection::preemptable(vec!["Insufficient memory".into(), "Insufficient cpu".into()]),
        );
        diagnosis.reject("NodeResourcesFit", Rejection::preemptable(vec!["Insufficient cpu".into()]));
        diagnosis.reject("NodeUnschedulable", Rejection::of("node(s) were unschedulable"));
        assert_eq!(
            diagnosis.to_string(),
            "0/3 nodes are available: 1 Insufficient memory, 1 node(s) were unschedulable, 2 Insufficient cpu."
        );
        assert_eq!(diagnosis.rejected_by(), ["NodeResourcesFit", "NodeUnschedulable"]);
        assert_eq!(Diagnosis::new(0).to_string(), "no nodes available to schedule pods");
    }
}
