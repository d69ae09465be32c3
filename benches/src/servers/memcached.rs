//! memcached, by its text protocol.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Program;
use crate::worker::PATIENCE;

/// The server.
pub const MEMCACHED: Program = Program { name: "memcached", programs: &["memcached"], arguments };

fn arguments(socket: &Path, mib: u64) -> Vec<String> {
    let (socket, mib) = (socket.display().to_string(), mib.to_string());
    // -M: refuse rather than evict. -u: only root needs it, whoever else passes it is not heard.
    ["-s", &socket, "-m", &mib, "-M", "-t", "1", "-u", "root"].map(str::to_owned).to_vec()
}

/// A connection to it.
#[derive(Debug)]
pub struct Memcached {
    answers: BufReader<UnixStream>,
    commands: BufWriter<UnixStream>,
    line: Vec<u8>,
}

impl Memcached {
    /// Speaks over `stream`.
    ///
    /// # Errors
    /// If its descriptor can't be duplicated.
    pub fn new(stream: UnixStream) -> Result<Self> {
        Ok(Self {
            answers: BufReader::with_capacity(1 << 16, stream.try_clone()?),
            commands: BufWriter::with_capacity(1 << 16, stream),
            line: Vec::new(),
        })
    }

    /// Sends a set whose answer nobody waits for.
    pub fn send_set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write_set(key, value, " noreply")
    }

    /// Sets, and waits until it is done.
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write_set(key, value, "")?;
        self.commands.flush()?;
        self.read_line()?;
        ensure!(self.line == b"STORED\r\n", "it answered {:?} to a set", self.text());
        Ok(())
    }

    fn write_set(&mut self, key: &[u8], value: &[u8], noreply: &str) -> Result<()> {
        self.commands.write_all(b"set ")?;
        self.commands.write_all(key)?;
        write!(self.commands, " 0 0 {}{noreply}\r\n", value.len())?;
        self.commands.write_all(value)?;
        self.commands.write_all(b"\r\n")?;
        Ok(())
    }

    /// Asks for `keys` at once, and copies the values of those that are there one behind the other into
    /// `buffer`; the length of each, in the order of the keys.
    pub fn get<K: AsRef<[u8]>>(
        &mut self,
        keys: &[K],
        mut buffer: &mut [u8],
        mut found: impl FnMut(usize, usize),
    ) -> Result<()> {
        self.commands.write_all(b"get")?;
        for key in keys {
            self.commands.write_all(b" ")?;
            self.commands.write_all(key.as_ref())?;
        }
        self.commands.write_all(b"\r\n")?;
        self.commands.flush()?;
        let mut number = 0;
        loop {
            self.read_line()?;
            if self.line == b"END\r\n" {
                return Ok(());
            }
            let mut words = self.line.split(|byte| byte.is_ascii_whitespace()).skip(1);
            let key = words.next().with_context(|| format!("it answered {:?}", self.text()))?;
            let asked = keys[number..].iter().position(|asked| asked.as_ref() == key);
            number += asked.context("it answered with a key that was not asked for")?;
            let len = words.nth(1).and_then(|len| str::from_utf8(len).ok()?.parse().ok());
            let len: usize = len.with_context(|| format!("it answered {:?}", self.text()))?;
            ensure!(len <= buffer.len(), "a value of {len} bytes, for which there is no room");
            let (value, rest) = buffer.split_at_mut(len);
            self.answers.read_exact(value)?;
            let mut end = [0; 2];
            self.answers.read_exact(&mut end)?;
            found(number, len);
            number += 1;
            buffer = rest;
        }
    }

    /// Pages of slabs, and the hash table once it has its size.
    pub fn used_bytes(&mut self) -> Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats("stats")?;
            if number(&stats, "hash_is_expanding")? == 0 {
                let slabs = self.stats("stats slabs")?;
                return Ok(number(&stats, "hash_bytes")? + number(&slabs, "total_malloced")?);
            }
            ensure!(Instant::now() < deadline, "its hash table is still growing");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Items that it has.
    pub fn items(&mut self) -> Result<u64> {
        number(&self.stats("stats")?, "curr_items")
    }

    /// The answer to `stats`, with or without an argument.
    fn stats(&mut self, command: &str) -> Result<HashMap<String, String>> {
        write!(self.commands, "{command}\r\n")?;
        self.commands.flush()?;
        let mut stats = HashMap::new();
        loop {
            self.read_line()?;
            let line = self.text();
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["END"] => return Ok(stats),
                ["STAT", name, value] => stats.insert(name.to_owned(), value.to_owned()),
                _ => bail!("it answered {line:?}"),
            };
        }
    }

    fn read_line(&mut self) -> Result<()> {
        self.line.clear();
        ensure!(self.answers.read_until(b'\n', &mut self.line)? > 0, "it closed the connection");
        Ok(())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }
}

fn number(stats: &HashMap<String, String>, name: &str) -> Result<u64> {
    let text = stats.get(name).with_context(|| format!("it tells no {name}"))?;
    text.parse().with_context(|| format!("{name} is {text:?}"))
}
