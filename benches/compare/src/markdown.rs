//! The report for people.

use std::fmt::{self, Display, Formatter};

use crate::Args;
use crate::clock::Clock;
use crate::engines::Kind;
use crate::limit::Limit;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::results::{Results, Size};
use crate::rows::{DISTURBED, Row, count};
use crate::scaling::Line;
use crate::side::Quantiles;
use crate::work::Work;
use crate::workload::{Distribution, KEY_BYTES};

use store_benches::stats::median;

/// What a thread has of the time on a machine with nothing else to do, at least.
const QUIET_SHARE: f64 = 0.98;

/// All that the report is made of.
pub(crate) struct Page<'a> {
    pub(crate) args: &'a Args,
    pub(crate) plan: &'a Plan,
    pub(crate) machine: &'a Machine,
    pub(crate) results: &'a Results,
    pub(crate) rows: &'a [Row],
    pub(crate) left_out: &'a [String],
}

/// A cell that may be empty.
struct Cell(Option<f64>);

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("–"),
            Some(figure) if figure >= 100.0 => write!(f, "{figure:.0}"),
            Some(figure) if figure >= 10.0 => write!(f, "{figure:.1}"),
            Some(figure) => write!(f, "{figure:.2}"),
        }
    }
}

impl Page<'_> {
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("# Comparison\n\n");
        text += &self.head();
        text += &self.goals();
        for size in &self.results.sizes {
            text += &of_size(size, self.results);
        }
        text += &self.several();
        text += &self.memory();
        text += &self.engines();
        text
    }

    fn head(&self) -> String {
        let distribution = match self.args.distribution {
            Distribution::Uniform => "uniform",
            Distribution::Zipf => "by Zipf's law (exponent 0.99)",
        };
        let share = match (self.args.clock, self.results.share()) {
            (Clock::Processor, _) => {
                " Times are those in which a thread had a processor, but for servers.".into()
            }
            (Clock::Wall, Some(share)) if share < QUIET_SHARE => format!(
                " **The machine was busy with something else**: a thread that was measured had a processor for \
                 {:.0} % of the time.",
                share * 100.0
            ),
            (Clock::Wall, _) => String::new(),
        };
        let judged = if self.plan.is_judged() { "" } else { " Rows are not judged in this run." };
        format!(
            "{}\n\nKeys of {KEY_BYTES} bytes, asked for {distribution}; medians of {} rounds in which the \
             sides take turns; a quotient is the median of the rounds' quotients. Seed {}.{share}{judged}\n\n",
            self.machine.text(),
            self.plan.rounds,
            self.args.seed,
        )
    }

    fn goals(&self) -> String {
        let mut text = String::from(
            "## Goals\n\n| work | of | figure | goal | |\n| --- | --- | --: | --: | --- |\n",
        );
        for row in self.rows {
            let sign = if row.at_least { '≥' } else { '≤' };
            let figure = row.figure.map_or("–".into(), |figure| format!("{figure:.3}"));
            let verdict = match (row.holds, &row.left_out) {
                (Some(true), _) => "holds",
                (Some(false), _) => "**does not hold**",
                (None, Some(why)) => why,
                (None, None) => "",
            };
            let (work, of, goal, floor) = (&row.work, &row.of, row.goal, row.floor());
            text += &format!("| {work} | {of} | {figure} | {sign} {goal} | {verdict}{floor} |\n");
        }
        text + "\n"
    }

    fn several(&self) -> String {
        let Some(scaling) = &self.results.scaling else { return String::new() };
        let counts: Vec<_> = scaling.reads.keys().collect();
        let mut text = format!(
            "## Several processes, {} x {} B\n\nMillions of operations per second of all together. Of maps and \
             caches in one process: threads.\n\n| |",
            count(self.plan.medium),
            self.args.value_bytes
        );
        for count in &counts {
            text += &format!(" {count} |");
        }
        text += &format!("\n| --- |{}\n", " --: |".repeat(counts.len()));
        let mut row = |name: &str, line: &Line| {
            text += &format!("| {name} |");
            for count in &counts {
                let per_s = line.get(count).map(|rounds| median(rounds) / 1e6);
                text += &match per_s {
                    Some(per_s) => format!(" {per_s:.3} |"),
                    None => " – |".into(),
                };
            }
            text += "\n";
        };
        row("dependent reads of plain memory", &scaling.reads);
        row("Cistern, 95 get to 5 put", &scaling.mix);
        for (kind, line) in &scaling.gets {
            row(&format!("{}, get", kind.name()), line);
        }
        text += "\n### Lookups beside a process that writes\n\nNanoseconds of single lookups, the clock \
                 included.\n\n| meanwhile | p50 | p99 | p99.9 | beside one that reads: p50 | p99 | p99.9 | writes \
                 per second | buckets made | extents emptied |\n| --- | --: | --: | --: | --: | --: | --: | --: | \
                 --: | --: |\n";
        for beside in &self.results.beside {
            let of = |rounds: &[Quantiles]| {
                let of = |each: fn(&Quantiles) -> u64| {
                    median(&rounds.iter().map(|round| each(round) as f64).collect::<Vec<_>>())
                };
                format!(
                    "{:.0} | {:.0} | {:.0}",
                    of(|q| q.p50_ns),
                    of(|q| q.p99_ns),
                    of(|q| q.p999_ns)
                )
            };
            text += &format!(
                "| {} | {} | {} | {:.0} | {} | {} |\n",
                beside.scene.name(),
                of(&beside.writing),
                of(&beside.reading),
                median(&beside.writes_per_s),
                beside.buckets,
                beside.emptied,
            );
        }
        text + "\n"
    }

    fn memory(&self) -> String {
        let Some(size) = self.results.size(self.plan.medium, self.args.value_bytes) else {
            return String::new();
        };
        let data = (KEY_BYTES + size.value_bytes) as f64;
        let mut text = format!(
            "## Memory, {} x {} B\n\n| | bytes per item | beside key and value | counted |\n| --- | --: | --: | \
             --- |\n",
            count(size.items),
            size.value_bytes
        );
        for (kind, side) in &size.engines {
            if let Some(memory) = &side.memory {
                let bytes = memory.bytes as f64 / f64::from(size.items);
                let (name, counted) = (kind.name(), &memory.counted);
                text += &format!("| {name} | {bytes:.1} | {:.1} | {counted} |\n", bytes - data);
            }
        }
        text + "\n"
    }

    fn engines(&self) -> String {
        let mut text = String::from("## What was measured\n\n");
        for kind in self.args.kinds() {
            text += &format!("- **{}**: {}.\n", kind.name(), kind.description());
        }
        for left_out in self.left_out {
            text += &format!("- Left out: {left_out}.\n");
        }
        if let Some(silent) = &self.results.silent {
            text += &format!(
                "- {} puts in a process that the kernel kills for a system call: {}; {} bytes were moved by \
                 cleaning meanwhile. A control that made one {}.\n",
                silent.puts,
                if silent.system_call { "**killed**" } else { "it was not killed" },
                silent.moved_bytes,
                if silent.control_killed { "was killed" } else { "**was not killed**" },
            );
        }
        if let Some(attached) = &self.results.attached {
            text += &format!(
                "- Attaching a store of {} bytes: a reader {:.1} µs ({:.1} µs with the first lookup), a writer \
                 {:.1} µs.\n",
                attached.store_bytes,
                attached.reader_us,
                attached.reader_and_get_us,
                attached.writer_us,
            );
        }
        text
    }
}

