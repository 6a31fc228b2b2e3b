//! Logs and metrics of Trireme itself.
