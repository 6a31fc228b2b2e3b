//! How fast the number of pods may follow what the metrics ask for.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// Nothing that is older counts: the longest window of the API is an hour.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);
/// Without rules of its own a target grows to twice its size, or to four pods, in one step.
const SCALE_UP_FACTOR: i64 = 2;
const SCALE_UP_LEAST: i64 = 4;

/// What was recommended and done for one target.
#[derive(Debug, Default)]
pub(super) struct History {
    recommendations: Vec<(Timestamp, i32)>,
    /// By how many pods the target grew.
    ups: Vec<(Timestamp, i32)>,
    downs: Vec<(Timestamp, i32)>,
}

/// What is asked for, and between which numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) current: i32,
    pub(super) desired: i32,
    pub(super) min: i32,
    pub(super) max: i32,
}

/// What is done, and why it is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) replicas: i32,
    /// For the condition `AbleToScale`.
    pub(super) able: (&'static str, &'static str),
    /// For the condition `ScalingLimited`.
    pub(super) limited: bool,
    pub(super) limit: (&'static str, &'static str),
}

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: (&str, &str) = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: (&str, &str) = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

impl History {
    /// A target that is seen first counts as recommended as it is.
    pub(super) fn begin(&mut self, current: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    /// Remembers that the number of pods was changed.
    pub(super) fn scaled(&mut self, from: i32, to: i32, now: Timestamp) {
        let list = if to > from { &mut self.ups } else { &mut self.downs };
        list.push((now, from.abs_diff(to).try_into().unwrap_or(i32::MAX)));
        list.retain(|(at, _)| now.duration_since(*at) < REMEMBERED);
    }

    /// Brings what the metrics ask for within the rules. `window` is the stabilization of scale-downs that say nothing.
    pub(super) fn settle(
        &mut self,
        request: Request,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        window: SignedDuration,
        now: Timestamp,
    ) -> Settled {
        let settled = match behavior {
            None => {
                let highest = self.highest(request.desired, window, now);
                let able = if highest == request.desired { READY } else { DOWN_STABILIZED };
                let (replicas, limit) = within_defaults(Request { desired: highest, ..request });
                Settled { replicas, able, limited: replicas != highest, limit }
            }
            Some(behavior) => {
                let default = HPAScalingRules::default();
                let up = behavior.scale_up.as_ref().unwrap_or(&default);
                let down = behavior.scale_down.as_ref().unwrap_or(&default);
                let stable = self.stabilized(request, up, down, window, now);
                let able = match (stable == request.desired, request.desired >= request.current) {
                    (true, _) => READY,
                    (false, true) => UP_STABILIZED,
                    (false, false) => DOWN_STABILIZED,
                };
                let (replicas, limit) = self.within_rates(Request { desired: stable, ..request }, up, down, now);
                Settled { replicas, able, limited: replicas != stable, limit }
            }
        };
        self.recommendations.push((now, request.desired));
        self.recommendations.retain(|(at, _)| now.duration_since(*at) < REMEMBERED);
        settled
    }

    fn highest(&self, desired: i32, window: SignedDuration, now: Timestamp) -> i32 {
        let recent = self.recommendations.iter().filter(|(at, _)| now.duration_since(*at) <= window);
        recent.map(|(_, replicas)| *replicas).fold(desired, i32::max)
    }

    /// What is now, unless all of what was recommended lately is above or below it.
    fn stabilized(
        &self,
        request: Request,
        up: &HPAScalingRules,
        down: &HPAScalingRules,
        window: SignedDuration,
        now: Timestamp,
    ) -> i32 {
        let seconds = |rules: &HPAScalingRules| {
            rules.stabilization_window_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()))
        };
        let up_window = seconds(up).unwrap_or(SignedDuration::ZERO);
        let down_window = seconds(down).unwrap_or(window);
        let recent = |window: SignedDuration| {
            let young = self.recommendations.iter().filter(move |(at, _)| now.duration_since(*at) < window);
            young.map(|(_, replicas)| *replicas)
        };
        let lowest = recent(up_window).fold(request.desired, i32::min);
        let highest = recent(down_window).fold(request.desired, i32::max);
        request.current.max(lowest).min(highest)
    }

    fn within_rates(
        &self,
        request: Request,
        up: &HPAScalingRules,
        down: &HPAScalingRules,
        now: Timestamp,
    ) -> (i32, (&'static str, &'static str)) {
        let Request { current, desired, min, max } = request;
        if desired > current {
            let rate = self.rate(current, up, true, now).max(current);
            let (most, why) = if max > rate { (rate, UP_LIMIT) } else { (max, TOO_MANY) };
            if desired > most {
                return (most, why);
            }
        } else if desired < current {
            let rate = self.rate(current, down, false, now).min(current);
            let (least, why) = if min < rate { (rate, DOWN_LIMIT) } else { (min, TOO_FEW) };
            if desired < least {
                return (least, why);
            }
        }
        (desired, WITHIN)
    }

    /// To which number of pods the policies of a direction let a target go.
    fn rate(&self, current: i32, rules: &HPAScalingRules, up: bool, now: Timestamp) -> i32 {
        let select = rules.select_policy.as_deref().unwrap_or("Max");
        if select == "Disabled" {
            return current;
        }
        let proposals = rules.policies.iter().flatten().map(|policy| {
            let period = SignedDuration::from_secs(policy.period_seconds.into());
            let changed = |list: &[(Timestamp, i32)]| -> i64 {
                let young = list.iter().filter(|(at, _)| now.duration_since(*at) < period);
                young.map(|(_, change)| i64::from(*change)).sum()
            };
            // How many there were when the policy's period began.
            let began = i64::from(current) - changed(&self.ups) + changed(&self.downs);
            let (value, share) = (i64::from(policy.value), f64::from(policy.value) / 100.0);
            // Upstream's floats are part of the answer: ten pods less 90 % are none.
            match (policy.type_.as_str(), up) {
                // Rounded up, for else a small target would never grow.
                ("Percent", true) => (began as f64 * (1.0 + share)).ceil() as i64,
                ("Percent", false) => (began as f64 * (1.0 - share)) as i64,
                (_, true) => began + value,
                (_, false) => began - value,
            }
        });
        // `Max` lets through the greatest change: upwards the highest number, downwards the lowest.
        let highest = (select == "Min") != up;
        let chosen = if highest { proposals.max() } else { proposals.min() };
        let chosen = chosen.unwrap_or(if up { i64::from(i32::MAX) } else { 0 });
        i32::try_from(chosen.clamp(i64::from(i32::MIN), i64::from(i32::MAX))).unwrap_or(current)
    }
}