/// The tables of one size.
fn of_size(size: &Size, results: &Results) -> String {
    let mut text = format!(
        "## {} x {} B\n\nNanoseconds per operation; in brackets: of a dependent read.\n\n| |",
        count(size.items),
        size.value_bytes
    );
    let works: Vec<_> = Work::OF_TABLES
        .into_iter()
        .filter(|work| size.ns(Kind::Cistern, *work).is_some())
        .collect();
    for work in &works {
        text += &format!(" {} |", work.name());
    }
    text += &format!("\n| --- |{}\n", " --: |".repeat(works.len()));
    let read = size.limit_ns(Limit::DependentRead);
    for kind in size.engines.keys() {
        text += &format!("| {} |", kind.name());
        for work in &works {
            let ns = size.ns(*kind, *work);
            text += &match ns.zip(read) {
                Some((ns, read)) => format!(" {} ({}) |", Cell(Some(ns)), Cell(Some(ns / read))),
                None => " – |".into(),
            };
        }
        text += "\n";
    }
    text += &format!(
        "\nThe machine, over {:.1} MiB in pages of 4 KiB:\n\n| | ns |\n| --- | --: |\n",
        size.limit_bytes as f64 / f64::from(1 << 20)
    );
    for limit in size.limits.keys() {
        text += &format!("| {} | {} |\n", limit.name(), Cell(size.limit_ns(*limit)));
    }
    text += &in_units(size);
    text += &own(size);
    text += &format!(
        "\nSingle operations, ns (p50 / p99 / p99.9), the clock's {} included:\n\n| |",
        results.clock_ns
    );
    let timed: Vec<_> = works.iter().filter(|work| **work != Work::GetMany).collect();
    for work in &timed {
        text += &format!(" {} |", work.name());
    }
    text += &format!("\n| --- |{}\n", " --: |".repeat(timed.len()));
    for (kind, side) in &size.engines {
        text += &format!("| {} |", kind.name());
        for work in &timed {
            let quantiles = side.works.get(work).and_then(|series| series.quantiles());
            text += &match quantiles {
                Some([p50, p99, p999]) => format!(" {p50:.0} / {p99:.0} / {p999:.0} |"),
                None => " – |".into(),
            };
        }
        text += "\n";
    }
    text + "\n"
}

/// How full this store was, and what cleaning did.
fn own(size: &Size) -> String {
    let figures = size.engines.get(&Kind::Cistern).and_then(|side| side.figures);
    let Some([first, last]) = figures else { return String::new() };
    let part = |bytes: u64| bytes as f64 / first.arena_bytes.max(1) as f64 * 100.0;
    let put = (last.put_bytes - first.put_bytes).max(1) as f64;
    format!(
        "\nCistern's store: {:.1} % of {:.1} MiB for items live, {:.1} % are kept for cleaning; in the rounds \
         {:.2} bytes were moved for each byte put.\n",
        part(first.live_bytes),
        first.arena_bytes as f64 / f64::from(1 << 20),
        part(first.reserve_bytes),
        (last.moved_bytes - first.moved_bytes) as f64 / put,
    )
}

/// Gets as multiples of each thing that the machine does.
fn in_units(size: &Size) -> String {
    if !size.limits_are_sound() {
        return format!("\nNothing is said as a multiple of these: {DISTURBED}.\n");
    }
    let limits: Vec<_> = size.limits.keys().copied().collect();
    let mut text = String::from("\nA get as a multiple of these:\n\n| |");
    for limit in &limits {
        text += &format!(" {} |", limit.name());
    }
    text += &format!("\n| --- |{}\n", " --: |".repeat(limits.len()));
    for kind in size.engines.keys() {
        text += &format!("| {} |", kind.name());
        for limit in &limits {
            text += &format!(" {} |", Cell(size.limit_ratio((*kind, Work::Get), *limit)));
        }
        text += "\n";
    }
    text
}
