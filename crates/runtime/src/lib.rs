//! The container runtime behind CRI: images, snapshots, sandboxes, containers.

pub mod images;
