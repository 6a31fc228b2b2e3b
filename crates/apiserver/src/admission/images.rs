//! AlwaysPullImages: no pod runs an image that is on its node only because somebody else may pull it.

use super::Attributes;
use trireme_schema::field::{self, Path};
use trireme_schema::{Status, Value};

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn is_asked(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> bool {
    let pods = attributes.is("", "pods", "") || attributes.is("", "pods", "ephemeralcontainers");
    pods && attributes.writes() && old.is_none_or(|old| images(object).iter().any(|image| !images(old).contains(image)))
}

fn images(pod: &Value) -> Vec<&str> {
    LISTS.iter().flat_map(|list| pod.list_at(&["spec", list])).map(|c| c.str_at(&["image"])).collect()
}

/// Lets new images always be pulled.
pub(super) fn always_pull(attributes: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if !is_asked(attributes, object, old) {
        return Ok(());
    }
    for list in LISTS {
        let containers = object.at_mut(&["spec", list]).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(|c| c.set_at(&["imagePullPolicy"], "Always"));
    }
    let volumes = object.at_mut(&["spec", "volumes"]).and_then(Value::as_array_mut);
    for volume in volumes.into_iter().flatten().filter(|v| v.get("image").is_some()) {
        volume.set_at(&["image", "pullPolicy"], "Always");
    }
    Ok(())
}

/// Refuses images that need not be pulled.
pub(super) fn check_pulled(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !is_asked(attributes, object, old) {
        return Ok(());
    }
    let mut errors = Vec::new();
    let mut expect = |path: Path, policy: &str| {
        if policy != "Always" {
            errors.push(field::Error::not_supported(&path, policy, &["Always"]));
        }
    };
    let spec = Path::new("spec");
    for list in LISTS {
        for (i, container) in object.list_at(&["spec", list]).iter().enumerate() {
            expect(spec.child(list).index(i).child("imagePullPolicy"), container.str_at(&["imagePullPolicy"]));
        }
    }
    for (i, volume) in object.list_at(&["spec", "volumes"]).iter().enumerate() {
        if volume.get("image").is_some() {
            let path = spec.child("volumes").index(i).child("image").child("pullPolicy");
            expect(path, volume.str_at(&["image", "pullPolicy"]));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(attributes.forbidden(object, &field::aggregate(&errors))) }
}
