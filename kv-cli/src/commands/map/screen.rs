//! The other screen of a terminal, which shows one drawing after the other and leaves nothing behind.

use std::io::{self, Write};

use crate::exit::Failure;

/// To the other screen, with its cursor hidden.
const OPEN: &str = "\x1b[?1049h\x1b[?25l";
/// Back to where the terminal was.
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner.
const HOME: &str = "\x1b[H";
/// What is right of the cursor goes.
const CLEAR_LINE: &str = "\x1b[K";
/// What is below it too.
const CLEAR_BELOW: &str = "\x1b[J";

/// The other screen, as long as it is there.
pub(super) struct Screen;

impl Screen {
    pub(super) fn open() -> Result<Self, Failure> {
        let screen = Self;
        write(OPEN)?;
        Ok(screen)
    }

    /// Replaces what is shown, without a moment at which nothing is.
    pub(super) fn show(&mut self, lines: &[String]) -> Result<(), Failure> {
        let mut frame = HOME.to_owned();
        for line in lines {
            frame += line;
            frame += CLEAR_LINE;
            frame += "\r\n";
        }
        frame += CLEAR_BELOW;
        write(&frame)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = write(CLOSE);
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::output(&error))
}
