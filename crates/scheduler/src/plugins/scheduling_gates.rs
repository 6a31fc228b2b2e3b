use std::sync::Arc;

use crate::PodInfo;
use crate::framework::{Actions, Interest, Plugin, Point, Points, Source, Status};

/// A pod with scheduling gates is not tried (KEP-3521).
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreEnqueue])
    }

    fn pre_enqueue(&self, pod: &Arc<PodInfo>) -> Result<(), Status> {
        if pod.gates.is_empty() {
            return Ok(());
        }
        Err(Status::unresolvable(format!("waiting for scheduling gates: [{}]", pod.gates.join(" "))))
    }

    fn interests(&self) -> Vec<Interest> {
        vec![Interest::of(Source::TargetPod, Actions::POD_GATES_GONE)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    #[test]
    fn gates_are_named() {
        let gated = pod("a", json!({"schedulingGates": [{"name": "x.io/a"}, {"name": "x.io/b"}]}));
        let status = SchedulingGates.pre_enqueue(&gated).unwrap_err();
        assert_eq!(status.to_string(), "waiting for scheduling gates: [x.io/a x.io/b]");
        assert!(SchedulingGates.pre_enqueue(&pod("a", json!({}))).is_ok());
    }
}
