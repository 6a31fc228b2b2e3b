# Everything that CI does, and what a developer needs daily. `just --list` shows all recipes.

# Type-check the workspace.
check:
    cargo check --workspace --all-targets

# Format all code.
fmt:
    cargo fmt --all

# Formatting and lints, as CI runs them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Unit, vector and integration tests.
test:
    cargo test --workspace

# Clients that are not ours: the kube crate, and the Kubernetes project's Python client (from PyPI).
test-clients:
    cargo build -p trireme
    cargo test -p trireme-clients --features kube
    tests/clients/python.sh target/debug/trireme

# A server and two agents in network namespaces of this machine (root).
test-multi-node:
    cargo build -p trireme
    tests/e2e/multi_node.sh target/debug/trireme

# The release binary.
build:
    cargo build --release -p trireme

# Measures Trireme against its budgets and peers (root, an idle machine, etcd for the comparison): a Markdown table.
# `just bench durable lists` runs only those sections; `just bench-engines` compares embedded storage engines.
bench *SECTIONS:
    cargo build --release -p trireme -p trireme-bench
    target/release/trireme-bench {{SECTIONS}}

# Our log beside fjall and redb.
bench-engines:
    cargo build --release -p trireme-bench --features engines
    target/release/trireme-bench engines

# What CI runs.
ci:
    .ci/run

# Licences, advisories and duplicate versions of dependencies (needs cargo-deny).
deny:
    cargo deny check

# Real software in a real cluster, by kubectl (needs root and Debian's archives).
accept *topics:
    cargo build -p trireme
    accept/run {{topics}}

# The README's first command, as it stands there (needs root).
accept-first:
    accept/first-commands.sh
