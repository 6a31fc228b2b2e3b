//! The reconcilers that turn desired state into objects, a file each.
