//! The rows for people.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};

use crate::rows::{Cistern, Row};

const HEADER: [&str; 11] = [
    "trace",
    "capacity",
    "FIFO",
    "LRU",
    "S3-FIFO",
    "moka",
    "quick_cache",
    "marks",
    "sampled",
    "unmarked",
    "gap, points",
];

pub(crate) fn show(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(HEADER);
    table.add_rows(rows.iter().map(cells));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{}", table.trim_fmt());
}

fn cells(row: &Row) -> [String; HEADER.len()] {
    let ratio = |ratio: f64| format!("{ratio:.4}");
    let ours = |of: fn(&Cistern) -> f64| ratio(of(&row.cistern));
    [
        row.trace.into(),
        row.capacity.to_string(),
        ratio(row.fifo),
        ratio(row.lru),
        ratio(row.s3fifo),
        ratio(row.moka),
        ratio(row.quick_cache),
        ours(|cistern| cistern.marks),
        ours(|cistern| cistern.sampled),
        ours(|cistern| cistern.unmarked),
        format!("{:.2}", row.gap_points()),
    ]
}
