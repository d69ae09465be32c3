//! memcached, by its text protocol.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use store_benches::worker::PATIENCE;

use crate::peer::{Client, Peer, VALUE_BYTES, Workload};

pub(crate) const PEER: Peer =
    Peer { name: "memcached", programs: &["memcached"], arguments, connect };

fn arguments(socket: &Path, mib: u64) -> Vec<String> {
    let (socket, mib) = (socket.display().to_string(), mib.to_string());
    // -M: refuse rather than evict. -u: only root needs it, whoever else passes it is not heard.
    ["-s", &socket, "-m", &mib, "-M", "-t", "1", "-u", "root"].map(str::to_owned).to_vec()
}

fn connect(stream: UnixStream) -> Result<Box<dyn Client>> {
    Ok(Box::new(Memcached {
        answers: BufReader::new(stream.try_clone()?),
        commands: BufWriter::with_capacity(1 << 16, stream),
    }))
}

struct Memcached {
    answers: BufReader<UnixStream>,
    commands: BufWriter<UnixStream>,
}

impl Memcached {
    /// The answer to `stats`, with or without an argument.
    fn stats(&mut self, command: &str) -> Result<HashMap<String, String>> {
        write!(self.commands, "{command}\r\n")?;
        self.commands.flush()?;
        let mut stats = HashMap::new();
        loop {
            let mut line = String::new();
            ensure!(self.answers.read_line(&mut line)? > 0, "it closed the connection");
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["END"] => return Ok(stats),
                ["STAT", name, value] => stats.insert(name.to_owned(), value.to_owned()),
                _ => bail!("it answered {line:?}"),
            };
        }
    }
}

fn number(stats: &HashMap<String, String>, name: &str) -> Result<u64> {
    let text = stats.get(name).with_context(|| format!("it tells no {name}"))?;
    text.parse().with_context(|| format!("{name} is {text:?}"))
}

impl Client for Memcached {
    /// Pages of slabs, and the hash table once it has its size.
    fn used_bytes(&mut self) -> Result<u64> {
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

    fn load(&mut self, workload: &Workload) -> Result<()> {
        workload.each(|key, value| {
            self.commands.write_all(b"set ")?;
            self.commands.write_all(key)?;
            write!(self.commands, " 0 0 {VALUE_BYTES} noreply\r\n")?;
            self.commands.write_all(value)?;
            self.commands.write_all(b"\r\n")?;
            Ok(())
        })
    }

    fn items(&mut self) -> Result<u64> {
        number(&self.stats("stats")?, "curr_items")
    }
}
