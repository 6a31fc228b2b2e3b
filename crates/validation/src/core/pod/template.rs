//! Pod templates, wherever they are.

use super::annotations;
use crate::{Errors, Place, metadata};

pub(super) fn check(template: &Place<'_>, errors: &mut Errors) {
    let meta = template.child("metadata");
    // Upstream tells these without `metadata`.
    if let Some(labels) = meta.field("labels") {
        let place = template.child("labels").with(labels.value);
        metadata::labels(&place, errors);
    }
    let spec = template.child("spec");
    if let Some(given) = meta.field("annotations") {
        let place = template.child("annotations").with(given.value);
        metadata::annotations(&place, errors);
        annotations::check(&place, &spec, errors);
        annotations::match_fields(&place, &spec, errors);
    }
    if !spec.list("ephemeralContainers").is_empty() {
        errors.forbidden(&spec.child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}
