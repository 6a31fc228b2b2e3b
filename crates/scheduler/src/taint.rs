use serde::Deserialize;

/// A taint of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// Key.
    pub key: Box<str>,
    /// Value, may be empty.
    pub value: Box<str>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: Box<str>,
}

/// A toleration of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Toleration {
    /// Key, empty for all keys.
    pub key: Box<str>,
    /// `Equal` (also when empty), `Exists`, and by number `Lt` and `Gt` (KEP-5471).
    pub operator: Box<str>,
    /// Value.
    pub value: Box<str>,
    /// Effect, empty for all effects.
    pub effect: Box<str>,
}

impl Taint {
    /// Whether pods that do not tolerate it are kept away.
    pub fn repels(&self) -> bool {
        matches!(&*self.effect, "NoSchedule" | "NoExecute")
    }

    /// The taint that stands for a cordoned node.
    pub fn unschedulable() -> Self {
        Self { key: "node.kubernetes.io/unschedulable".into(), value: "".into(), effect: "NoSchedule".into() }
    }
}

impl Toleration {
    /// Whether a taint is tolerated.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if !self.effect.is_empty() && self.effect != taint.effect || !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        let numbers = || Some((taint.value.parse::<i64>().ok()?, self.value.parse::<i64>().ok()?));
        match &*self.operator {
            "" | "Equal" => self.value == taint.value,
            "Exists" => true,
            "Lt" => numbers().is_some_and(|(taint, bound)| taint < bound),
            "Gt" => numbers().is_some_and(|(taint, bound)| taint > bound),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_match_as_the_api_says() {
        let taint = Taint { key: "k".into(), value: "5".into(), effect: "NoSchedule".into() };
        let tolerated = |key: &str, operator: &str, value: &str, effect: &str| {
            Toleration { key: key.into(), operator: operator.into(), value: value.into(), effect: effect.into() }
                .tolerates(&taint)
        };
        assert!(tolerated("", "Exists", "", ""));
        assert!(tolerated("k", "", "5", ""));
        assert!(tolerated("k", "Exists", "", "NoSchedule"));
        assert!(!tolerated("k", "Exists", "", "NoExecute"));
        assert!(!tolerated("k", "Equal", "6", ""));
        assert!(tolerated("k", "Lt", "6", ""));
        assert!(!tolerated("k", "Gt", "6", ""));
    }
}
