//! `overhead`: what an item costs beside its key and its value, here and in two servers.
//!
//! The store is made as anybody makes one, without a number of items, so its index grew by itself.
//! `memcached` and `redis-server` (or `valkey-server`) take the same items, over a Unix socket, if
//! the machine has them.

mod ours;
mod peer;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use store_benches::report::{self, Outcome};
use store_benches::scratch::{Scratch, StoreArgs};
use store_benches::servers::{self, MEMCACHED, REDIS};
use store_benches::stats::rounded;
use store_benches::worker;

use ours::Parts;
use peer::Workload;

/// The most that an item may cost.
const BYTES_PER_ITEM_MAX: f64 = 36.0;

/// What an item costs beside its key and its value, here, in memcached and in Redis.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Items of 16-byte keys and 100-byte values; 1,000,000 by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(100_000..=20_000_000))]
    items: Option<u32>,
    /// Fewer items.
    #[arg(long)]
    quick: bool,
    #[arg(long, hide = true)]
    worker: Option<String>,
}

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    items: u32,
    key_bytes: usize,
    value_bytes: usize,
    /// Beside keys and values.
    bytes_per_item: f64,
    #[serde(flatten)]
    parts: Parts,
    /// The same of the peers; absent if the machine has none.
    memcached_bytes_per_item: Option<f64>,
    redis_bytes_per_item: Option<f64>,
    peers_left_out: Vec<&'static str>,
    violations: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.worker {
        Some(job) => worker::serve_alone(job, servers::become_server),
        None => report::conclude("overhead", || run(&args)),
    }
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    args.store.ensure_attachable("overhead")?;
    let items = args.items.unwrap_or(1_000_000);
    let workload = Workload { items };
    let (_scratch, writer) = Scratch::create("overhead", args.store, ours::options(&workload))?;
    let ours = ours::measure(&writer, &workload)?;
    println!(
        "Cistern    {:>6.2} bytes for each item: {} header and padding, {} index, {} tables",
        ours.bytes_per_item,
        ours.parts.header_and_padding_per_item,
        ours.parts.index_per_item,
        ours.parts.tables_per_item,
    );
    let violations = writer.check(|_, _| {}).violations_total;

    let mut left_out = Vec::new();
    let mut of_peer = |name, footprint: Option<u64>| -> Option<f64> {
        let Some(footprint) = footprint else {
            println!("{name:<10} is not on this machine");
            left_out.push(name);
            return None;
        };
        let bytes = rounded(workload.beside_data(footprint), 2);
        println!("{name:<10} {bytes:>6.2} bytes for each item");
        Some(bytes)
    };
    let memcached = of_peer(MEMCACHED.name, peer::memcached(&workload)?);
    let redis = of_peer(REDIS.name, peer::redis(&workload)?);

    let mut outcome = Outcome::new(Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        items,
        key_bytes: peer::KEY_BYTES,
        value_bytes: peer::VALUE_BYTES,
        bytes_per_item: rounded(ours.bytes_per_item, 2),
        parts: ours.parts,
        memcached_bytes_per_item: memcached,
        redis_bytes_per_item: redis,
        peers_left_out: left_out,
        violations,
    });
    let bytes = outcome.figures.bytes_per_item;
    outcome.require(bytes <= BYTES_PER_ITEM_MAX, || {
        format!("an item costs {bytes} bytes, at most {BYTES_PER_ITEM_MAX} is asked for")
    });
    outcome.require(violations == 0, || format!("{violations} invariants are broken"));
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::Args;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_well_formed() {
        Args::command().debug_assert();
    }
}
