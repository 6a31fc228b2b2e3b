//! Rows of storage and devices.

use super::{UNSET, joined};
use trireme_schema::Value;

pub(super) fn cell(kind: &str, column: &str, o: &Value) -> Value {
    match (kind, column) {
        ("StorageClass", "Provisioner") => o.str_at(&["provisioner"]).into(),
        ("StorageClass", "ReclaimPolicy") => o.str_at(&["reclaimPolicy"]).into(),
        ("StorageClass", "VolumeBindingMode") => o.str_at(&["volumeBindingMode"]).into(),
        ("StorageClass", "AllowVolumeExpansion") => o.bool_at(&["allowVolumeExpansion"]).into(),
        ("VolumeAttributesClass", "DriverName") => o.str_at(&["driverName"]).into(),
        ("VolumeAttachment", "Attacher") => o.str_at(&["spec", "attacher"]).into(),
        ("VolumeAttachment", "PV") => o.str_at(&["spec", "source", "persistentVolumeName"]).into(),
        ("VolumeAttachment", "Node") => o.str_at(&["spec", "nodeName"]).into(),
        ("VolumeAttachment", "Attached") => o.bool_at(&["status", "attached"]).into(),
        ("CSINode", "Drivers") => Value::Int(o.list_at(&["spec", "drivers"]).len() as i64),
        ("CSIDriver", "AttachRequired") => o.bool_at(&["spec", "attachRequired"]).into(),
        ("CSIDriver", "PodInfoOnMount") => o.bool_at(&["spec", "podInfoOnMount"]).into(),
        ("CSIDriver", "StorageCapacity") => o.bool_at(&["spec", "storageCapacity"]).into(),
        ("CSIDriver", "RequiresRepublish") => o.bool_at(&["spec", "requiresRepublish"]).into(),
        ("CSIDriver", "TokenRequests") => match o.list_at(&["spec", "tokenRequests"]) {
            [] => UNSET.into(),
            requests => joined(requests.iter().map(|r| r.str_at(&["audience"]))).into(),
        },
        ("CSIDriver", "Modes") => {
            joined(o.list_at(&["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str)).into()
        }
        ("ResourceClaim", "State") => claim(o).into(),
        ("ResourceSlice", "Node") => o.str_at(&["spec", "nodeName"]).into(),
        ("ResourceSlice", "Driver") => o.str_at(&["spec", "driver"]).into(),
        ("ResourceSlice", "Pool") => o.str_at(&["spec", "pool", "name"]).into(),
        _ => Value::from(""),
    }
}

fn claim(o: &Value) -> String {
    let deleted = o.at(&["metadata", "deletionTimestamp"]).is_some();
    let allocated = o.at(&["status", "allocation"]).is_some();
    let reserved = allocated && !o.list_at(&["status", "reservedFor"]).is_empty();
    let states =
        [("deleted", deleted), ("pending", !allocated && !deleted), ("allocated", allocated), ("reserved", reserved)];
    joined(states.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name))
}
