use std::collections::HashMap;
use std::sync::Arc;

use crate::PodInfo;
use crate::framework::{Actions, ClusterEvent, Hint, Plugin, Profile, Reach, Source, Status};
use crate::queue::Rules;

/// The profiles of a scheduler, by the scheduler name that pods give.
#[derive(Default)]
pub struct Profiles(HashMap<Box<str>, Profile>);

impl Profiles {
    /// These profiles.
    pub fn new(profiles: impl IntoIterator<Item = Profile>) -> Self {
        Self(profiles.into_iter().map(|profile| (profile.name.clone(), profile)).collect())
    }

    /// The profile of a scheduler name.
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.0.get(name)
    }

    /// All profiles.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.0.values()
    }

    /// Whether any plugin asks for events of this kind.
    pub fn care(&self, event: &ClusterEvent) -> bool {
        self.iter().any(|profile| profile.cares(event))
    }

    /// Each plugin once, though several profiles may share it.
    pub fn plugins(&self) -> Vec<Arc<dyn Plugin>> {
        let mut plugins: Vec<Arc<dyn Plugin>> = Vec::new();
        for enabled in self.iter().flat_map(Profile::plugins) {
            if !plugins.iter().any(|known| Arc::ptr_eq(known, &enabled.plugin)) {
                plugins.push(Arc::clone(&enabled.plugin));
            }
        }
        plugins
    }
}

impl Rules for Profiles {
    fn gate(&self, pod: &Arc<PodInfo>) -> Result<(), Status> {
        self.get(&pod.scheduler).map_or(Ok(()), |profile| profile.pre_enqueue(pod))
    }

    fn rank(&self, pod: &PodInfo) -> i64 {
        self.get(&pod.scheduler).map_or(0, |profile| profile.rank(pod))
    }

    fn hint(&self, pod: &Arc<PodInfo>, rejected_by: &[&'static str], event: &ClusterEvent) -> Hint {
        // A pod that nobody rejected for a reason of his own may be helped by anything; so may one that asks for
        // something else than before, in a way that no plugin has a word for.
        if rejected_by.is_empty() || event.source == Source::TargetPod && event.actions == Actions::OTHER {
            return Hint::Queue;
        }
        self.get(&pod.scheduler).map_or(Hint::Skip, |profile| profile.hint(pod, rejected_by, event))
    }

    fn alike(&self, pod: &PodInfo, rejected_by: &[&'static str]) -> bool {
        self.get(&pod.scheduler).is_some_and(|profile| {
            let mut rejecting = profile.plugins().iter().filter(|enabled| rejected_by.contains(&enabled.plugin.name()));
            rejecting.all(|enabled| enabled.plugin.reach(pod) != Reach::Pod)
        })
    }
}
