//! Volume plugins: what a pod mounts.
