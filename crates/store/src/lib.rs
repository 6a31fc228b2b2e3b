//! The revisioned key space with etcd's semantics, the engines behind it, and the watch cache above it.
