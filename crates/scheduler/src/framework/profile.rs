use std::sync::Arc;

use super::plugin::{Context, Gang, Plugin, PreFilter};
use super::{ClusterEvent, Code, CycleState, Hint, Interest, Point, Points, Status};
use crate::{NodeInfo, PodInfo};

/// A plugin as a profile uses it.
pub struct Enabled {
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// Weight of its scores.
    pub weight: i64,
    /// Where the profile asks it; a part of where it can be asked.
    pub points: Points,
    /// Its events.
    pub interests: Vec<Interest>,
}

/// The plugins that decide about the pods of one scheduler name.
pub struct Profile {
    /// Scheduler name.
    pub name: Box<str>,
    /// The share of nodes that is enough to choose from, in percent; 0 adapts to the size of the cluster.
    pub percentage: u32,
    plugins: Vec<Enabled>,
    order: [Vec<usize>; Point::ALL.len()],
}

/// A set of a profile's plugins, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask(u64);

/// What `PreFilter` found.
pub struct Prepared {
    /// Plugins that have nothing to say.
    pub skipped: Mask,
    /// The only nodes that can take the pod, and the plugins that say so.
    pub only: Option<(Vec<Box<str>>, Vec<&'static str>)>,
}

// === impl Mask ===

impl Mask {
    /// Every plugin.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether a plugin is in the set.
    pub const fn has(self, plugin: usize) -> bool {
        self.0 & (1 << plugin) != 0
    }

    /// Adds a plugin.
    pub const fn add(&mut self, plugin: usize) {
        self.0 |= 1 << plugin;
    }

    /// Those that are not in the other set.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that are in either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

// === impl Enabled ===

impl Enabled {
    /// A plugin at all its points.
    pub fn new(plugin: Arc<dyn Plugin>, weight: i64) -> Self {
        Self { weight, points: plugin.points(), interests: plugin.interests(), plugin }
    }
}

// === impl Profile ===

impl Profile {
    /// How many plugins a profile can have.
    pub const MAX_PLUGINS: usize = 64;

    /// A profile that asks these plugins at all their points, in this order.
    pub fn new(name: &str, plugins: Vec<Enabled>) -> Self {
        let order = Point::ALL.map(|point| {
            (0..plugins.len().min(Self::MAX_PLUGINS))
                .filter(|at| plugins.get(*at).is_some_and(|enabled| enabled.points.has(point)))
                .collect()
        });
        Self { name: name.into(), percentage: 0, plugins, order }
    }

    /// The same, with another order at one point; names that are not enabled there are ignored.
    #[must_use]
    pub fn ordered(mut self, point: Point, names: &[&str]) -> Self {
        if let Some(order) = self.order.get_mut(point as usize) {
            let place = |at: &usize| {
                let name = self.plugins.get(*at).map_or("", |enabled| enabled.plugin.name());
                names.iter().position(|n| *n == name).unwrap_or(names.len())
            };
            order.sort_by_key(place);
        }
        self
    }

    /// The plugins of a point in their order, with their numbers.
    pub fn at(&self, point: Point) -> impl Iterator<Item = (usize, &Enabled)> {
        let order = self.order.get(point as usize).map(Vec::as_slice).unwrap_or_default();
        order.iter().filter_map(|at| Some((*at, self.plugins.get(*at)?)))
    }

    /// All plugins.
    pub fn plugins(&self) -> &[Enabled] {
        &self.plugins
    }

    /// A plugin by its name.
    pub fn plugin(&self, name: &str) -> Option<&Arc<dyn Plugin>> {
        self.plugins.iter().map(|enabled| &enabled.plugin).find(|plugin| plugin.name() == name)
    }

    /// `PreEnqueue`: the first no.
    ///
    /// # Errors
    /// Why the pod may not be tried yet.
    pub fn pre_enqueue(&self, pod: &Arc<PodInfo>) -> Result<(), Status> {
        for (_, enabled) in self.at(Point::PreEnqueue) {
            enabled.plugin.pre_enqueue(pod).map_err(|status| status.by(enabled.plugin.name()))?;
        }
        Ok(())
    }

    /// The pods with which this one is placed.
    pub fn gang(&self, pod: &PodInfo) -> Option<Gang> {
        pod.group.as_ref()?;
        self.plugins.iter().find_map(|enabled| enabled.plugin.gang(pod))
    }

    /// `QueueSort`: the rank of a pod.
    pub fn rank(&self, pod: &PodInfo) -> i64 {
        self.at(Point::QueueSort).next().map_or(0, |(_, enabled)| enabled.plugin.rank(pod))
    }

