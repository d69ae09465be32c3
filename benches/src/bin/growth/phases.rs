//! The writing side, in blocks: so many puts into the store that grows, the same into one that has
//! its size already, and a pause. So whatever disturbs the machine disturbs all three.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use store_benches::progress;
use store_benches::stats::{Latencies, median};
use store_client::Writer;

use crate::items::Item;
use crate::reader::{WINDOW, now_ns};

/// Puts in a block.
const BLOCK: u32 = 50_000;
/// How long nobody writes after each block.
const PAUSE: Duration = Duration::from_millis(20);

/// From when to when something was done.
#[derive(Clone, Copy, Debug)]
struct Span {
    from_ns: u64,
    to_ns: u64,
}

impl Span {
    fn of(work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let from_ns = now_ns()?;
        work()?;
        Ok(Self { from_ns, to_ns: now_ns()? })
    }

    /// Median lookups per second of the windows that lie wholly within it.
    fn lookups_per_s(&self, windows: &[(u64, u64)]) -> Option<f64> {
        let first = windows.partition_point(|(start, _)| *start < self.from_ns);
        let inside = windows[first..].iter().take_while(|(_, end)| *end <= self.to_ns);
        let ns: Vec<_> = inside.map(|(start, end)| (end - start).max(1) as f64).collect();
        (!ns.is_empty()).then(|| f64::from(WINDOW) * 1e9 / median(&ns))
    }
}

/// When the store grew, its control was written, and nobody wrote, with as many items.
#[derive(Clone, Copy, Debug)]
struct Block {
    growing: Span,
    control: Span,
    idle: Span,
}

/// What the puts took, and when.
pub(crate) struct Written {
    pub(crate) growing: Latencies,
    pub(crate) control: Latencies,
    blocks: Vec<Block>,
}

/// Lookups per second, the median over blocks.
pub(crate) struct Lookups {
    pub(crate) growing: f64,
    pub(crate) idle: f64,
    /// The median of a block's quotients.
    pub(crate) growing_ratio: f64,
    /// The same while the control was written, which the reader does not read.
    pub(crate) control_ratio: f64,
}

impl Written {
    pub(crate) fn write(items: u32, growing: &Writer, control: &Writer) -> Result<Self> {
        let mut written =
            Self { growing: Latencies::new(), control: Latencies::new(), blocks: Vec::new() };
        let bar = progress::bar(items.into(), "items".into());
        for first in (0..items).step_by(BLOCK as usize) {
            let numbers = first..(first + BLOCK).min(items);
            let took = &mut written.growing;
            let growing = Span::of(|| put_all(growing, numbers.clone(), took))?;
            let took = &mut written.control;
            let control = Span::of(|| put_all(control, numbers.clone(), took))?;
            let idle = Span::of(|| {
                thread::sleep(PAUSE);
                Ok(())
            })?;
            written.blocks.push(Block { growing, control, idle });
            bar.set_position(numbers.end.into());
        }
        bar.finish_and_clear();
        Ok(written)
    }

    /// What the reader did meanwhile; `windows` in the order of time. A block in which it never had
    /// a whole window of each kind is left out.
    pub(crate) fn lookups(&self, windows: &[(u64, u64)]) -> Lookups {
        let speeds: Vec<[f64; 3]> = self
            .blocks
            .iter()
            .filter_map(|block| {
                let of = |span: Span| span.lookups_per_s(windows);
                Some([of(block.growing)?, of(block.control)?, of(block.idle)?])
            })
            .collect();
        let of = |each: fn(&[f64; 3]) -> f64| median(&speeds.iter().map(each).collect::<Vec<_>>());
        Lookups {
            growing: of(|[growing, ..]| *growing),
            idle: of(|[.., idle]| *idle),
            growing_ratio: of(|[growing, _, idle]| growing / idle),
            control_ratio: of(|[_, control, idle]| control / idle),
        }
    }
}

fn put_all(writer: &Writer, numbers: std::ops::Range<u32>, took: &mut Latencies) -> Result<()> {
    for number in numbers {
        let item = Item::of(number);
        let start = Instant::now();
        let put = writer.put(&item.key, item.value());
        took.record(start.elapsed());
        put.with_context(|| format!("putting item {number}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Span, WINDOW};

    #[test]
    fn only_whole_windows_count() {
        let span = Span { from_ns: 100, to_ns: 200 };
        let per_s = |ns: f64| Some(f64::from(WINDOW) * 1e9 / ns);
        assert_eq!(span.lookups_per_s(&[(90, 110), (110, 130), (130, 210)]), per_s(20.0));
        assert_eq!(span.lookups_per_s(&[(90, 210)]), None);
    }
}
