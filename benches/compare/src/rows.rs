//! The rows that have a goal: a quotient of two figures of the same run, and what it is to be.

use serde::Serialize;

use store_benches::stats::rounded;

use crate::beside::Scene;
use crate::clock::Clock;
use crate::engines::Kind;
use crate::limit::Limit;
use crate::plan::{LARGE_VALUE_BYTES, Plan, TINY_VALUE_BYTES};
use crate::results::{Results, Size};
use crate::work::Work;

/// The longest that an attach may take.
const ATTACH_US_MAX: f64 = 200.0;

/// Why nothing is said of what the machine itself takes.
pub(crate) const DISTURBED: &str = "reads of plain memory that don't depend on each other took as long as those that do: \
     something took that memory away meanwhile";

/// One row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) work: String,
    /// What the figure is a part of.
    pub(crate) of: String,
    /// None: left out.
    pub(crate) figure: Option<f64>,
    pub(crate) goal: f64,
    /// Whether the figure is to be at least the goal; else at most.
    pub(crate) at_least: bool,
    /// None if it is left out.
    pub(crate) holds: Option<bool>,
    /// Why it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) left_out: Option<String>,
    /// Of lookups: the figure of two dependent reads of memory and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) two_reads: Option<f64>,
}

impl Row {
    /// What it says of that, if it does not hold.
    pub(crate) fn floor(&self) -> String {
        match self.two_reads {
            Some(figure) if self.holds == Some(false) => {
                format!("; two dependent reads alone are {figure:.3}")
            }
            _ => String::new(),
        }
    }
}

/// A row in the making.
struct Draft {
    work: String,
    of: String,
    goal: f64,
    at_least: bool,
}

impl Draft {
    fn at_most(goal: f64, work: impl Into<String>, of: impl Into<String>) -> Self {
        Self { work: work.into(), of: of.into(), goal, at_least: false }
    }

    fn of(self, figure: Option<f64>, why_not: impl FnOnce() -> String) -> Row {
        let Self { work, of, goal, at_least } = self;
        // A quotient of nothing is none.
        let figure = figure.filter(|figure| figure.is_finite()).map(|figure| rounded(figure, 4));
        let holds = figure.map(|figure| if at_least { figure >= goal } else { figure <= goal });
        let left_out = figure.is_none().then(why_not);
        Row { work, of, figure, goal, at_least, holds, left_out, two_reads: None }
    }
}

/// All rows.
pub(crate) fn rows(results: &Results, plan: &Plan) -> Vec<Row> {
    let mut rows = gets(results, plan);
    rows.extend(batches(results, plan));
    rows.extend(puts(results, plan));
    rows.extend(large_values(results, plan));
    rows.extend(beside_others(results));
    rows.push(memory(results, plan));
    rows.extend(attaches(results));
    rows.push(many_items(results, plan));
    rows
}

fn why_not(results: &Results, items: u32, value_bytes: usize, peer: Kind) -> String {
    match results.size(items, value_bytes) {
        None => "not measured in this run".into(),
        Some(size) if !size.engines.contains_key(&peer) => {
            let missing = peer.missing().unwrap_or("not asked for");
            format!("{}: {missing}", peer.name())
        }
        Some(_) => "not measured in this run".into(),
    }
}

/// A row about this store beside a peer at the same work.
fn beside_peer(
    results: &Results,
    plan: &Plan,
    items: u32,
    work: Work,
    peer: Kind,
    goal: f64,
) -> Row {
    let size = results.size(items, 100);
    let served = peer == Kind::Redis && plan.clock == Clock::Processor;
    let figure =
        size.filter(|_| !served).and_then(|size| size.ratio((Kind::Cistern, work), (peer, work)));
    let name = format!("{}, {} x 100 B", work.name(), count(items));
    let of = match peer {
        Kind::Redis => "Redis, both sides on one processor".into(),
        peer => format!("{}'s", peer.name()),
    };
    let row = Draft::at_most(goal, name, of).of(figure, || match served {
        true => "a server's time is no time of this process".into(),
        false => why_not(results, items, 100, peer),
    });
    let two_reads = size.filter(|_| work == Work::Get).and_then(|size| size.two_reads(peer));
    Row { two_reads: two_reads.map(|figure| rounded(figure, 4)), ..row }
}

