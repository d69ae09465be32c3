//! Progress on standard error. Hidden when that is no terminal, so scripts and logs stay clean.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Progress through a known number of bytes.
pub(crate) fn bytes(total: u64) -> ProgressBar {
    let template = "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} left {msg}";
    styled(ProgressBar::new(total), template)
}

/// Progress through input of unknown length.
pub(crate) fn stream() -> ProgressBar {
    let bar = styled(
        ProgressBar::new_spinner(),
        "{spinner} {bytes} in {elapsed}, {binary_bytes_per_sec} {msg}",
    );
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    bar
}

/// Progress through a number of things.
pub(crate) fn things(total: u64, what: &'static str) -> ProgressBar {
    let template = "{wide_bar} {human_pos}/{human_len} {msg} {per_sec}, {eta} left";
    styled(ProgressBar::new(total), template).with_message(what)
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // The templates are constants of this file, held by the test below.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_can_be_made() {
        for bar in [bytes(10), stream(), things(10, "keys")] {
            bar.inc(1);
            assert_eq!(bar.position(), 1);
            bar.finish_and_clear();
        }
    }
}
