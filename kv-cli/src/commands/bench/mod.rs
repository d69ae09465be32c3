//! `bench`: lookups and writes by real processes on a real store.
//!
//! The parent fills the keys, starts the workers, lets them go all at once, and adds up.

mod keys;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use hdrhistogram::Histogram;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use store_client::{Reader, Writer};

use self::keys::{Distribution, VALUE_BYTES_MIN};
use self::worker::{Report, Task};
use super::Context;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;
use crate::process::{self, Worker};
use crate::progress;

/// How long a worker may take beyond its task before the parent gives it up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon an interruption is noticed.
const STEP: Duration = Duration::from_millis(50);

/// Keys that are looked up to see whether a read-only bench has what it needs.
const PROBES: u64 = 1000;

const AFTER_HELP: &str = "\
Examples:
  kv-cli bench                                      lookups by one process
  kv-cli bench --work multi-get --processes 4
  kv-cli bench --work mixed --read-percent 90 --distribution zipf
  kv-cli bench --read-only --format json            by a user who may only read
  kv-cli bench --keys 1000000 --value-bytes 1000    needs a store of 1.5 GiB or so

The keys bench:00000000000000 and following are put first where they are missing, and stay in the
store. Every value read is verified; a bad one ends in exit code 6. ns_per_op is time times
processes by operations, a key of a batch counting as one. Percentiles are those of single calls (a
whole batch for multi-get), of which each 64th is timed, the clock's own 25 ns or so included.

Uniform puts go over the keys in rounds, those of zipf at random. Where the store is full the bench
ends early, says so, exits 5, and puts its keys anew. Ctrl-C ends it too: it shows what was measured
until then and exits 130.";

/// What the workers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Look up keys that are there
    Get,
    /// Look up batches of keys that are there
    MultiGet,
    /// Look up keys that are not there
    Miss,
    /// Overwrite keys
    Put,
    /// Look up, and now and then overwrite
    Mixed,
}

impl Work {
    fn writes(self) -> bool {
        matches!(self, Work::Put | Work::Mixed)
    }
}

/// Measure lookups and writes by several processes
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(long, value_enum, default_value = "get")]
    work: Work,

    /// Processes that work at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    processes: u16,

    /// How many different keys
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=4_000_000_000))]
    keys: u64,

    /// Bytes of each value [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(VALUE_BYTES_MIN..))]
    value_bytes: Option<u64>,

    /// Which keys how often
    #[arg(long, value_enum, default_value = "uniform")]
    distribution: Distribution,

    /// How long: a number of seconds, or a time such as 500ms
    #[arg(long, value_name = "TIME", default_value = "5", value_parser = seconds)]
    seconds: Duration,

    /// Attach read-only and fill nothing; exits 1 when the keys are not there
    #[arg(long)]
    read_only: bool,

    /// Lookups in 100 operations of mixed work [default: 95]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=100))]
    read_percent: Option<u64>,

    /// Keys in a batch of multi-get [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=8192))]
    batch: Option<u16>,

    /// Seed of the random numbers; the same one gives the same operations
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl BenchArgs {
    fn value_bytes(&self) -> u64 {
        self.value_bytes.unwrap_or(100)
    }

    fn batch(&self) -> u16 {
        self.batch.unwrap_or(32)
    }

    /// Refuses options that the work has no use for, rather than measuring something else.
    fn fit_together(&self) -> Result<(), Failure> {
        let wrong = if self.read_only && self.work.writes() {
            "--read-only can't put; use --work get, multi-get or miss"
        } else if self.read_only && self.value_bytes.is_some() {
            "--read-only takes the values as they are; leave --value-bytes out"
        } else if self.read_percent.is_some() && self.work != Work::Mixed {
            "--read-percent is for --work mixed alone; leave it out, or mix"
        } else if self.batch.is_some() && self.work != Work::MultiGet {
            "--batch is for --work multi-get alone; leave it out, or get many"
        } else {
            return Ok(());
        };
        Err(Failure::usage(wrong))
    }
}

/// A worker of `bench`, started by it.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchWorkerArgs {
    task: String,
}