fn gets(results: &Results, plan: &Plan) -> Vec<Row> {
    let (small, medium, large) = (plan.small, plan.medium, plan.large);
    let mut rows: Vec<_> =
        [(Kind::Hashbrown, 0.65), (Kind::Boost, 0.3), (Kind::Lmdb, 0.25), (Kind::Redis, 0.03)]
            .into_iter()
            .map(|(peer, goal)| beside_peer(results, plan, medium, Work::Get, peer, goal))
            .collect();
    rows.push(beside_peer(results, plan, large, Work::Get, Kind::Hashbrown, 0.70));
    rows.push(huge_pages(results, large));
    rows.push(beside_peer(results, plan, small, Work::Get, Kind::Hashbrown, 1.1));
    rows.push(beside_peer(results, plan, medium, Work::Miss, Kind::Hashbrown, 1.2));
    rows
}

/// This store with pages of 2 MiB beside hashbrown with the usual ones; left out where the kernel gave
/// less than nine tenths of them.
fn huge_pages(results: &Results, items: u32) -> Row {
    let size = results.size(items, 100);
    let figures = size.and_then(|size| size.engines.get(&Kind::CisternHuge)?.figures);
    let got = figures.is_some_and(|[first, _]| {
        first.huge_page_bytes * 10 >= (first.arena_bytes + first.index_bytes) * 9
    });
    let ratio =
        |size: &Size| size.ratio((Kind::CisternHuge, Work::Get), (Kind::Hashbrown, Work::Get));
    let figure = size.filter(|_| got).and_then(ratio);
    let name = format!("get, {} x 100 B, pages of 2 MiB", count(items));
    Draft::at_most(0.55, name, "hashbrown's").of(figure, || match figures {
        Some([first, _]) if !got => {
            format!("the kernel gave {} bytes of huge pages only", first.huge_page_bytes)
        }
        _ => why_not(results, items, 100, Kind::CisternHuge),
    })
}

fn batches(results: &Results, plan: &Plan) -> Vec<Row> {
    let ours = (Kind::Cistern, Work::GetMany);
    let of_size = |items: u32| {
        let size = results.size(items, 100);
        let name = format!("{}, {} x 100 B", Work::GetMany.name(), count(items));
        let peer = size.and_then(|size| size.ratio(ours, (Kind::Hashbrown, Work::Get)));
        let lines = size.and_then(|size| size.limit_ratio(ours, Limit::Prefetched));
        let why = || why_not(results, items, 100, Kind::Hashbrown);
        let why_no_lines = || match size {
            Some(size) if !size.limits_are_sound() => DISTURBED.into(),
            _ => why_not(results, items, 100, Kind::Cistern),
        };
        [
            Draft::at_most(0.12, name.clone(), "a get of hashbrown").of(peer, why),
            Draft::at_most(1.5, name, "its lines asked for at once").of(lines, why_no_lines),
        ]
    };
    [plan.medium, plan.large].into_iter().flat_map(of_size).collect()
}

fn puts(results: &Results, plan: &Plan) -> Vec<Row> {
    let beside_get = |items: u32, goal| {
        let size = results.size(items, 100);
        let (put, get) = ((Kind::Cistern, Work::Put), (Kind::Cistern, Work::Get));
        let figure = size.and_then(|size| size.ratio(put, get));
        let name = format!("put, {} x 100 B, 70 % full, cleaning included", count(items));
        Draft::at_most(goal, name, "a get of this store")
            .of(figure, || why_not(results, items, 100, Kind::Cistern))
    };
    let silent = results.silent.as_ref();
    let figure = silent
        .filter(|silent| silent.control_killed && silent.moved_bytes > 0)
        .map(|silent| f64::from(u8::from(silent.system_call)));
    let name = match silent {
        Some(silent) => format!("system calls of {} puts, cleaning included", count(silent.puts)),
        None => "system calls of puts".into(),
    };
    vec![
        beside_get(plan.medium, 1.8),
        beside_get(plan.small, 3.0),
        Draft::at_most(0.0, name, "").of(figure, || match silent {
            Some(_) => "the control was not killed, or nothing was cleaned".into(),
            None => "not measured in this run".into(),
        }),
    ]
}

fn large_values(results: &Results, plan: &Plan) -> Vec<Row> {
    let size = results.size(plan.large_values, LARGE_VALUE_BYTES);
    let figure =
        size.and_then(|size| size.limit_ratio((Kind::Cistern, Work::Get), Limit::ReadAndCopy));
    let name = format!("get, {} x 4 KiB", count(plan.large_values));
    vec![
        Draft::at_most(1.2, name, "a dependent read of a line and a copy")
            .of(figure, || why_not(results, plan.large_values, LARGE_VALUE_BYTES, Kind::Cistern)),
    ]
}

