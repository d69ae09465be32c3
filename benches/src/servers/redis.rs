//! Redis or Valkey, by RESP.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Program;

/// The server.
pub const REDIS: Program =
    Program { name: "redis", programs: &["redis-server", "valkey-server"], arguments };

/// Commands that are sent before their answers are read.
const BATCH: u32 = 512;

fn arguments(socket: &Path, mib: u64) -> Vec<String> {
    let (socket, mib) = (socket.display().to_string(), format!("{mib}mb"));
    let no_file = ["--save", "", "--appendonly", "no"];
    let listen = ["--port", "0", "--unixsocket", &socket];
    let memory = ["--maxmemory", &mib, "--maxmemory-policy", "noeviction"];
    [no_file, listen, memory].concat().into_iter().map(str::to_owned).collect()
}

/// A connection to it.
#[derive(Debug)]
pub struct Redis {
    answers: BufReader<UnixStream>,
    commands: BufWriter<UnixStream>,
    line: Vec<u8>,
    /// Sets whose answers were not read yet.
    waiting: u32,
}

impl Redis {
    /// Speaks over `stream`.
    ///
    /// # Errors
    /// If its descriptor can't be duplicated.
    pub fn new(stream: UnixStream) -> Result<Self> {
        Ok(Self {
            answers: BufReader::with_capacity(1 << 16, stream.try_clone()?),
            commands: BufWriter::with_capacity(1 << 17, stream),
            line: Vec::new(),
            waiting: 0,
        })
    }

    /// Sends a set; its answer is read later, at the latest by [`Redis::settle`].
    pub fn send_set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.send(&[b"SET", key, value])?;
        self.waiting += 1;
        if self.waiting == BATCH { self.settle() } else { Ok(()) }
    }

    /// Reads the answers of all sets that were sent.
    pub fn settle(&mut self) -> Result<()> {
        for _ in 0..self.waiting {
            self.read_line()?;
            ensure!(self.line == b"+OK", "it answered {:?} to a set", self.text());
        }
        self.waiting = 0;
        Ok(())
    }

    /// Sets, and waits until it is done.
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.send(&[b"SET", key, value])?;
        self.waiting += 1;
        self.settle()
    }

    /// Copies the value of `key` into `buffer`; its length, if it is there.
    pub fn get(&mut self, key: &[u8], buffer: &mut [u8]) -> Result<Option<usize>> {
        self.send(&[b"GET", key])?;
        self.read_bulk(buffer)
    }

    /// Asks for `keys` at once, and copies the values of those that are there one behind the other into
    /// `buffer`; the length of each, in the order of the keys.
    pub fn get_many<K: AsRef<[u8]>>(
        &mut self,
        keys: &[K],
        mut buffer: &mut [u8],
        mut found: impl FnMut(usize, usize),
    ) -> Result<()> {
        write!(self.commands, "*{}\r\n$4\r\nMGET\r\n", keys.len() + 1)?;
        for key in keys {
            self.write_word(key.as_ref())?;
        }
        self.read_line()?;
        ensure!(self.line.first() == Some(&b'*'), "it answered {:?} to an MGET", self.text());
        for number in 0..keys.len() {
            if let Some(len) = self.read_bulk(buffer)? {
                found(number, len);
                buffer = &mut buffer[len..];
            }
        }
        Ok(())
    }

    /// What it says that it uses.
    pub fn used_bytes(&mut self) -> Result<u64> {
        self.send(&[b"INFO", b"memory"])?;
        let mut buffer = vec![0; 1 << 16];
        let len = self.read_bulk(&mut buffer)?.context("it has no INFO")?;
        let text = str::from_utf8(&buffer[..len])?;
        let used = text.lines().find_map(|line| line.strip_prefix("used_memory:"));
        let used = used.context("it tells no used_memory")?;
        used.parse().with_context(|| format!("used_memory is {used:?}"))
    }

    /// Items that it has.
    pub fn items(&mut self) -> Result<u64> {
        self.send(&[b"DBSIZE"])?;
        self.read_line()?;
        let answer = self.text();
        let items = answer.strip_prefix(':').and_then(|items| items.parse().ok());
        items.with_context(|| format!("it answered {answer:?} to DBSIZE"))
    }

    fn send(&mut self, words: &[&[u8]]) -> Result<()> {
        write!(self.commands, "*{}\r\n", words.len())?;
        words.iter().try_for_each(|word| self.write_word(word))
    }

    fn write_word(&mut self, word: &[u8]) -> Result<()> {
        write!(self.commands, "${}\r\n", word.len())?;
        self.commands.write_all(word)?;
        Ok(self.commands.write_all(b"\r\n")?)
    }

    /// The next line of the answers, without its end.
    fn read_line(&mut self) -> Result<()> {
        self.commands.flush()?;
        self.line.clear();
        ensure!(self.answers.read_until(b'\n', &mut self.line)? > 0, "it closed the connection");
        ensure!(!self.line.starts_with(b"-"), "it answered {:?}", self.text());
        self.line.truncate(self.line.trim_ascii_end().len());
        Ok(())
    }

    fn read_bulk(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        self.read_line()?;
        if self.line == b"$-1" {
            return Ok(None);
        }
        let len =
            self.line.strip_prefix(b"$").and_then(|len| str::from_utf8(len).ok()?.parse().ok());
        let len: usize =
            len.with_context(|| format!("it answered {:?} instead of a bulk", self.text()))?;
        ensure!(len <= buffer.len(), "a value of {len} bytes, for which there is no room");
        self.answers.read_exact(&mut buffer[..len])?;
        let mut end = [0; 2];
        self.answers.read_exact(&mut end)?;
        Ok(Some(len))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }
}
