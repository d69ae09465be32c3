//! Extents as lines of text: rows of cells, then a legend that counts them.

use owo_colors::{AnsiColors, OwoColorize};
use store_client::{ExtentInfo, ExtentUse};

use crate::human;

/// Columns in front of a row: the number of its first extent.
const LABEL_COLUMNS: usize = 9;
/// Lines that the legend and the line above the rows take at most.
const LEGEND_ROWS: usize = 15;
/// The least rows of cells, however low a terminal is.
const ROWS_MIN: usize = 4;
/// Cells from sparse to dense, for a quarter each of what lives.
const DENSITIES: [char; 4] = ['░', '▒', '▓', '█'];

/// What there is to draw on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Canvas {
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) color: bool,
}

/// How a state looks.
struct Look {
    /// Without color; a capital one where half or more lives.
    letter: char,
    color: AnsiColors,
}

fn look(state: ExtentUse) -> Look {
    let (letter, color) = match state {
        ExtentUse::Open => ('o', AnsiColors::Green),
        ExtentUse::Sealed => ('s', AnsiColors::Blue),
        ExtentUse::Relocation => ('r', AnsiColors::Cyan),
        ExtentUse::Buckets => ('b', AnsiColors::Yellow),
        ExtentUse::OverflowLines => ('v', AnsiColors::BrightYellow),
        ExtentUse::Claimed => ('c', AnsiColors::BrightGreen),
        ExtentUse::Pinned => ('p', AnsiColors::BrightMagenta),
        ExtentUse::Free => ('.', AnsiColors::White),
        ExtentUse::NoMemory => ('-', AnsiColors::BrightBlack),
        _ => ('?', AnsiColors::Red),
    };
    Look { letter, color }
}

/// One cell: so many neighbours, the state that most of them are in, and what part of them lives.
struct Cell {
    state: ExtentUse,
    live: f64,
}

impl Cell {
    fn of(extents: &[ExtentInfo], extent_bytes: u64) -> Self {
        let count = |state| extents.iter().filter(|extent| extent.state == state).count();
        // Of states that are as frequent as each other the first one.
        let state = ExtentUse::ALL.into_iter().rev().max_by_key(|state| count(*state));
        let live: u64 = extents.iter().map(|extent| extent.live_bytes).sum();
        let all = extents.len() as u64 * extent_bytes.max(1);
        Self { state: state.unwrap_or(ExtentUse::Unknown), live: live as f64 / all.max(1) as f64 }
    }

    fn text(&self, color: bool) -> String {
        let Look { letter, color: hue } = look(self.state);
        if !color {
            let capital = if self.live >= 0.5 { letter.to_ascii_uppercase() } else { letter };
            return capital.to_string();
        }
        let dense = (self.live * DENSITIES.len() as f64) as usize;
        let shape = match self.state.is_empty() {
            true => letter,
            false => DENSITIES[dense.min(DENSITIES.len() - 1)],
        };
        shape.color(hue).to_string()
    }
}

/// The rows of a map and its legend.
pub(super) fn draw(extents: &[ExtentInfo], extent_bytes: u64, canvas: Canvas) -> Vec<String> {
    let columns = canvas.columns.saturating_sub(LABEL_COLUMNS).max(8) / 8 * 8;
    let rows = canvas.rows.saturating_sub(LEGEND_ROWS).max(ROWS_MIN);
    let each = extents.len().div_ceil(columns * rows).max(1);
    let mut lines = vec![heading(extents.len(), extent_bytes, each)];
    for (row, some) in extents.chunks(each * columns).enumerate() {
        let cells: String =
            some.chunks(each).map(|few| Cell::of(few, extent_bytes).text(canvas.color)).collect();
        lines.push(format!("{:>7}  {cells}", row * columns * each));
    }
    lines.push(String::new());
    lines.extend(legend(extents, extent_bytes, canvas.color));
    lines
}

fn heading(extents: usize, extent_bytes: u64, each: usize) -> String {
    let extents = human::plural(extents as u64, "extent", "extents");
    let cell = match each {
        1 => "a cell for each".to_owned(),
        _ => format!("{} to a cell", human::count(each as u64)),
    };
    format!("{extents} of {}, {cell}", human::size(extent_bytes))
}

/// Each state that is there, with its cell, how many extents are in it and how much of them lives.
fn legend(extents: &[ExtentInfo], extent_bytes: u64, color: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for state in ExtentUse::ALL {
        let some: Vec<&ExtentInfo> = extents.iter().filter(|e| e.state == state).collect();
        if some.is_empty() {
            continue;
        }
        let sample = Cell { state, live: 1.0 }.text(color);
        let count = human::count(some.len() as u64);
        let mut line = format!("{sample} {count:>9}  {state}");
        let live: u64 = some.iter().map(|extent| extent.live_bytes).sum();
        if !state.is_empty() {
            let all = (some.len() as u64 * extent_bytes).max(1);
            line += &format!(", {:.0}% live", 100.0 * live as f64 / all as f64);
        }
        let suspects = some.iter().filter(|extent| extent.suspect).count() as u64;
        if suspects > 0 {
            line += &format!(", {} suspect", human::count(suspects));
        }
        lines.push(line);
    }
    lines.push(match color {
        true => format!(
            "{}  from less than a quarter live to all",
            DENSITIES.iter().collect::<String>()
        ),
        false => "capital letters: half or more lives".to_owned(),
    });
    lines
}