fn beside_others(results: &Results) -> Vec<Row> {
    let scaling = results.scaling.as_ref().and_then(|scaling| scaling.mix_of_reads());
    let draft = Draft {
        work: "95 get, 5 put: what two processes do of what one does".into(),
        of: "the same of plain reads".into(),
        goal: 0.92,
        at_least: true,
    };
    let mut rows = vec![draft.of(scaling, || "not measured in this run".into())];
    rows.extend(Scene::ALL.iter().map(|scene| {
        let seen = results.beside.iter().find(|beside| beside.scene == *scene);
        let name = format!("p99.9 of get while {}", scene.name());
        Draft::at_most(2.0, name, "the same beside a process that reads")
            .of(seen.map(|beside| beside.ratio()), || "not measured in this run".into())
    }));
    rows
}

/// The peer that takes least.
fn least(size: &Size) -> Option<(Kind, f64)> {
    let peers = size.engines.iter().filter(|(kind, _)| !kind.is_ours());
    let bytes = peers.filter_map(|(kind, side)| Some((*kind, side.memory.as_ref()?.bytes as f64)));
    bytes.min_by(|(_, one), (_, other)| one.total_cmp(other))
}

fn memory(results: &Results, plan: &Plan) -> Row {
    let size = results.size(plan.medium, 100);
    let peer = size.and_then(least);
    let ours = size.and_then(|size| size.engines.get(&Kind::Cistern)?.memory.as_ref());
    let figure = ours.zip(peer).map(|(ours, (_, least))| ours.bytes as f64 / least);
    let name = format!("memory of {} x 100 B", count(plan.medium));
    let of = peer.map_or("the least of the others".into(), |(kind, _)| {
        format!("{}'s, the least of the others", kind.name())
    });
    // Less, and not as much.
    Draft::at_most(0.9999, name, of).of(figure, || "not measured in this run".into())
}

fn attaches(results: &Results) -> Vec<Row> {
    let attached = results.attached.as_ref();
    let row = |what: &str, us: Option<f64>| {
        Draft::at_most(ATTACH_US_MAX, format!("attach of a store of 1 GiB, {what}, µs"), "")
            .of(us, || "not measured in this run".into())
    };
    vec![
        row("a reader", attached.map(|attached| attached.reader_us)),
        row("a writer", attached.map(|attached| attached.writer_us)),
    ]
}

fn many_items(results: &Results, plan: &Plan) -> Row {
    let [fewer, more] = plan.tiny_values;
    let grows = |of: &dyn Fn(&Size) -> Option<f64>| {
        let [fewer, more] = [fewer, more].map(|items| results.size(items, TINY_VALUE_BYTES));
        Some(of(more?)? / of(fewer?)?)
    };
    let gets = grows(&|size| size.ns(Kind::Cistern, Work::Get));
    let reads = grows(&|size| size.limit_ns(Limit::DependentRead));
    let name = format!("get, {} x 8 B, of what it takes at {}", count(more), count(fewer));
    Draft::at_most(1.15, name, "the same of dependent reads")
        .of(gets.zip(reads).map(|(gets, reads)| gets / reads), || "asked for by --large".into())
}

/// A number of items, as people write it.
pub(crate) fn count(items: u32) -> String {
    match items {
        _ if items >= 1_000_000 && items.is_multiple_of(100_000) => {
            format!("{} M", f64::from(items) / 1e6)
        }
        _ if items >= 1000 && items.is_multiple_of(100) => format!("{} k", f64::from(items) / 1e3),
        _ => items.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Draft, count};

    #[test]
    fn a_row_holds_at_its_goal() {
        let at_most = |figure| Draft::at_most(0.5, "", "").of(figure, || "why".into());
        assert_eq!(at_most(Some(0.5)).holds, Some(true));
        assert_eq!(at_most(Some(0.51)).holds, Some(false));
        let least = Draft { at_least: true, ..Draft::at_most(0.5, "", "") };
        assert_eq!(least.of(Some(0.49), String::new).holds, Some(false));
    }

    #[test]
    fn what_was_not_measured_says_why() {
        for figure in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            let row = Draft::at_most(0.5, "", "").of(figure, || "why".into());
            assert_eq!((row.figure, row.holds), (None, None));
            assert_eq!(row.left_out.as_deref(), Some("why"));
        }
    }

    #[test]
    fn counts_are_short() {
        let texts = [7, 10_000, 1_000_000, 2_500_000].map(count);
        assert_eq!(texts, ["7", "10 k", "1 M", "2.5 M"]);
    }
}
