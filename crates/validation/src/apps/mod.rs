//! The group `apps`.

use crate::rules::Registry;

pub(crate) fn register(_registry: &mut Registry) {}
