# Everything that CI runs.
check: format lint docs test

format:
    cargo fmt --all --check

lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

test:
    cargo test --workspace

# Licences, sources and banned crates (needs cargo-deny).
deny:
    cargo deny check licenses bans sources

# More crashes than CI has time for; a seed that failed is repeated by ENGRAM_SEED=… just soak.
soak crashes="20000" kills="20":
    ENGRAM_CRASHES={{crashes}} cargo test --release -p engram-core --test crash_simulation -- --nocapture
    ENGRAM_KILLS={{kills}} cargo test --release -p engram-cli --test kill -- --nocapture

# What docs/performance.md is made of.
bench:
    cargo bench -p engram-storage --bench wal
    cargo bench -p engram-core --bench recovery
    cargo bench -p engram-core --bench recall
