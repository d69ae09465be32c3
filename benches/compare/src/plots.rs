//! The report's drawings, in SVG.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::{IntoLogRange, LineSeries, SVGBackend};
use plotters::style::{Color, HSLColor, IntoFont, WHITE};

use store_benches::stats::median;

use crate::engines::Kind;
use crate::limit::Limit;
use crate::plan::Plan;
use crate::results::Results;
use crate::rows::count;
use crate::scaling::Line;
use crate::work::Work;

const SIZE: (u32, u32) = (1000, 560);
/// Of that, what names take.
const LEGEND: u32 = 210;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line of each engine, and one of plain reads.
type Lines = Vec<(Option<Kind>, Vec<(f64, f64)>)>;

/// Draws all into `folder`.
pub(crate) fn draw(folder: &Path, results: &Results, plan: &Plan) -> Result<()> {
    let latency = latency(results);
    if latency.iter().any(|(_, points)| points.len() > 1) {
        let path = folder.join("latency.svg");
        let frame = Frame { title: "get, one process", x: "items", y: "ns per operation" };
        frame.draw(&path, &latency)?;
    }
    let throughput = throughput(results);
    if throughput.iter().any(|(_, points)| points.len() > 1) {
        let path = folder.join("throughput.svg");
        let frame =
            Frame { title: "get, several processes", x: "processes", y: "millions per second" };
        frame.draw(&path, &throughput)?;
    }
    memory(&folder.join("memory.svg"), results, plan)
}

fn latency(results: &Results) -> Lines {
    let mut lines: BTreeMap<Kind, Vec<(f64, f64)>> = BTreeMap::new();
    let mut reads = Vec::new();
    // Values of another size are of another comparison.
    let value_bytes = results.sizes.first().map(|size| size.value_bytes);
    for size in results.sizes.iter().filter(|size| Some(size.value_bytes) == value_bytes) {
        let items = f64::from(size.items);
        for kind in size.engines.keys() {
            if let Some(ns) = size.ns(*kind, Work::Get) {
                lines.entry(*kind).or_default().push((items, ns));
            }
        }
        reads.extend(size.limit_ns(Limit::DependentRead).map(|ns| (items, ns)));
    }
    let named = lines.into_iter().map(|(kind, points)| (Some(kind), points));
    named.chain([(None, reads)]).collect()
}

fn throughput(results: &Results) -> Lines {
    let Some(scaling) = &results.scaling else { return Lines::new() };
    let points = |line: &Line| {
        line.iter().map(|(count, rounds)| (*count as f64, median(rounds) / 1e6)).collect()
    };
    let named = scaling.gets.iter().map(|(kind, line)| (Some(*kind), points(line)));
    named.chain([(None, points(&scaling.reads))]).collect()
}

struct Frame {
    title: &'static str,
    x: &'static str,
    y: &'static str,
}

impl Frame {
    /// Both axes by powers of ten, names beside them.
    fn draw(&self, path: &Path, lines: &Lines) -> Result<()> {
        let root = area(path)?;
        let (left, right) = root.split_horizontally(SIZE.0 - LEGEND);
        let points = || lines.iter().flat_map(|(_, points)| points);
        let range = |of: fn(&(f64, f64)) -> f64| {
            let least = points().map(of).fold(f64::INFINITY, f64::min);
            let most = points().map(of).fold(f64::MIN_POSITIVE, f64::max);
            (least * 0.7..most * 1.4).log_scale()
        };
        let mut chart = ChartBuilder::on(&left)
            .caption(self.title, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(range(|point| point.0), range(|point| point.1))
            .map_err(wrong)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| count(*x as u32))
            .y_label_formatter(&|y| y.to_string())
            .draw()
            .map_err(wrong)?;
        for (number, (kind, points)) in (0..).zip(lines) {
            let color = color(*kind);
            let line = LineSeries::new(points.clone(), color.stroke_width(2));
            chart.draw_series(line).map_err(wrong)?;
            let dots = points.iter().map(|point| Circle::new(*point, 3, color.filled()));
            chart.draw_series(dots).map_err(wrong)?;
            let y = 60 + number * 24;
            let mark = PathElement::new([(8, y), (30, y)], color.stroke_width(3));
            right.draw(&mark).map_err(wrong)?;
            let name = kind.map_or("read of a line, dependent", Kind::name);
            let text = Text::new(name, (38, y - 8), ("sans-serif", 15).into_font());
            right.draw(&text).map_err(wrong)?;
        }
        root.present().map_err(wrong)
    }
}

/// A bar for each engine: what an item takes.
fn memory(path: &Path, results: &Results, plan: &Plan) -> Result<()> {
    let value_bytes = results.sizes.first().map_or(0, |size| size.value_bytes);
    let Some(size) = results.size(plan.medium, value_bytes) else { return Ok(()) };
    let mut bars: Vec<_> = size
        .engines
        .iter()
        .filter_map(|(kind, side)| {
            Some((*kind, side.memory.as_ref()?.bytes as f64 / f64::from(size.items)))
        })
        .collect();
    bars.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let root = area(path)?;
    let most = bars.iter().map(|(_, bytes)| *bytes).fold(1.0, f64::max);
    let title = format!("memory of an item, {} x {value_bytes} B", count(size.items));
    let write = |text: String, at: (i32, i32), size: u32| {
        root.draw(&Text::new(text, at, ("sans-serif", size).into_font())).map_err(wrong)
    };
    write(title, (20, 16), 22)?;
    for (number, (kind, bytes)) in (0..).zip(&bars) {
        let (top, left) = (60 + number * 36, 190);
        let length = (bytes / most * 600.0) as i32;
        let color = color(Some(*kind)).filled();
        let bar = Rectangle::new([(left, top), (left + length, top + 24)], color);
        root.draw(&bar).map_err(wrong)?;
        write(kind.name().into(), (20, top + 4), 16)?;
        write(format!("{bytes:.0} bytes"), (left + length + 8, top + 4), 16)?;
    }
    root.present().map_err(wrong)
}

fn area(path: &Path) -> Result<Area<'_>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(wrong)?;
    Ok(root)
}

/// The same in each drawing, as far from the others' as it can be; black is the machine's.
fn color(kind: Option<Kind>) -> HSLColor {
    let Some(kind) = kind else { return HSLColor(0.0, 0.0, 0.1) };
    let number = Kind::ALL.iter().position(|known| *known == kind).unwrap_or_default();
    let shade = if number.is_multiple_of(2) { 0.38 } else { 0.55 };
    HSLColor(number as f64 / Kind::ALL.len() as f64, 0.75, shade)
}

fn wrong(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing: {error}")
}