/// The hidden command that a worker process runs.
pub(crate) fn run_worker(args: BenchWorkerArgs, context: &mut Context) -> Result<Exit, Failure> {
    process::serve(|| {
        let task: Task = serde_json::from_str(&args.task)
            .map_err(|error| Failure::usage(format!("the task is not clear: {error}")))?;
        worker::run(&task, &context.spec()?)
    })
}

#[derive(Debug, Serialize)]
struct Results {
    work: Work,
    processes: u16,
    keys: u64,
    value_bytes: u64,
    distribution: Distribution,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<u16>,
    read_only: bool,
    seconds: f64,
    ops: u64,
    hits: u64,
    misses: u64,
    puts: u64,
    bad_values: u64,
    contended: u64,
    /// Ended by Ctrl-C before the time was up.
    interrupted: bool,
    ops_per_s: f64,
    ns_per_op: f64,
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
}

pub(crate) fn run(args: BenchArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    args.fit_together()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| Failure::system("catching signals", &error))?;
    }
    let result = run_until(args, context, format, &interrupted);
    match result {
        // Ctrl-C reaches the workers too, and those that had no handler yet ended without an answer.
        Err(failure) if interrupted.load(Relaxed) && failure.exit == Exit::System => {
            Err(Failure::new(Exit::Interrupted, "interrupted before anything was measured"))
        }
        result => result,
    }
}

/// Fills, measures and shows, all of it or what there was time for.
fn run_until(
    args: BenchArgs,
    context: &mut Context,
    format: Format,
    interrupted: &AtomicBool,
) -> Result<Exit, Failure> {
    let value_bytes = match args.read_only {
        true => present(&context.reader()?, args.keys)?,
        false => {
            fill(&context.writer()?, &args, interrupted)?;
            args.value_bytes()
        }
    };
    let reports = measure(&args, value_bytes, context, interrupted)?;
    let results = add_up(&args, value_bytes, &reports)?;
    match format.is_json() {
        true => context.output.json(&results)?,
        false => show(&results, context)?,
    }
    let full = reports.iter().find_map(|report| report.full.as_deref());
    if reports.iter().any(|report| report.interrupted) {
        let text = format!(
            "interrupted after {:.2} s of {:.2} s; what is shown was measured until then",
            results.seconds,
            args.seconds.as_secs_f64()
        );
        return Err(Failure::new(Exit::Interrupted, text));
    }
    if results.bad_values > 0 {
        return Err(Failure::new(
            Exit::Corrupt,
            format!(
                "{} not what was put under the key: somebody else writes to keys bench:*, or the \
                 store is corrupt",
                human::plural(results.bad_values, "value was", "values were")
            ),
        ));
    }
    match full {
        None => Ok(Exit::Done),
        Some(full) => Err(Failure::new(
            Exit::Full,
            format!(
                "it ended after {:.2} s, at the first put without room: {full}",
                results.seconds
            ),
        )),
    }
}

