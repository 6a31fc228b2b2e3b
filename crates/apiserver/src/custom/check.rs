//! What is wrong with a custom object.

use super::{Custom, Scale};
use trireme_extensions::validate;
use trireme_schema::Value;
use trireme_schema::field::{Error, Path};

impl Custom {
    /// What is wrong with an object, or with its change, besides what holds for all objects.
    pub(crate) fn check(&self, subresource: &str, new: &Value, old: Option<&Value>) -> Vec<Error> {
        let root = Path::default();
        let mut errors = Vec::new();
        if subresource == "status" {
            let path = Path::new("status");
            if let (Some(status), Some(node)) = (new.get("status"), self.node.property("status")) {
                errors.extend(validate::update(&path, status, old.and_then(|old| old.get("status")), node));
            }
        } else {
            errors.extend(match old {
                Some(old) => validate::update(&root, new, Some(old), &self.node),
                None => validate::value(&root, new, &self.node),
            });
            errors.extend(self.scale.iter().flat_map(|scale| scale.check_spec(new)));
        }
        errors.extend(self.scale.iter().flat_map(|scale: &Scale| scale.check_status(new)));
        errors.extend(validate::embedded(&root, new, &self.node));
        // Lists that were wrong before may stay so.
        if old.is_none_or(|old| validate::lists(&root, old, &self.node).is_empty()) {
            errors.extend(validate::lists(&root, new, &self.node));
        }
        errors
    }
}
