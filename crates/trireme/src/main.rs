//! The `trireme` binary: command line, configuration, and the wiring of components into processes.

fn main() {}
