use std::collections::BTreeMap;

use serde::Deserialize;

use crate::framework::{Point, Points};

/// Which plugins take part, by point.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Plugins {
    /// At all points that a plugin has.
    pub multi_point: PluginSet,
    /// See [`Point::PreEnqueue`].
    pub pre_enqueue: PluginSet,
    /// See [`Point::QueueSort`].
    pub queue_sort: PluginSet,
    /// See [`Point::PreFilter`].
    pub pre_filter: PluginSet,
    /// See [`Point::Filter`].
    pub filter: PluginSet,
    /// See [`Point::PostFilter`].
    pub post_filter: PluginSet,
    /// See [`Point::PreScore`].
    pub pre_score: PluginSet,
    /// See [`Point::Score`].
    pub score: PluginSet,
    /// See [`Point::Reserve`].
    pub reserve: PluginSet,
    /// See [`Point::Permit`].
    pub permit: PluginSet,
    /// See [`Point::PreBind`].
    pub pre_bind: PluginSet,
    /// See [`Point::Bind`].
    pub bind: PluginSet,
    /// See [`Point::PostBind`].
    pub post_bind: PluginSet,
}

/// Which plugins take part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginSet {
    /// These do, beside the default ones.
    pub enabled: Vec<Named>,
    /// These do not; `*` is all default ones.
    pub disabled: Vec<Named>,
}

/// A plugin by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Named {
    /// Name.
    pub name: String,
    /// Weight of its scores; 0 for the usual one.
    pub weight: i64,
}

/// Where a plugin takes part in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Points.
    pub points: Points,
    /// Weight of its scores.
    pub weight: i64,
}

/// How plugins are used, by name.
pub type Uses = BTreeMap<String, Use>;

/// The plugins of each point in their order.
pub type Order = Vec<(Point, Vec<String>)>;

impl Plugins {
    /// The set of a point.
    pub fn at(&self, point: Point) -> &PluginSet {
        match point {
            Point::PreEnqueue => &self.pre_enqueue,
            Point::QueueSort => &self.queue_sort,
            Point::PreFilter => &self.pre_filter,
            Point::Filter => &self.filter,
            Point::PostFilter => &self.post_filter,
            Point::PreScore => &self.pre_score,
            Point::Score => &self.score,
            Point::Reserve => &self.reserve,
            Point::Permit => &self.permit,
            Point::PreBind => &self.pre_bind,
            Point::Bind => &self.bind,
            Point::PostBind => &self.post_bind,
        }
    }

    /// All sets, with their names.
    pub fn sets(&self) -> impl Iterator<Item = (&'static str, &PluginSet)> {
        let point = |point: Point| (field(point), self.at(point));
        std::iter::once(("multiPoint", &self.multi_point)).chain(Point::ALL.into_iter().map(point))
    }

    /// The plugins of each point in their order, and how each is used. `defaults` are the default plugins with their
    /// weights; `can` tells where a plugin can take part.
    pub fn expand(&self, defaults: &[(&str, i64)], can: impl Fn(&str) -> Points) -> (Uses, Order) {
        let everywhere = self.multi_point.merged(defaults);
        let mut uses = Uses::new();
        let mut order = Order::new();
        for point in Point::ALL {
            let own = self.at(point);
            let off = |name: &str| own.disabled.iter().any(|named| named.name == name || named.name == "*");
            let named = |name: &str| own.enabled.iter().any(|named| named.name == name);
            let usual: Vec<&Named> =
                everywhere.iter().filter(|plugin| can(&plugin.name).has(point) && !off(&plugin.name)).collect();
            // First those that stand here too, in the order given here; then the others of all points; then those that
            // stand only here.
            let both = own.enabled.iter().filter(|plugin| usual.iter().any(|other| other.name == plugin.name));
            let only_usual = usual.iter().copied().filter(|plugin| !named(&plugin.name));
            let only_here = own.enabled.iter().filter(|plugin| usual.iter().all(|other| other.name != plugin.name));
            let mut names = Vec::new();
            for plugin in both.chain(only_usual).chain(only_here) {
                let used = uses.entry(plugin.name.clone()).or_default();
                used.points = used.points.with(point);
                if point == Point::Score {
                    used.weight = if plugin.weight == 0 { 1 } else { plugin.weight };
                }
                names.push(plugin.name.clone());
            }
            order.push((point, names));
        }
        (uses, order)
    }
}

