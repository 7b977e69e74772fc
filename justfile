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

# Everything that can lose a memory, longer than CI has time for: `just soak --help` names the amounts. Prints its seed first,
# and takes it back with --seed; ends with what was tried and what was lost.
soak *arguments:
    cargo test --release -p engram-cli --test soak -- {{arguments}}

# The defects that are planted into the log, and how soon each part of the suite finds them.
planted:
    cargo test -p engram-core --features planted-defects --test planted_defects -- --nocapture
    cargo test -p engram-cli --features planted-defects --test mounted_disk --test block_replay planted -- --nocapture

# Schedules of the group commit, one by one.
interleavings schedules="20000":
    ENGRAM_SCHEDULES={{schedules}} cargo test --release -p engram-storage --features shuttle --test interleavings -- --nocapture

# Fuzzes the log, so many seconds each target.
fuzz seconds="60":
    tests/fuzz/run {{seconds}}

# Which lines of the log its own tests and the crash simulation do not run (needs cargo-llvm-cov; on a toolchain without
# llvm-tools also LLVM_COV and LLVM_PROFDATA, of rustc's LLVM version).
coverage crashes="20000":
    ENGRAM_CRASHES={{crashes}} cargo llvm-cov --locked -p engram-storage -p engram-core --lib --test crash_simulation \
        --ignore-filename-regex 'engram-core/|/tests' --show-missing-lines

# What docs/performance.md is made of.
bench:
    cargo bench -p engram-storage --bench wal
    cargo bench -p engram-core --bench recovery
    cargo bench -p engram-core --bench recall
    cargo bench -p engram-core --bench vectors
    cargo bench -p engram-core --bench words

# How well questions find what belongs to them (needs Python and what benches/recall_quality.py names).
quality what="mails":
    cargo build --release -p engram-cli
    python3 benches/recall_quality.py {{what}}
