//! The conditions of an autoscaler.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Conditions as they come to be in one look; a time changes only with its status.
pub(super) struct Conditions {
    pub(super) list: Vec<HorizontalPodAutoscalerCondition>,
    now: Timestamp,
}

impl Conditions {
    pub(super) fn new(list: Vec<HorizontalPodAutoscalerCondition>, now: Timestamp) -> Self {
        Self { list, now }
    }

    pub(super) fn set(&mut self, kind: &str, status: bool, reason: &str, message: impl Into<String>) {
        let at = self.list.iter().position(|condition| condition.type_ == kind).unwrap_or_else(|| {
            let new = HorizontalPodAutoscalerCondition { type_: kind.to_owned(), ..Default::default() };
            self.list.push(new);
            self.list.len() - 1
        });
        let condition = &mut self.list[at];
        let status = if status { "True" } else { "False" };
        if condition.status != status {
            condition.last_transition_time = Some(Time(self.now));
        }
        status.clone_into(&mut condition.status);
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut first = Conditions::new(Vec::new(), at("2026-01-01T00:00:00Z"));
        first.set("AbleToScale", true, "A", "a");
        let mut second = Conditions::new(first.list, at("2026-01-01T00:01:00Z"));
        second.set("AbleToScale", true, "B", "b");
        second.set("ScalingActive", false, "C", "c");
        let told: Vec<_> = second.list.iter().map(|c| (c.reason.as_deref(), c.last_transition_time.clone())).collect();
        assert_eq!(
            told,
            [(Some("B"), Some(Time(at("2026-01-01T00:00:00Z")))), (Some("C"), Some(Time(at("2026-01-01T00:01:00Z"))))]
        );
    }
}