impl PluginSet {
    /// The default plugins with what is configured: each in its default place, new ones at the end.
    fn merged(&self, defaults: &[(&str, i64)]) -> Vec<Named> {
        let off = |name: &str| self.disabled.iter().any(|named| named.name == name || named.name == "*");
        let own = |name: &str| self.enabled.iter().find(|named| named.name == name);
        let mut merged: Vec<Named> = defaults
            .iter()
            .filter(|(name, _)| !off(name))
            .map(|(name, weight)| own(name).cloned().unwrap_or_else(|| Named { name: (*name).into(), weight: *weight }))
            .collect();
        for plugin in &self.enabled {
            if !merged.iter().any(|known| known.name == plugin.name) {
                merged.push(plugin.clone());
            }
        }
        merged
    }
}

/// The name of a point in a configuration.
fn field(point: Point) -> &'static str {
    match point {
        Point::PreEnqueue => "preEnqueue",
        Point::QueueSort => "queueSort",
        Point::PreFilter => "preFilter",
        Point::Filter => "filter",
        Point::PostFilter => "postFilter",
        Point::PreScore => "preScore",
        Point::Score => "score",
        Point::Reserve => "reserve",
        Point::Permit => "permit",
        Point::PreBind => "preBind",
        Point::Bind => "bind",
        Point::PostBind => "postBind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const DEFAULTS: [(&str, i64); 3] = [("A", 0), ("B", 2), ("C", 1)];

    fn expand(plugins: Value) -> (Uses, Vec<String>, Vec<String>) {
        let plugins: Plugins = serde_json::from_value(plugins).unwrap();
        // A filters, the others filter and score.
        let can = |name: &str| {
            if name == "A" { Points::of(&[Point::Filter]) } else { Points::of(&[Point::Filter, Point::Score]) }
        };
        let (uses, order) = plugins.expand(&DEFAULTS, can);
        let at = |point: Point| order.iter().find(|(p, _)| *p == point).unwrap().1.clone();
        (uses, at(Point::Filter), at(Point::Score))
    }

    #[test]
    fn sets_are_merged_as_upstream_merges_them() {
        for (about, plugins, filters, scores) in [
            ("nothing", json!({}), &["A", "B", "C"][..], &["B:2", "C:1"][..]),
            ("one off everywhere", json!({"multiPoint": {"disabled": [{"name": "B"}]}}), &["A", "C"], &["C:1"]),
            ("one off at a point", json!({"score": {"disabled": [{"name": "B"}]}}), &["A", "B", "C"], &["C:1"]),
            (
                "all off but one",
                json!({"score": {"disabled": [{"name": "*"}], "enabled": [{"name": "C", "weight": 7}]}}),
                &["A", "B", "C"],
                &["C:7"],
            ),
            (
                "another weight",
                json!({"score": {"enabled": [{"name": "C", "weight": 9}]}}),
                &["A", "B", "C"],
                &["C:9", "B:2"],
            ),
            ("another order", json!({"filter": {"enabled": [{"name": "C"}]}}), &["C", "A", "B"], &["B:2", "C:1"]),
            (
                "one more",
                json!({"multiPoint": {"enabled": [{"name": "D", "weight": 3}, {"name": "B", "weight": 5}]}}),
                &["A", "B", "C", "D"],
                &["B:5", "C:1", "D:3"],
            ),
        ] {
            let (uses, filter, score) = expand(plugins);
            assert_eq!(filter, filters, "{about}");
            let score: Vec<String> = score.iter().map(|name| format!("{name}:{}", uses[name].weight)).collect();
            assert_eq!(score, scores, "{about}");
        }
    }
}