/// Puts the keys that are missing or have a value of another length.
fn fill(writer: &Writer, args: &BenchArgs, interrupted: &AtomicBool) -> Result<(), Failure> {
    let bar = progress::things(args.keys, "keys to put");
    let length = usize::try_from(args.value_bytes())
        .map_err(|_| Failure::usage("--value-bytes is more than this machine can address"))?;
    // Before a buffer of that size is made: the store itself says what it takes.
    let limit = writer.info()?.value_bytes_max;
    if args.value_bytes() > limit {
        let len = args.value_bytes();
        return Err(store_client::WriteError::ValueTooLarge { len, limit }.into());
    }
    let mut value = vec![0; length];
    for number in 0..args.keys {
        if interrupted.load(Relaxed) {
            let text = format!(
                "interrupted after {} of {} keys were put, before anything was measured",
                human::count(number),
                human::count(args.keys)
            );
            return Err(Failure::new(Exit::Interrupted, text));
        }
        let key = keys::key(number);
        let fits = |found: &[u8]| found.len() == length && keys::is_whole(found, number);
        if writer.get_with(&key, fits)? != Some(true) {
            keys::fill(&mut value, number, args.seed.wrapping_add(number << 20));
            writer.put(&key, &value)?;
        }
        if number % 4096 == 0 {
            bar.set_position(number);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Looks whether the keys are there, and returns the length of their values.
fn present(reader: &Reader, count: u64) -> Result<u64, Failure> {
    let mut length = 0;
    for probe in 0..PROBES.min(count) {
        // The first, the last, and some between.
        let number = match count.min(PROBES) {
            1 => 0,
            probes => (u128::from(probe) * u128::from(count - 1) / u128::from(probes - 1)) as u64,
        };
        let key = keys::key(number);
        let Some(found) = reader.get_with(&key, |value| value.len() as u64)? else {
            return Err(Failure::new(
                Exit::Absent,
                format!(
                    "the key {} is absent; let a writer run `kv-cli bench --keys {count}` once, \
                     or give fewer --keys",
                    human::key(&key)
                ),
            ));
        };
        length = found;
    }
    Ok(length)
}

fn measure(
    args: &BenchArgs,
    value_bytes: u64,
    context: &Context,
    interrupted: &AtomicBool,
) -> Result<Vec<Report>, Failure> {
    let mut workers = Vec::new();
    for stream in 0..args.processes {
        let task = Task {
            work: args.work,
            read_percent: args.read_percent.unwrap_or(95),
            keys: args.keys,
            value_bytes,
            distribution: args.distribution,
            batch: usize::from(args.batch()),
            millis: u64::try_from(args.seconds.as_millis()).unwrap_or(u64::MAX),
            seed: args.seed,
            stream: stream.into(),
            timeout_ms: context.timeout.map(|timeout| timeout.as_millis() as u64),
        };
        let task = serde_json::to_string(&task)
            .map_err(|error| Failure::new(Exit::System, format!("a task failed: {error}")))?;
        let name = format!("worker {}", stream + 1);
        workers.push(Worker::spawn(&name, &context.store, &["bench-worker", &task])?);
    }
    for worker in &mut workers {
        worker.hear::<String>(PATIENCE)?;
    }
    let started = Instant::now();
    for worker in &mut workers {
        worker.tell("go")?;
    }
    let limit = args.seconds + PATIENCE;
    let mut told = false;
    let mut reports: Vec<Option<Report>> = workers.iter().map(|_| None).collect();
    while reports.iter().any(Option::is_none) {
        // Ctrl-C reaches the workers by itself, a signal to this process alone does not.
        if interrupted.load(Relaxed) && !std::mem::replace(&mut told, true) {
            for worker in &workers {
                // One that has reported may be gone.
                let _ = worker.signal(Signal::SIGINT);
            }
        }
        // The first one that still works is waited for, the others only asked.
        let mut patience = STEP;
        for (worker, report) in workers.iter_mut().zip(&mut reports) {
            if report.is_none() {
                *report = worker.hear_within(patience)?;
                patience = Duration::ZERO;
            }
        }
        if started.elapsed() > limit {
            let text = format!("a worker said nothing for {} s", limit.as_secs());
            return Err(Failure::new(Exit::TimedOut, text));
        }
    }
    Ok(reports.into_iter().flatten().collect())
}

fn add_up(args: &BenchArgs, value_bytes: u64, reports: &[Report]) -> Result<Results, Failure> {
    let mut latencies: Histogram<u64> = worker::histogram()?;
    for &(value, count) in reports.iter().flat_map(|report| &report.latencies) {
        latencies.saturating_record_n(value, count);
    }
    let sum = |field: fn(&Report) -> u64| reports.iter().map(field).sum::<u64>();
    let (ops, nanos) = (sum(|report| report.ops), sum(|report| report.nanos));
    let rate = |report: &Report| report.ops as f64 * 1e9 / report.nanos.max(1) as f64;
    Ok(Results {
        work: args.work,
        processes: args.processes,
        keys: args.keys,
        value_bytes,
        distribution: args.distribution,
        batch: (args.work == Work::MultiGet).then(|| args.batch()),
        read_only: args.read_only,
        seconds: nanos as f64 / 1e9 / f64::from(args.processes),
        ops,
        hits: sum(|report| report.hits),
        misses: sum(|report| report.misses),
        puts: sum(|report| report.puts),
        bad_values: sum(|report| report.bad_values),
        contended: sum(|report| report.contended),
        interrupted: reports.iter().any(|report| report.interrupted),
        ops_per_s: reports.iter().map(rate).sum(),
        ns_per_op: nanos as f64 / ops.max(1) as f64,
        p50_ns: latencies.value_at_quantile(0.5),
        p99_ns: latencies.value_at_quantile(0.99),
        p999_ns: latencies.value_at_quantile(0.999),
        max_ns: latencies.max(),
    })
}

fn show(results: &Results, context: &mut Context) -> Result<(), Failure> {
    let name = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let what = match results.batch {
        Some(batch) => format!("get_many of {batch}"),
        None => name(&results.work),
    };
    let on = format!(
        "{} of {}, {}",
        human::plural(results.keys, "key", "keys"),
        human::size(results.value_bytes),
        name(&results.distribution)
    );
    let processes = u64::from(results.processes);
    let mut pairs = vec![
        ("work", format!("{what} by {}", human::plural(processes, "process", "processes"))),
        ("on", on),
        ("operations", format!("{} in {:.2} s", human::count(results.ops), results.seconds)),
        ("rate", format!("{}/s", human::count(results.ops_per_s as u64))),
        ("per operation", human::nanos(results.ns_per_op)),
        ("  p50", human::nanos(results.p50_ns as f64)),
        ("  p99", human::nanos(results.p99_ns as f64)),
        ("  p99.9", human::nanos(results.p999_ns as f64)),
        ("  longest seen", human::nanos(results.max_ns as f64)),
        ("hits", human::count(results.hits)),
        ("misses", human::count(results.misses)),
        ("puts", human::count(results.puts)),
        ("bad values", human::count(results.bad_values)),
    ];
    if results.contended > 0 {
        pairs.push(("contended", human::count(results.contended)));
    }
    context.output.pairs(&pairs)
}

/// `--seconds`: a bare number means seconds here, since the option says so.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<f64>() {
        Ok(number) => {
            Duration::try_from_secs_f64(number).map_err(|_| "it is no length of time".to_owned())?
        }
        Err(_) => duration::parse(text)?,
    };
    if time.is_zero() || time > Duration::from_secs(86_400) {
        return Err("it must be more than 0 and at most a day".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    #[test]
    fn seconds_with_and_without_a_unit() {
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("250ms"), Ok(Duration::from_millis(250)));
        for text in ["0", "-1", "NaN", "inf", "1e300", "soon", ""] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn reports_add_up() {
        let args = Line::parse_from(["bench", "--processes", "2"]).bench;
        let report = |ops, nanos, latency| Report {
            ops,
            hits: ops,
            nanos,
            latencies: vec![(latency, 10)],
            ..Report::default()
        };
        let reports = [report(100, 1_000, 50), report(300, 1_000, 200)];
        let results = add_up(&args, 100, &reports).expect("adds up");
        assert_eq!((results.ops, results.hits, results.misses), (400, 400, 0));
        // Two processes worked 1,000 ns each on 400 operations.
        assert!((results.ns_per_op - 5.0).abs() < 1e-9);
        assert!((results.ops_per_s - 4e8).abs() < 1.0);
        assert_eq!((results.p50_ns, results.p99_ns), (50, 200));
        let json = serde_json::to_value(&results).expect("serialises");
        for name in ["ops", "hits", "ns_per_op", "p50_ns", "p99_ns", "p999_ns", "bad_values"] {
            assert!(json[name].is_number(), "{name}");
        }
        assert_eq!(json["work"], "get");
    }

    #[test]
    fn a_task_reaches_its_worker() {
        let task = r#"{"work":"multi-get","read_percent":95,"keys":10,"value_bytes":16,
            "distribution":"zipf","batch":32,"millis":1000,"seed":1,"stream":0,"timeout_ms":null}"#;
        let task: Task = serde_json::from_str(task).expect("parses");
        assert_eq!(task.work, Work::MultiGet);
        let again = serde_json::to_string(&task).expect("serialises");
        assert!(again.contains("\"work\":\"multi-get\""));
    }
}
