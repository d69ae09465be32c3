//! What a flood in one namespace does to the hit ratio of another: the same requests alone and
//! beside a process that puts as fast as it can.

mod flood;
mod tenant;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;

use store_benches::report::{self, Outcome};
use store_benches::scratch::{Scratch, StoreArgs};
use store_benches::stats::rounded;
use store_benches::worker::{self, Crew, PATIENCE};
use store_client::{CreateOptions, Mode, NamespaceInfo, NamespaceOptions};

use flood::{Flowing, Job};
use tenant::{Counted, Tenant};

const MIB: u64 = 1 << 20;
/// Bytes of an item, on average: value, key and header.
const ITEM_BYTES: u64 = 400;
/// So many times more keys than its quota has room for.
const KEYS_PER_ITEM: u64 = 3;
/// Points of its hit ratio that a flood may cost a tenant.
const POINTS_MAX: f64 = 0.5;

/// Flood one namespace and watch the hit ratio of another.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// MiB of each store; 256 by default, 64 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u64).range(16..=65_536))]
    size_mib: Option<u64>,
    /// Requests of the tenant that are counted, after as many that are not, for each key that it
    /// has; 10 by default, 4 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    requests_per_key: Option<u64>,
    /// Processes that flood.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    floods: u8,
    /// Smaller stores, fewer requests.
    #[arg(long)]
    quick: bool,
    /// What keys and requests are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, hide = true)]
    worker: Option<String>,
}

/// What shares a store.
struct Setting {
    name: &'static str,
    /// Of the arena, in percent; 0: none.
    tenant_quota: u64,
    flood: Option<Flood>,
    judged: bool,
}

/// Where the flood goes.
#[derive(Clone, Copy)]
enum Flood {
    /// Into a namespace with this quota, in percent of the arena; 0: none.
    Namespace(u64),
    /// Into the keys without a namespace.
    Base,
}

const SETTINGS: [Setting; 6] = [
    Setting { name: "alone", tenant_quota: 40, flood: None, judged: true },
    Setting {
        name: "flood in a namespace with a quota",
        tenant_quota: 40,
        flood: Some(Flood::Namespace(40)),
        judged: true,
    },
    Setting {
        name: "flood in a namespace without one",
        tenant_quota: 40,
        flood: Some(Flood::Namespace(0)),
        judged: true,
    },
    Setting {
        name: "flood in the keys without a namespace",
        tenant_quota: 40,
        flood: Some(Flood::Base),
        judged: true,
    },
    // What quotas are for: the whole store is its own until somebody floods it.
    Setting { name: "no quota, alone", tenant_quota: 0, flood: None, judged: false },
    Setting {
        name: "no quota, and a flood",
        tenant_quota: 0,
        flood: Some(Flood::Namespace(0)),
        judged: false,
    },
];

#[derive(Serialize)]
struct Figures {
    backing: String,
    guard: String,
    size_mib: u64,
    floods: u8,
    seed: u64,
    /// Points between the hit ratio alone and the farthest one beside a flood, of those judged.
    worst_change_points: f64,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    setting: &'static str,
    judged: bool,
    hit_percent: f64,
    /// Against that alone.
    change_points: f64,
    requests: u64,
    requests_per_s: f64,
    /// Puts of the flood meanwhile.
    flood_puts: u64,
    tenant_evicted: u64,
    refused: u64,
    wrong_values: u64,
    violations: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.worker {
        Some(job) => worker::serve(job, flood::run),
        None => report::conclude("tenants", || run(&args)),
    }
}

