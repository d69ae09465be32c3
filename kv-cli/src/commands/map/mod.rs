//! `map`: the extents of a store by state, one after the other, once or again and again.

mod drawing;
mod screen;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use store_client::{ExtentInfo, Reader};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use drawing::{Canvas, draw};
use screen::Screen;

/// The shortest time between two drawings, in seconds: to look costs a line of memory an extent.
const FASTEST: f64 = 0.05;
/// The longest, a day.
const SLOWEST: f64 = 86_400.0;
/// How soon Ctrl-C is noticed.
const PATIENCE: Duration = Duration::from_millis(50);

/// Cells in a row where there is no terminal, and rows.
const PLAIN: Canvas = Canvas { columns: 64, rows: 32, color: false };

/// Draw the extents of a store by state
///
/// One cell for each extent, or for a fixed number of neighbours where there are more than fit.
/// On a terminal its color is the state, and the denser it is the more of it lives. Without color
/// (NO_COLOR, pipes) the state is a letter, a capital one where half or more lives.
#[derive(Debug, clap::Args)]
pub(crate) struct MapArgs {
    /// Draw anew every so many seconds until Ctrl-C; needs a terminal
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "1",
        value_parser = seconds
    )]
    watch: Option<Duration>,
}

#[derive(Serialize)]
struct JsonExtent {
    extent: u32,
    state: String,
    live_bytes: u64,
    used_bytes: u64,
    client: Option<u32>,
    pid: Option<u32>,
    suspect: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(number) if (FASTEST..=SLOWEST).contains(&number) => Ok(Duration::from_secs_f64(number)),
        _ => Err(format!("write a number of seconds from {FASTEST} to {SLOWEST}")),
    }
}

pub(crate) fn run(args: MapArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    if args.watch.is_some() && (format.is_json() || !context.output.is_terminal()) {
        return Err(Failure::usage(
            "--watch draws on a terminal; leave it out, or call map again and again",
        ));
    }
    let reader = context.reader()?;
    if let Some(pause) = args.watch {
        return watch(&reader, pause, context);
    }
    let extents = reader.extents()?;
    match format {
        Format::Json => context.output.json(&extents.iter().map(json).collect::<Vec<_>>())?,
        Format::Jsonl => {
            extents.iter().try_for_each(|extent| context.output.json(&json(extent)))?;
        }
        _ => {
            let canvas = canvas(&context.output);
            for line in draw(&extents, reader.info()?.extent_bytes, canvas) {
                context.output.line(&line)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// What there is to draw on.
fn canvas(output: &Output) -> Canvas {
    let size = match output.is_terminal() {
        true => terminal_size::terminal_size(),
        false => None,
    };
    match size {
        Some((width, height)) => {
            Canvas { columns: width.0.into(), rows: height.0.into(), color: output.has_color() }
        }
        None => Canvas { color: output.has_color(), ..PLAIN },
    }
}

/// Draws until a signal comes, then leaves the terminal as it was.
fn watch(reader: &Reader, pause: Duration, context: &mut Context) -> Result<Exit, Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended))
            .map_err(|error| Failure::system("catching signals", &error))?;
    }
    let extent_bytes = reader.info()?.extent_bytes;
    let mut screen = Screen::open()?;
    while !ended.load(Ordering::Relaxed) {
        if reader.is_retired() {
            drop(screen);
            return Err(Failure::new(Exit::NoStore, format!("{} was removed", context.store)));
        }
        let canvas = canvas(&context.output);
        let mut lines = draw(&reader.extents()?, extent_bytes, canvas);
        lines.truncate(canvas.rows.saturating_sub(1).max(1));
        screen.show(&lines)?;
        let drawn = Instant::now();
        while drawn.elapsed() < pause && !ended.load(Ordering::Relaxed) {
            std::thread::sleep(PATIENCE.min(pause));
        }
    }
    Ok(Exit::Done)
}

fn json(extent: &ExtentInfo) -> JsonExtent {
    JsonExtent {
        extent: extent.number,
        state: extent.state.to_string(),
        live_bytes: extent.live_bytes,
        used_bytes: extent.used_bytes,
        client: extent.client,
        pid: extent.client.and(Some(extent.pid)).filter(|pid| *pid != 0),
        suspect: extent.suspect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_be_broken_and_have_limits() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
        for text in ["", "0", "-1", "nan", "inf", "1e9", "2s"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }
}
