//! Which remembered clients must be forgotten after a change.

use std::collections::{BTreeMap, BTreeSet};

use crate::nft::{Data, Element, Key};

/// Frontends with session affinity: family, whether by node port, key; and their endpoints.
type Sticky = BTreeMap<(bool, bool, Key), BTreeSet<Key>>;

/// Frontends that lost endpoints, with the endpoints that they have now.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changed(Sticky);

/// What lost endpoints.
pub(super) fn changed(old: &Sticky, new: &Sticky) -> Changed {
    let nothing = BTreeSet::new();
    let lost = old.iter().filter_map(|(frontend, before)| {
        let after = new.get(frontend).unwrap_or(&nothing);
        (!before.is_subset(after)).then(|| (frontend.clone(), after.clone()))
    });
    Changed(lost.collect())
}

impl Changed {
    /// The affinity maps to be looked through: whether by node port, and family.
    pub(super) fn maps(&self) -> BTreeSet<(bool, bool)> {
        self.0.keys().map(|(ipv6, node_port, _)| (*node_port, *ipv6)).collect()
    }

    /// Whether an element of an affinity map points to an endpoint that is gone.
    pub(super) fn concerns(&self, node_port: bool, ipv6: bool, element: &Element) -> bool {
        let client = if ipv6 { 16 } else { 4 };
        let Some(frontend) = element.key.0.get(client..) else { return false };
        let frontend = (ipv6, node_port, Key(frontend.to_vec()));
        match (&element.data, self.0.get(&frontend)) {
            (Data::Value(endpoint), Some(endpoints)) => !endpoints.contains(endpoint),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_of_lost_endpoints_are_forgotten() {
        let frontend = Key::new().ip([10, 43, 0, 1].into()).protocol(crate::Protocol::Tcp).port(80);
        let endpoint = |last| Key::new().ip([10, 42, 0, last].into()).port(80);
        let place = (false, false, frontend.clone());
        let before = [(place.clone(), [endpoint(2), endpoint(3)].into())].into();
        let after = [(place, [endpoint(3)].into())].into();
        let changed = changed(&before, &after);
        let remembered = |last| Element {
            key: Key([&[192, 0, 2, 1], frontend.0.as_slice()].concat()),
            end: None,
            data: Data::Value(endpoint(last)),
        };
        assert!(changed.concerns(false, false, &remembered(2)));
        assert!(!changed.concerns(false, false, &remembered(3)));
        assert!(super::changed(&after, &after).maps().is_empty());
    }
}
