//! Reading delimited input of any length in bounded memory: lines, or pieces between NUL bytes.
//!
//! A piece longer than the limit is skipped up to its end and reported, never held in memory.

use std::io::{self, BufRead};

/// What [`next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The buffer holds a piece, without its delimiter.
    Whole,
    /// The piece had more bytes than allowed; it was skipped.
    TooLong,
    End,
}

/// Reads one piece into `buffer`. The last one needs no delimiter behind it.
pub(crate) fn next(
    input: &mut impl BufRead,
    delimiter: u8,
    limit: usize,
    buffer: &mut Vec<u8>,
) -> io::Result<Piece> {
    buffer.clear();
    let (mut any, mut too_long) = (false, false);
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            break;
        }
        any = true;
        let end = available.iter().position(|&byte| byte == delimiter);
        let part = &available[..end.unwrap_or(available.len())];
        if too_long || buffer.len() + part.len() > limit {
            too_long = true;
            *buffer = Vec::new();
        } else {
            buffer.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            break;
        }
    }
    Ok(match (any, too_long) {
        (_, true) => Piece::TooLong,
        (true, false) => Piece::Whole,
        (false, false) => Piece::End,
    })
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// All pieces of an input read through a buffer of 4 bytes, so that pieces span refills.
    fn pieces(input: &[u8], delimiter: u8, limit: usize) -> Vec<Option<Vec<u8>>> {
        let mut input = BufReader::with_capacity(4, input);
        let (mut buffer, mut out) = (Vec::new(), Vec::new());
        loop {
            match next(&mut input, delimiter, limit, &mut buffer) {
                Ok(Piece::Whole) => out.push(Some(buffer.clone())),
                Ok(Piece::TooLong) => out.push(None),
                Ok(Piece::End) => return out,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn lines_and_their_ends() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(pieces(b"", b'\n', 10), []);
        assert_eq!(pieces(b"one\ntwo", b'\n', 10), [some("one"), some("two")]);
        assert_eq!(pieces(b"one\n\ntwo\n", b'\n', 10), [some("one"), some(""), some("two")]);
        assert_eq!(pieces(b"a\nb\0c\0", 0, 10), [some("a\nb"), some("c")]);
    }

    #[test]
    fn a_long_piece_is_skipped_and_the_next_one_read() {
        let input = [&[b'x'; 1000][..], b"\nshort\n", &[b'y'; 11][..]].concat();
        let exact = [&[b'z'; 10][..], b"\n"].concat();
        assert_eq!(pieces(&input, b'\n', 10), [None, Some(b"short".to_vec()), None]);
        assert_eq!(pieces(&exact, b'\n', 10), [Some(vec![b'z'; 10])]);
    }
}
