//! Which volumes are attached to a node, and which are detached from it.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

/// After so long a volume is detached from a node that is not healthy although it may still be mounted there.
const MOST_WAIT: Duration = Duration::from_secs(360);

/// A volume of a CSI driver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Volume {
    pub(super) driver: String,
    pub(super) handle: String,
    /// The name of its PersistentVolume.
    pub(super) name: String,
    /// Whether it may be on one node only.
    pub(super) exclusive: bool,
}

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeState {
    /// Whether the volumes of the node are for us to attach.
    pub(super) managed: bool,
    pub(super) healthy: bool,
    pub(super) out_of_service: bool,
    /// The names of the volumes that may be mounted; none when nobody knows.
    pub(super) in_use: Option<BTreeSet<String>>,
}

/// An attachment to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) name: String,
    pub(super) volume: Option<Volume>,
    pub(super) driver: String,
    pub(super) attached: bool,
    pub(super) deleting: bool,
    /// For how long it has not been wanted any more.
    pub(super) unwanted: Duration,
}

/// What is to be done with one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Attach(Volume),
    /// It is on other nodes, from which it has to go first.
    Refuse(Volume),
    /// Verified when the node has to say once more that the volume is not in use.
    Detach {
        attachment: String,
        verify: bool,
    },
    /// It may be mounted: detached by force after this time, if the node does not get well.
    Wait(Duration),
}

impl Volume {
    /// The name under which nodes know the volume.
    pub(super) fn unique(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }

    /// The name of its attachment to a node, as kubelets look for it.
    pub(super) fn attachment(&self, node: &str) -> String {
        let digest = digest(&SHA256, format!("{}{}{node}", self.handle, self.driver).as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("csi-{hex}")
    }
}

impl NodeState {
    fn may_use(&self, attachment: &Attachment) -> bool {
        let Some(in_use) = &self.in_use else { return true };
        match &attachment.volume {
            Some(volume) => in_use.contains(&volume.unique()),
            // Of a volume that is gone only the driver is known.
            None => in_use.iter().any(|name| name.starts_with(&format!("kubernetes.io/csi/{}^", attachment.driver))),
        }
    }
}

/// Decides for one node. Detaching comes first: a pod that moved waits for it.
pub(super) fn plan(
    node: &str,
    state: &NodeState,
    wanted: &[Volume],
    attachments: &[Attachment],
    elsewhere: impl Fn(&Volume) -> bool,
) -> Vec<Step> {
    let names: BTreeSet<String> = wanted.iter().map(|volume| volume.attachment(node)).collect();
    let mut steps = Vec::new();
    for attachment in attachments.iter().filter(|a| !a.deleting && !names.contains(&a.name)) {
        let forced = !state.healthy && attachment.unwanted >= MOST_WAIT;
        let may_use = state.may_use(attachment);
        steps.push(if !may_use || forced || state.out_of_service {
            Step::Detach { attachment: attachment.name.clone(), verify: !forced && !state.out_of_service }
        } else {
            Step::Wait(MOST_WAIT.saturating_sub(attachment.unwanted).max(Duration::from_secs(1)))
        });
    }
    if state.managed {
        for volume in wanted {
            let there = attachments.iter().find(|attachment| attachment.name == volume.attachment(node));
            // One that is being taken away has to be gone before it is made again.
            if there.is_none() {
                let refused = volume.exclusive && elsewhere(volume);
                steps.push(if refused { Step::Refuse(volume.clone()) } else { Step::Attach(volume.clone()) });
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(handle: &str) -> Volume {
        Volume { driver: "d".into(), handle: handle.into(), name: format!("pv-{handle}"), exclusive: true }
    }

    fn attached(handle: &str, unwanted: u64) -> Attachment {
        Attachment {
            name: volume(handle).attachment("n"),
            volume: Some(volume(handle)),
            driver: "d".into(),
            attached: true,
            deleting: false,
            unwanted: Duration::from_secs(unwanted),
        }
    }

    fn state(healthy: bool, in_use: &[&str]) -> NodeState {
        let in_use = in_use.iter().map(|handle| volume(handle).unique()).collect();
        NodeState { managed: true, healthy, out_of_service: false, in_use: Some(in_use) }
    }

    #[test]
    fn names_are_those_that_kubelets_know() {
        assert_eq!(volume("h").unique(), "kubernetes.io/csi/d^h");
        let name = volume("h").attachment("n");
        // sha256 of "hdn".
        assert_eq!(&name[..12], "csi-9072ed11");
        assert_eq!(name.len(), 68);
    }

    #[test]
    fn what_is_wanted_is_attached_and_what_is_not_in_use_is_detached() {
        let detach = |handle: &str, verify: bool| Step::Detach { attachment: volume(handle).attachment("n"), verify };
        let wait = |seconds: u64| Step::Wait(Duration::from_secs(seconds));
        let out = NodeState { out_of_service: true, ..state(true, &["a"]) };
        let gone = NodeState { healthy: false, in_use: None, ..state(false, &[]) };
        let unmanaged = NodeState { managed: false, ..state(true, &[]) };
        for (state, wanted, attachments, elsewhere, expected) in [
            (state(true, &[]), vec![volume("a")], vec![], false, vec![Step::Attach(volume("a"))]),
            (state(true, &[]), vec![volume("a")], vec![], true, vec![Step::Refuse(volume("a"))]),
            (state(true, &[]), vec![volume("a")], vec![attached("a", 0)], false, vec![]),
            (state(true, &[]), vec![], vec![attached("a", 0)], false, vec![detach("a", true)]),
            (state(true, &["a"]), vec![], vec![attached("a", 0)], false, vec![wait(360)]),
            (state(true, &["a"]), vec![], vec![attached("a", 1000)], false, vec![wait(1)]),
            (state(false, &["a"]), vec![], vec![attached("a", 100)], false, vec![wait(260)]),
            (state(false, &["a"]), vec![], vec![attached("a", 360)], false, vec![detach("a", false)]),
            (out, vec![], vec![attached("a", 0)], false, vec![detach("a", false)]),
            (gone.clone(), vec![], vec![attached("a", 0)], false, vec![wait(360)]),
            (gone, vec![], vec![attached("a", 360)], false, vec![detach("a", false)]),
            (unmanaged, vec![volume("a")], vec![], false, vec![]),
            (
                state(true, &[]),
                vec![volume("b")],
                vec![attached("a", 0)],
                false,
                vec![detach("a", true), Step::Attach(volume("b"))],
            ),
        ] {
            assert_eq!(plan("n", &state, &wanted, &attachments, |_| elsewhere), expected, "{state:?} {wanted:?}");
        }
    }

    #[test]
    fn a_shared_volume_is_attached_to_several_nodes_and_one_that_goes_is_awaited() {
        let shared = Volume { exclusive: false, ..volume("a") };
        let steps = plan("n", &state(true, &[]), std::slice::from_ref(&shared), &[], |_| true);
        assert_eq!(steps, [Step::Attach(shared)]);
        let going = Attachment { deleting: true, ..attached("a", 0) };
        assert!(plan("n", &state(true, &[]), &[volume("a")], &[going], |_| false).is_empty());
    }
}