fn run(args: &Args) -> Result<Outcome<Figures>> {
    let size_mib = args.size_mib.unwrap_or(if args.quick { 64 } else { 256 });
    let mut rows: Vec<Row> = Vec::new();
    for setting in &SETTINGS {
        let alone = rows.first().map(|row| row.hit_percent);
        let row = play(args, size_mib, setting, alone)?;
        println!(
            "{:<38} {:>6.2} % hits  {:>+6.2} points  {:>9} puts of the flood, {} requests/s",
            row.setting, row.hit_percent, row.change_points, row.flood_puts, row.requests_per_s
        );
        rows.push(row);
    }
    let judged = || rows.iter().filter(|row| row.judged);
    let worst = judged().map(|row| row.change_points.abs()).fold(0.0, f64::max);
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
    let (wrong, violations) = (sum(|row| row.wrong_values), sum(|row| row.violations));
    let refused = sum(|row| row.refused);
    // A flood that is slow proves nothing.
    let idle = judged().skip(1).filter(|row| row.flood_puts * 4 < row.requests).count();
    let mut outcome = Outcome::new(Figures {
        backing: args.store.backing_name(),
        guard: args.store.guard.to_string(),
        size_mib,
        floods: args.floods,
        seed: args.seed,
        worst_change_points: worst,
        rows,
    });
    outcome.require(worst <= POINTS_MAX, || {
        format!(
            "a flood changes the hit ratio by {worst} points, at most {POINTS_MAX} is asked for"
        )
    });
    outcome.require(idle == 0, || format!("{idle} floods put less than a quarter of the requests"));
    outcome.require(refused == 0, || format!("{refused} puts were refused"));
    outcome.require(wrong == 0, || format!("{wrong} values are not what was put"));
    outcome.require(violations == 0, || format!("{violations} invariants are broken"));
    Ok(outcome)
}

fn play(args: &Args, size_mib: u64, setting: &Setting, alone: Option<f64>) -> Result<Row> {
    let size = size_mib * MIB;
    let options = CreateOptions::new(size).mode(Mode::Cache).items(size / ITEM_BYTES);
    let (scratch, writer) = Scratch::create("tenants", args.store, options)?;
    let arena = writer.stats()?.arena_bytes;
    let quota = |percent: u64| NamespaceOptions::new().quota(arena / 100 * percent);
    writer.create_namespace("tenant", &quota(setting.tenant_quota))?;
    if let Some(Flood::Namespace(percent)) = setting.flood {
        writer.create_namespace("flood", &quota(percent))?;
    }
    let mut crew = Crew::new(writer, scratch.spec(), flood::run);
    let mut floods = Vec::new();
    if let Some(flood) = setting.flood {
        let namespace = matches!(flood, Flood::Namespace(_)).then(|| "flood".to_owned());
        for seed in 1..=args.floods.into() {
            floods.push(crew.start(&Job { namespace: namespace.clone(), seed })?);
        }
    }
    for flood in &mut floods {
        flood.receive::<Flowing>(PATIENCE)?;
    }
    let writer = crew.writer();
    let keys = writer.namespace("tenant")?;
    let number = arena * 40 / 100 / ITEM_BYTES * KEYS_PER_ITEM;
    let mut tenant = Tenant::new(&keys, u32::try_from(number)?, args.seed)?;
    let per_key = args.requests_per_key.unwrap_or(if args.quick { 4 } else { 10 });
    let warm = tenant.ask(number * per_key)?;
    let before = writer.stats()?.counts.puts;
    let start = Instant::now();
    let counted = tenant.ask(number * per_key)?;
    let elapsed = start.elapsed();
    for flood in &mut floods {
        flood.kill()?;
        flood.reap(Duration::from_secs(10))?;
    }
    let flood_puts = match floods.is_empty() {
        true => 0,
        false => (writer.stats()?.counts.puts - before).saturating_sub(puts(counted)),
    };
    let hit_percent = rounded(counted.hit_percent(), 3);
    Ok(Row {
        setting: setting.name,
        judged: setting.judged,
        hit_percent,
        change_points: rounded(hit_percent - alone.unwrap_or(hit_percent), 3),
        requests: counted.lookups,
        requests_per_s: (counted.lookups as f64 / elapsed.as_secs_f64()).round(),
        flood_puts,
        tenant_evicted: of_tenant(&writer.namespaces()?)?.evicted,
        refused: warm.refused + counted.refused,
        wrong_values: warm.wrong_values + counted.wrong_values,
        violations: writer.check(|_, _| {}).violations_total,
    })
}

/// Puts of the tenant: what it did not find, near what its client has told by now.
fn puts(counted: Counted) -> u64 {
    counted.lookups - counted.hits
}

fn of_tenant(namespaces: &[NamespaceInfo]) -> Result<&NamespaceInfo> {
    namespaces.iter().find(|info| info.name == "tenant").context("the tenant is gone")
}
