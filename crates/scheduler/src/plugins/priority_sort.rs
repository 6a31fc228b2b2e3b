use crate::PodInfo;
use crate::framework::{Plugin, Point, Points};

/// Pods of a higher priority go first.
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::QueueSort])
    }

    fn rank(&self, pod: &PodInfo) -> i64 {
        i64::from(pod.priority)
    }
}