    /// Whether an event may help a pod that these plugins rejected.
    pub fn hint(&self, pod: &Arc<PodInfo>, rejected_by: &[&'static str], event: &ClusterEvent) -> Hint {
        let helps = self.plugins.iter().any(|enabled| {
            rejected_by.contains(&enabled.plugin.name())
                && enabled.interests.iter().any(|interest| interest.covers(event))
                && enabled.plugin.hint(pod, event) == Hint::Queue
        });
        if helps { Hint::Queue } else { Hint::Skip }
    }

    /// Whether any plugin asks for events of this kind.
    pub fn cares(&self, event: &ClusterEvent) -> bool {
        self.plugins.iter().flat_map(|enabled| &enabled.interests).any(|interest| interest.covers(event))
    }

    /// `PreFilter`: prepares the state.
    ///
    /// # Errors
    /// Why no node can take the pod.
    pub fn pre_filter(&self, cx: Context<'_>, state: &mut CycleState) -> Result<Prepared, Status> {
        let mut prepared = Prepared { skipped: Mask::default(), only: None };
        for (at, enabled) in self.at(Point::PreFilter) {
            let name = enabled.plugin.name();
            match enabled.plugin.pre_filter(cx, state).map_err(|status| status.by(name))? {
                PreFilter::Proceed => {}
                PreFilter::Skip => prepared.skipped.add(at),
                PreFilter::Only(names) => match &mut prepared.only {
                    None => prepared.only = Some((names, vec![name])),
                    Some((both, by)) => {
                        both.retain(|node| names.contains(node));
                        by.push(name);
                        if both.is_empty() {
                            by.sort_unstable();
                            let several = by.join(" ");
                            let reason = format!("node(s) didn't satisfy plugin(s) [{several}] simultaneously");
                            return Err(Status::unresolvable(reason).by(name));
                        }
                    }
                },
            }
        }
        Ok(prepared)
    }

    /// `Filter`: the first no of these plugins.
    ///
    /// # Errors
    /// Why the node cannot take the pod.
    pub fn filter(&self, cx: Context<'_>, state: &CycleState, node: &NodeInfo, of: Mask) -> Result<(), Status> {
        for (at, enabled) in self.at(Point::Filter) {
            if of.has(at) {
                enabled.plugin.filter(cx, state, node).map_err(|status| status.by(enabled.plugin.name()))?;
            }
        }
        Ok(())
    }

    /// Takes into the state that a pod were on a node, or were not.
    pub fn suppose(
        &self,
        cx: Context<'_>,
        state: &mut CycleState,
        of: Mask,
        pod: &Arc<PodInfo>,
        node: &NodeInfo,
        there: bool,
    ) {
        for (at, enabled) in self.at(Point::PreFilter) {
            match there {
                _ if !of.has(at) => {}
                true => enabled.plugin.add_pod(cx, state, pod, node),
                false => enabled.plugin.remove_pod(cx, state, pod, node),
            }
        }
    }

    /// `Filter`, with the pods for which room is being made on the node (of this pod's priority and above) taken for
    /// placed; and without them too, for they may end up elsewhere while this pod relies on them.
    ///
    /// # Errors
    /// Why the node cannot take the pod.
    pub fn filter_with_nominated(
        &self,
        cx: Context<'_>,
        state: &CycleState,
        node: &NodeInfo,
        of: Mask,
    ) -> Result<(), Status> {
        let expected = cx.nominator.on(&node.name);
        let mut expected =
            expected.iter().filter(|other| other.priority >= cx.pod.priority && other.uid != cx.pod.uid).peekable();
        if expected.peek().is_some() {
            let (mut node, mut state) = (node.clone(), state.clone());
            for pod in expected {
                node.add(Arc::clone(pod));
                self.suppose(cx, &mut state, of, pod, &node, true);
            }
            self.filter(cx, &state, &node, of)?;
        }
        self.filter(cx, state, node, of)
    }

    /// `Reserve`: all plugins, or none.
    ///
    /// # Errors
    /// The first no; what the others reserved is given back.
    pub fn reserve(&self, pod: &Arc<PodInfo>, node: &str, state: &mut CycleState) -> Result<(), Status> {
        for (_, enabled) in self.at(Point::Reserve) {
            if let Err(status) = enabled.plugin.reserve(pod, node, state) {
                self.unreserve(pod, node, state);
                return Err(status.by(enabled.plugin.name()));
            }
        }
        Ok(())
    }

    /// Gives back what was reserved, last first.
    pub fn unreserve(&self, pod: &Arc<PodInfo>, node: &str, state: &mut CycleState) {
        let plugins: Vec<_> = self.at(Point::Reserve).collect();
        for (_, enabled) in plugins.into_iter().rev() {
            enabled.plugin.unreserve(pod, node, state);
        }
    }
}

impl Status {
    /// A status for the user of a plugin that failed.
    pub(crate) fn is_pending(&self) -> bool {
        self.code == Code::Pending
    }
}
