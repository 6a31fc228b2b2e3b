//! Which remembered clients must be forgotten after a change.

use std::collections::{BTreeMap, BTreeSet};

use crate::nft::{Data, Element, Key};

/// Frontends with session affinity: family, whether by node port, key; and their endpoints.
pub(super) type Sticky = BTreeMap<(bool, bool, Key), BTreeSet<Key>>;

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

/// Whether an element of an affinity map points to an endpoint that its frontend has.
pub(super) fn holds(sticky: &Sticky, node_port: bool, ipv6: bool, element: &Element) -> bool {
    let Some(frontend) = frontend_of(node_port, ipv6, element) else { return false };
    match (&element.data, sticky.get(&frontend)) {
        (Data::Value(endpoint), Some(endpoints)) => endpoints.contains(endpoint),
        _ => false,
    }
}

/// The frontend in the key of an affinity map: what follows the client's address.
fn frontend_of(node_port: bool, ipv6: bool, element: &Element) -> Option<(bool, bool, Key)> {
    let client = if ipv6 { 16 } else { 4 };
    Some((ipv6, node_port, Key(element.key.0.get(client..)?.to_vec())))
}

impl Changed {
    /// The affinity maps to be looked through: whether by node port, and family.
    pub(super) fn maps(&self) -> BTreeSet<(bool, bool)> {
        self.0.keys().map(|(ipv6, node_port, _)| (*node_port, *ipv6)).collect()
    }

    /// Whether an element of an affinity map points to an endpoint that is gone.
    pub(super) fn concerns(&self, node_port: bool, ipv6: bool, element: &Element) -> bool {
        let known = frontend_of(node_port, ipv6, element).is_some_and(|frontend| self.0.contains_key(&frontend));
        known && !holds(&self.0, node_port, ipv6, element)
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
        let key = || Key([&[192, 0, 2, 1], frontend.0.as_slice()].concat());
        let remembered = |last| Element::new(key(), Data::Value(endpoint(last)));
        assert!(changed.concerns(false, false, &remembered(2)));
        assert!(!changed.concerns(false, false, &remembered(3)));
        assert!(super::changed(&after, &after).maps().is_empty());
    }
}
