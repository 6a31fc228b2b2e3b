//! Tests with clients that are not ours: see `tests/`.
