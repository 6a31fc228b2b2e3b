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

# The release binary.
build:
    cargo build --release -p trireme

# What CI runs.
ci:
    .ci/run

# Licences, advisories and duplicate versions of dependencies (needs cargo-deny).
deny:
    cargo deny check
