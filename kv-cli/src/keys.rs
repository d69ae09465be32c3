//! Keys from the command line or, with `-`, from standard input: one a line, or with `-0` between
//! NUL bytes, as `xargs -0` and `grep -z` do it. They are handed on in batches, so a list of any
//! length takes bounded memory.

use std::ffi::OsString;
use std::io::BufRead;
use std::os::unix::ffi::OsStringExt;

use crate::exit::{Exit, Failure};
use crate::human;
use crate::records::{self, Piece};

/// How many keys are looked up at once. Large enough for the batched lookup to pay.
const BATCH: usize = 512;

/// The arguments of commands that take many keys.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// Keys; a single `-` reads them from standard input, one a line (empty lines are skipped)
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<OsString>,

    /// Keys on standard input are separated by NUL bytes, and so is raw output
    #[arg(short = '0', long = "null")]
    pub(crate) null: bool,
}

impl KeyArgs {
    /// The only key on the command line.
    pub(crate) fn single(self) -> Option<Vec<u8>> {
        let [key] = <[OsString; 1]>::try_from(self.keys).ok()?;
        (key != "-").then(|| key.into_vec())
    }

    /// Hands all keys on in batches. `limit` is the longest key in bytes that is worth reading.
    pub(crate) fn for_each_batch(
        self,
        limit: u64,
        handle: impl FnMut(&[Vec<u8>]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.keys.len() == 1 && self.keys[0] == "-" {
            let stdin = std::io::stdin();
            return batches_of(&mut stdin.lock(), self.null, limit, handle);
        }
        let keys: Vec<Vec<u8>> = self.keys.into_iter().map(OsStringExt::into_vec).collect();
        keys.chunks(BATCH).try_for_each(handle)
    }
}

fn batches_of(
    input: &mut impl BufRead,
    null: bool,
    limit: u64,
    mut handle: impl FnMut(&[Vec<u8>]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let delimiter = if null { 0 } else { b'\n' };
    let (mut buffer, mut batch) = (Vec::new(), Vec::with_capacity(BATCH));
    let mut number: u64 = 0;
    loop {
        let piece = records::next(input, delimiter, limit, &mut buffer)
            .map_err(|error| Failure::system("reading keys from standard input", &error))?;
        number += 1;
        match piece {
            Piece::End => break,
            Piece::TooLong => {
                // What came before is done, as it would be with keys on the command line.
                handle(&batch)?;
                return Err(Failure::new(
                    Exit::Refused,
                    format!(
                        "key {} on standard input has more than {} bytes, the most a key may have",
                        human::count(number),
                        human::count(limit as u64)
                    ),
                ));
            }
            Piece::Whole if buffer.is_empty() && !null => {}
            Piece::Whole => batch.push(std::mem::take(&mut buffer)),
        }
        if batch.len() == BATCH {
            handle(&batch)?;
            batch.clear();
        }
    }
    if batch.is_empty() { Ok(()) } else { handle(&batch) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    proptest! {
        #[test]
        fn whatever_the_bytes_are_none_is_lost(input: Vec<u8>, null: bool) {
            let delimiter = if null { 0 } else { b'\n' };
            let (keys, result) = collect(&input, null);
            let mut pieces: Vec<&[u8]> = input.split(|byte| *byte == delimiter).collect();
            if pieces.last().is_some_and(|last| last.is_empty()) {
                pieces.pop();
            }
            let too_long = pieces.iter().position(|piece| piece.len() > 10);
            pieces.truncate(too_long.unwrap_or(pieces.len()));
            pieces.retain(|piece| null || !piece.is_empty());
            assert_eq!(keys, pieces);
            assert_eq!(result.is_err(), too_long.is_some());
        }
    }

    fn collect(input: &[u8], null: bool) -> (Vec<Vec<u8>>, Result<(), Failure>) {
        let mut all = Vec::new();
        let result = batches_of(&mut &input[..], null, 10, |batch| {
            assert!(batch.len() <= BATCH);
            all.extend_from_slice(batch);
            Ok(())
        });
        (all, result)
    }

    #[test]
    fn lines_skip_empty_ones_and_nul_keeps_newlines() {
        let (keys, result) = collect(b"one\n\ntwo", false);
        assert!(result.is_ok());
        assert_eq!(keys, [b"one".to_vec(), b"two".to_vec()]);
        let (keys, _) = collect(b"a\nb\0\0c\0", true);
        assert_eq!(keys, [b"a\nb".to_vec(), Vec::new(), b"c".to_vec()]);
    }

    #[test]
    fn many_keys_come_in_batches() {
        let input: String = (0..1300).map(|i| format!("{i}\n")).collect();
        let (keys, result) = collect(input.as_bytes(), false);
        assert!(result.is_ok());
        assert_eq!(keys.len(), 1300);
        assert_eq!(keys[1299], b"1299");
    }

    #[test]
    fn a_key_too_long_is_refused_by_number_after_those_before() {
        let (keys, result) = collect(b"one\n01234567890\nthree\n", false);
        assert_eq!(keys, [b"one".to_vec()]);
        let failure = result.expect_err("refused");
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.line().is_some_and(|line| line.contains("key 2 ")));
    }
}