fn within_defaults(request: Request) -> (i32, (&'static str, &'static str)) {
    let Request { current, desired, min, max } = request;
    let limit = (SCALE_UP_FACTOR * i64::from(current)).max(SCALE_UP_LEAST);
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let (most, why) = if max > limit { (limit, UP_LIMIT) } else { (max, TOO_MANY) };
    match desired {
        n if n < min => (min, TOO_FEW),
        n if n > most => (most, why),
        n => (n, WITHIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second)
    }

    fn history(recommended: &[(i64, i32)], ups: &[(i64, i32)], downs: &[(i64, i32)]) -> History {
        let dated = |list: &[(i64, i32)]| list.iter().map(|(second, n)| (at(*second), *n)).collect();
        History { recommendations: dated(recommended), ups: dated(ups), downs: dated(downs) }
    }

    const WINDOW: SignedDuration = SignedDuration::from_mins(5);

    #[test]
    fn without_rules_growth_is_limited_and_shrinking_is_slow() {
        for (recommended, current, desired, expected, able, limit) in [
            (&[][..], 3, 5, 5, "ReadyForNewScale", "DesiredWithinRange"),
            (&[], 1, 9, 4, "ReadyForNewScale", "ScaleUpLimit"),
            (&[], 10, 30, 20, "ReadyForNewScale", "ScaleUpLimit"),
            (&[], 80, 150, 100, "ReadyForNewScale", "TooManyReplicas"),
            (&[], 5, 1, 2, "ReadyForNewScale", "TooFewReplicas"),
            (&[(800, 7), (500, 9)], 8, 3, 7, "ScaleDownStabilized", "DesiredWithinRange"),
        ] {
            let request = Request { current, desired, min: 2, max: 100 };
            let settled = history(recommended, &[], &[]).settle(request, None, WINDOW, at(1000));
            assert_eq!((settled.replicas, settled.able.0, settled.limit.0), (expected, able, limit), "{request:?}");
        }
    }

    #[test]
    fn policies_limit_the_rate() {
        let percent = |value: i32| json!({"type": "Percent", "value": value, "periodSeconds": 60});
        let pods = |value: i32| json!({"type": "Pods", "value": value, "periodSeconds": 60});
        for (direction, select, policies, current, desired, ups, downs, expected, limit) in [
            ("scaleUp", "Max", json!([percent(100), pods(4)]), 1, 50, &[][..], &[][..], 5, "ScaleUpLimit"),
            ("scaleUp", "Max", json!([percent(100), pods(4)]), 10, 50, &[], &[], 20, "ScaleUpLimit"),
            ("scaleUp", "Min", json!([percent(100), pods(4)]), 10, 50, &[], &[], 14, "ScaleUpLimit"),
            ("scaleUp", "Disabled", json!([pods(4)]), 10, 50, &[], &[], 10, "ScaleUpLimit"),
            ("scaleUp", "Max", json!([pods(4)]), 10, 50, &[(990, 3)], &[], 11, "ScaleUpLimit"),
            ("scaleUp", "Max", json!([pods(4)]), 10, 50, &[(990, 9)], &[], 10, "ScaleUpLimit"),
            ("scaleUp", "Max", json!([pods(4)]), 10, 50, &[(900, 9)], &[], 14, "ScaleUpLimit"),
            ("scaleUp", "Max", json!([pods(4)]), 10, 50, &[], &[(990, 2)], 16, "ScaleUpLimit"),
            ("scaleUp", "Max", json!([percent(900)]), 50, 500, &[], &[], 100, "TooManyReplicas"),
            ("scaleUp", "Max", json!([percent(10)]), 1, 5, &[], &[], 2, "ScaleUpLimit"),
            ("scaleDown", "Max", json!([percent(10), pods(4)]), 50, 2, &[], &[], 45, "ScaleDownLimit"),
            ("scaleDown", "Min", json!([percent(10), pods(4)]), 50, 2, &[], &[], 46, "ScaleDownLimit"),
            ("scaleDown", "Max", json!([pods(4)]), 50, 2, &[], &[(990, 3)], 49, "ScaleDownLimit"),
            ("scaleDown", "Max", json!([percent(100)]), 50, 0, &[], &[], 1, "TooFewReplicas"),
            ("scaleDown", "Max", json!([percent(90)]), 10, 0, &[], &[], 1, "TooFewReplicas"),
            ("scaleDown", "Disabled", json!([pods(4)]), 50, 2, &[], &[], 50, "ScaleDownLimit"),
        ] {
            let rules = json!({"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": policies});
            let behavior = serde_json::from_value(json!({direction: rules, "scaleDown": rules})).unwrap();
            let request = Request { current, desired, min: 1, max: 100 };
            let settled = history(&[], ups, downs).settle(request, Some(&behavior), WINDOW, at(1000));
            assert_eq!((settled.replicas, settled.limit.0), (expected, limit), "{direction} {select} {policies}");
            assert!(settled.limited);
        }
    }

    #[test]
    fn windows_hold_back_in_both_directions() {
        let behavior = |up: i32, down: i32| {
            let rules = |seconds: i32| {
                json!({"stabilizationWindowSeconds": seconds, "selectPolicy": "Max",
                "policies": [{"type": "Percent", "value": 1000, "periodSeconds": 60}]})
            };
            serde_json::from_value(json!({"scaleUp": rules(up), "scaleDown": rules(down)})).unwrap()
        };
        for (up, down, recommended, current, desired, expected, able) in [
            (0, 0, &[(995, 5)][..], 10, 20, 20, "ReadyForNewScale"),
            (60, 0, &[(995, 12), (900, 1)], 10, 20, 12, "ScaleUpStabilized"),
            (0, 60, &[(995, 8), (900, 30)], 10, 2, 8, "ScaleDownStabilized"),
            // Between what was recommended lately, nothing changes.
            (60, 60, &[(995, 5), (990, 15)], 10, 12, 10, "ScaleUpStabilized"),
        ] {
            let request = Request { current, desired, min: 1, max: 100 };
            let settled = history(recommended, &[], &[]).settle(request, Some(&behavior(up, down)), WINDOW, at(1000));
            assert_eq!((settled.replicas, settled.able.0), (expected, able), "{up} {down} {desired}");
        }
    }

    #[test]
    fn a_history_does_not_grow_without_end() {
        let mut history = History::default();
        for look in 0..1_000 {
            history.settle(Request { current: 1, desired: 2, min: 1, max: 3 }, None, WINDOW, at(look * 15));
            history.scaled(1, 2, at(look * 15));
        }
        assert_eq!((history.recommendations.len(), history.ups.len()), (240, 240));
    }
}
