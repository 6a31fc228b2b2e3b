//! The group `coordination.k8s.io`: a table says it all.

pub(crate) const RULES: &str = include_str!("rules.txt");
