use std::collections::BTreeMap;
use std::fmt;

use crate::framework::{Rejections, Status};

/// Why no node can take a pod. Its text is what users see in the pod's condition and event.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// What was rejected before any node was looked at.
    pub before: Option<Status>,
    /// What `PostFilter` had to say.
    pub after: String,
    /// By slot: 0 where nothing was rejected, else one more than the number of the status.
    by_slot: Vec<u32>,
    statuses: Vec<Status>,
    /// What holds for nodes that were not looked at.
    absent: Option<Status>,
}

impl Diagnosis {
    /// Of a cluster of so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }

    /// All nodes were rejected at once.
    pub fn rejected_at_once(nodes: usize, status: Status) -> Self {
        Self { nodes, absent: Some(status.clone()), before: Some(status), ..Self::default() }
    }

    /// The node of a slot was rejected.
    pub fn reject(&mut self, slot: usize, status: Status) {
        let number = self.number(status);
        self.set(slot, number);
    }

    /// Takes over a status that will be given to many nodes; gives its number.
    pub fn number(&mut self, status: Status) -> u32 {
        // Most nodes are rejected for one of a handful of reasons.
        let at = self.statuses.iter().rev().take(16).position(|known| *known == status);
        let at = match at {
            Some(back) => self.statuses.len() - 1 - back,
            None => {
                self.statuses.push(status);
                self.statuses.len() - 1
            }
        };
        u32::try_from(at + 1).unwrap_or(u32::MAX)
    }

    /// The node of a slot was rejected with a status of this number.
    pub fn set(&mut self, slot: usize, number: u32) {
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, 0);
        }
        if let Some(place) = self.by_slot.get_mut(slot) {
            *place = number;
        }
    }

    /// What holds for all nodes that were not looked at.
    pub fn set_absent(&mut self, status: Status) {
        self.absent = Some(status);
    }

    /// What a `PostFilter` plugin had to say.
    pub fn add_after(&mut self, why: &str) {
        if !self.after.is_empty() && !why.is_empty() {
            self.after.push_str(", ");
        }
        self.after.push_str(why);
    }

    /// The plugins that rejected nodes, each once.
    pub fn rejected_by(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        for status in self.before.iter().chain(&self.statuses).chain(&self.absent) {
            if !status.plugin.is_empty() && !names.contains(&status.plugin) {
                names.push(status.plugin);
            }
        }
        names
    }

    /// Whether a plugin waits for something that is under way.
    pub fn pending(&self) -> bool {
        self.before.iter().chain(&self.statuses).any(Status::is_pending)
    }
}

impl Rejections for Diagnosis {
    fn of(&self, slot: usize) -> Option<&Status> {
        match self.by_slot.get(slot) {
            Some(0) | None => self.absent.as_ref(),
            Some(number) => self.statuses.get(*number as usize - 1),
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        if let Some(before) = &self.before {
            write!(f, " {before}.")?;
        } else {
            let mut counts = vec![0_usize; self.statuses.len() + 1];
            for number in &self.by_slot {
                if let Some(count) = counts.get_mut(*number as usize) {
                    *count += 1;
                }
            }
            let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
            for (status, count) in self.statuses.iter().zip(counts.iter().skip(1)).filter(|(_, count)| **count > 0) {
                for reason in &status.reasons {
                    *reasons.entry(reason).or_default() += count;
                }
            }
            let looked_at: usize = counts.iter().skip(1).sum();
            let absent = self.nodes.saturating_sub(looked_at);
            for reason in self.absent.iter().flat_map(|status| &status.reasons).filter(|_| absent > 0) {
                *reasons.entry(reason).or_default() += absent;
            }
            if !reasons.is_empty() {
                write!(f, " {}.", phrases(&reasons))?;
            }
        }
        if self.after.is_empty() { Ok(()) } else { write!(f, " {}", self.after) }
    }
}

/// Counted reasons as text. Upstream sorts the finished phrases, so that counts come in dictionary order.
pub fn phrases(reasons: &BTreeMap<&str, usize>) -> String {
    let mut phrases: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    phrases.sort();
    phrases.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::Code;

    #[test]
    fn reasons_are_counted_and_sorted() {
        let mut diagnosis = Diagnosis::new(3);
        let both = vec!["Insufficient memory".into(), "Insufficient cpu".into()];
        diagnosis.reject(0, Status::several(Code::Unschedulable, both).by("NodeResourcesFit"));
        diagnosis.reject(1, Status::unschedulable("Insufficient cpu").by("NodeResourcesFit"));
        diagnosis.reject(2, Status::unresolvable("node(s) were unschedulable").by("NodeUnschedulable"));
        assert_eq!(
            diagnosis.to_string(),
            "0/3 nodes are available: 1 Insufficient memory, 1 node(s) were unschedulable, 2 Insufficient cpu."
        );
        assert_eq!(diagnosis.rejected_by(), ["NodeResourcesFit", "NodeUnschedulable"]);
        diagnosis.after = "preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.".into();
        assert!(
            diagnosis
                .to_string()
                .ends_with(". preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.")
        );
        assert_eq!(Diagnosis::new(0).to_string(), "no nodes available to schedule pods");
        let at_once = Diagnosis::rejected_at_once(2, Status::unresolvable("waits for a claim").by("VolumeBinding"));
        assert_eq!(at_once.to_string(), "0/2 nodes are available: waits for a claim.");
        assert_eq!(at_once.of(1).map(|status| status.code), Some(Code::Unresolvable));
    }
}
