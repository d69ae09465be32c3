# What a person would type. Each line works without `just`, too.

# The main job on real records, in under a minute.
demo:
    cargo run --release --bin kv-cli -- demo

# All tests.
test:
    cargo test

# What CI runs.
ci:
    .ci/run

fmt:
    cargo fmt --all

lint:
    cargo clippy --all-targets -- -D warnings

doc:
    cargo doc --no-deps --open

# Lookups beside a hashbrown map.
lookup *ARGS:
    cargo run --release -p store-benches --bin lookup -- {{ARGS}}

# This store beside others and beside what the machine can do; see benches/compare/README.md.
compare *ARGS:
    cargo run --release -p store-bench-compare -- {{ARGS}}

# Real records on each backing with each kind of guard: all that `just records` makes.
backings: records
    CISTERN_TEST_RECORDS=/tmp/packages.jsonl cargo test -p kv-cli --test cli every_backing

# Two writers and two readers on overlapping keys for a minute.
overlap *ARGS:
    cargo run --release -p store-benches --bin overlap -- {{ARGS}}

# Writers killed and stopped while they hold a guard.
killed-writer *ARGS:
    cargo run --release -p store-benches --bin killed-writer -- {{ARGS}}

# 100,000 processes killed, most while they hold a guard.
kill-storm *ARGS:
    cargo run --release -p store-benches --bin kill-storm -- {{ARGS}}

# An order for what processes that are killed were answered, in 10,000 histories.
linearize *ARGS:
    cargo run --release -p store-benches --bin linearize -- {{ARGS}}

# Each state that a crash can leave, a million of them.
crash-states *ARGS:
    cargo run --release -p store-benches --bin crash-states -- {{ARGS}}

# The store with one rule taken out at a time, before all that is there to find it.
mutants *ARGS:
    cargo build --release -p store-benches
    cargo run --release -p store-benches --bin mutants -- {{ARGS}}

# Interleavings of the core's own code, chosen before each access to shared memory.
interleavings:
    RUSTFLAGS='--cfg interleave' CARGO_TARGET_DIR=target/interleave cargo test --release -p store-core --test interleavings

# The arena written 50 times over, with sizes that drift.
churn *ARGS:
    cargo run --release -p store-benches --bin churn -- {{ARGS}}

# Stores filled until they refuse.
full *ARGS:
    cargo run --release -p store-benches --bin full -- {{ARGS}}

# What an item costs beside its key and value; memcached and Redis beside it, if they are there.
overhead *ARGS:
    cargo run --release -p store-benches --bin overhead -- {{ARGS}}

# A small store that grows to 20 million items while it is read.
growth *ARGS:
    cargo run --release -p store-benches --bin growth -- {{ARGS}}

# A million items whose keys are all replaced 100 times.
structure *ARGS:
    cargo run --release -p store-benches --bin structure -- {{ARGS}}

# Hits of the cache mode on recorded traces, beside exact policies and other caches.
hit-ratio *ARGS:
    cargo run --release -p store-benches --bin hit-ratio -- {{ARGS}}

# How much of the arena holds live items in cache mode.
usable *ARGS:
    cargo run --release -p store-benches --bin usable -- {{ARGS}}

# Items with times to live under a steady load.
expiry *ARGS:
    cargo run --release -p store-benches --bin expiry -- {{ARGS}}

# What a flood in one namespace does to the hit ratio of another.
tenants *ARGS:
    cargo run --release -p store-benches --bin tenants -- {{ARGS}}

# What a put takes that makes room by eviction.
eviction *ARGS:
    cargo run --release -p store-benches --bin eviction -- {{ARGS}}

# 200 writer processes at once on 64 MiB.
many-writers *ARGS:
    cargo run --release -p store-benches --bin many-writers -- {{ARGS}}

# Fuzz one target: see fuzz/README.md.
fuzz TARGET SECONDS='60':
    mkdir -p fuzz/corpus/{{TARGET}}
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{TARGET}} fuzz/corpus/{{TARGET}} fuzz/seeds/{{TARGET}} -- -max_total_time={{SECONDS}} -timeout=10 -max_len=600

# The real records of the README: this machine's Debian package index.
records:
    apt-cache dumpavail | python3 kv-cli/examples/apt-to-jsonl.py > /tmp/packages.jsonl
