//! A process that does its part of a history, unless it is killed before.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use store_core::{
    Condition, Deletion, Outcome, PutOptions, ReadError, Session, Store, Version, WriteError,
};

use store_benches::appended::{append_stamp, fill, put_stamp, read};
use store_benches::mortal::{Doom, Fate, Mortal, Role, registered};
use store_benches::records::{Stamp, mix};

use nix::sys::signal::Signal;

use crate::log::{Client, Log, OPERATIONS};
use crate::model::{Answer, Call, State, Value, with_record};

/// Keys that each client writes to itself, so that extents have to be emptied.
const OWN_KEYS: u32 = 24;

/// What a process is to do.
pub(crate) struct Part<'a> {
    pub(crate) store: &'a Store<Mortal>,
    pub(crate) log: &'static Log,
    /// Which client it is.
    pub(crate) number: u8,
    pub(crate) history: u64,
    pub(crate) keys: usize,
    pub(crate) doom: Doom,
    pub(crate) seed: u64,
    /// Of 1024 stores, so many are preceded by letting others run.
    pub(crate) yields: u64,
    /// Answers lookups with what it was answered first: to see that it is found out.
    pub(crate) stale: bool,
    /// Whether it begins the history with others, and does not follow one that was killed.
    pub(crate) is_first: bool,
}

/// A key of a history: each history has keys of its own.
pub(crate) fn key_of(history: u64, key: usize) -> Vec<u8> {
    format!("history:{history}:{key}").into_bytes()
}

/// Keys with an odd number hold numbers, and what is put over them; to the others is appended.
fn has_numbers(key: usize) -> bool {
    key % 2 == 1
}

impl Part<'_> {
    pub(crate) fn play(&self) -> Result<()> {
        let client = &self.log.clients[usize::from(self.number)];
        let session = self.store.open_session().context("registering")?;
        registered(&client.life, &self.log.graves, session.client());
        self.log.ready.fetch_add(1, Ordering::AcqRel);
        while self.is_first && self.log.began.load(Ordering::Acquire) != self.history {
            std::thread::yield_now();
        }
        Fate::new(&client.life, &self.log.graves, Role::Peer)
            .doom(self.doom, Signal::SIGKILL)
            .yields(self.yields, self.seed)
            .begin();
        let mut player = Player {
            part: self,
            client,
            session: &session,
            rng: SmallRng::seed_from_u64(self.seed),
            value: Vec::new(),
            first_seen: HashMap::new(),
        };
        while client.begun.load(Ordering::Acquire) < OPERATIONS as u64 {
            player.pause()?;
            let turn = client.begun.fetch_add(1, Ordering::AcqRel);
            let key = player.rng.random_range(0..self.keys);
            player.act(key, turn as u32)?;
        }
        self.store.close_session(&session)?;
        Ok(())
    }
}

/// A process at its part.
struct Player<'a> {
    part: &'a Part<'a>,
    client: &'static Client,
    session: &'a Session,
    rng: SmallRng,
    value: Vec<u8>,
    /// For one that is stale.
    first_seen: HashMap<usize, State>,
}

impl Player<'_> {
    /// Lets time pass between two operations, now and then by other work.
    fn pause(&mut self) -> Result<()> {
        match self.rng.random_range(0..6) {
            0 => std::thread::yield_now(),
            1 => {
                for _ in 0..self.rng.random_range(1..2000) {
                    std::hint::spin_loop();
                }
            }
            2 => {
                let own = self.rng.random_range(0..OWN_KEYS);
                let key = format!("own:{}:{own}", self.part.number);
                let value = vec![own as u8; self.rng.random_range(100..3000)];
                let (options, always) = (PutOptions::new(), Condition::Always);
                let put =
                    self.part.store.put(self.session, key.as_bytes(), &value, &options, always);
                unless_refused(put)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A stamp that no other operation of the history has.
    fn stamp(&self, appends: bool, turn: u32) -> Stamp {
        let make = if appends { append_stamp } else { put_stamp };
        // Numbers of histories too, so that values of one are not those of another.
        make(self.part.number, (self.part.history as u32 % 100_000) * 100 + turn)
    }

    /// Makes a value that nobody else puts; a number or a record.
    fn fresh(&mut self, name: &[u8], key: usize, turn: u32) -> Value {
        if has_numbers(key) && self.rng.random_ratio(3, 4) {
            let client = i64::from(self.part.number);
            let number = (client * OPERATIONS as i64 + i64::from(turn) + 1) << 50;
            self.value = number.to_string().into_bytes();
            return Value::Number(number);
        }
        let stamp = self.stamp(false, turn);
        fill(&mut self.value, name, stamp);
        Value::Records(with_record(None, word_of(stamp)))
    }

    fn act(&mut self, key: usize, turn: u32) -> Result<()> {
        let name = key_of(self.part.history, key);
        let (store, session) = (self.part.store, self.session);
        let options = PutOptions::new();
        match self.rng.random_range(0..20) {
            0..6 => self.get(&name, key).map(drop),
            which @ 6..11 => {
                let new = self.fresh(&name, key, turn);
                let (call, condition) = match which {
                    6 | 7 => (Call::Put(new), Condition::Always),
                    8 | 9 => (Call::Add(new), Condition::Absent),
                    _ => (Call::Replace(new), Condition::Present),
                };
                self.put(&name, key, call, condition)
            }
            11..13 => {
                let new = self.fresh(&name, key, turn);
                match self.get(&name, key)? {
                    Some((expected, version)) => {
                        let call = Call::Swap { expected, new };
                        self.put(&name, key, call, Condition::Version(version))
                    }
                    None => self.put(&name, key, Call::Add(new), Condition::Absent),
                }
            }
            13 => {
                let new = self.fresh(&name, key, turn);
                self.client.record(key, Call::Exchange(new), || {
                    let put = store.get_and_put(session, &name, &self.value, &options);
                    let was = unless_refused(put)?;
                    let was = was.map(|was| Answer::Is(was.map(|was| meaning(key, &name, &was))));
                    Ok((was.unwrap_or(Answer::Unchanged), ()))
                })
            }
            14 => self.client.record(key, Call::Delete, || {
                let deleted = unless_refused(store.delete(session, &name))?;
                Ok((deleted.map_or(Answer::Unchanged, Answer::Deleted), ()))
            }),
            15 => {
                let Some((expected, version)) = self.get(&name, key)? else { return Ok(()) };
                self.client.record(key, Call::DeleteIf(expected), || {
                    let deleted = unless_refused(store.delete_if(session, &name, version))?;
                    let answer = deleted.map(|deleted| Answer::Deleted(deleted == Deletion::Done));
                    Ok((answer.unwrap_or(Answer::Unchanged), ()))
                })
            }
            16 => self.client.record(key, Call::Take, || {
                let was = unless_refused(store.take(session, &name))?;
                let was = was.map(|was| Answer::Is(was.map(|was| meaning(key, &name, &was))));
                Ok((was.unwrap_or(Answer::Unchanged), ()))
            }),
            _ if has_numbers(key) => self.increment(&name, key),
            _ => {
                let stamp = self.stamp(true, turn);
                fill(&mut self.value, &name, stamp);
                self.client.record(key, Call::Append(word_of(stamp)), || {
                    let done = unless_refused(store.append(session, &name, &self.value))?;
                    Ok((done.map_or(Answer::Unchanged, |_| Answer::Appended), ()))
                })
            }
        }
    }

    /// Gives the version too, unless the answer is a stale one.
    fn get(&mut self, name: &[u8], key: usize) -> Result<Option<(Value, Version)>> {
        let store = self.part.store;
        let first_seen = &mut self.first_seen;
        let stale = self.part.stale;
        self.client.record(key, Call::Get, || {
            let entry = match store.get_entry(name) {
                Err(ReadError::Contended { .. }) => return Ok((Answer::Unchanged, None)),
                entry => entry.context("a lookup")?,
            };
            let found = entry.map(|entry| (meaning(key, name, &entry.value), entry.version));
            let state = found.map(|(value, _)| value);
            if stale {
                return Ok((Answer::Is(*first_seen.entry(key).or_insert(state)), found));
            }
            Ok((Answer::Is(state), found))
        })
    }

    fn put(&self, name: &[u8], key: usize, call: Call, condition: Condition) -> Result<()> {
        let options = PutOptions::new();
        self.client.record(key, call, || {
            let put = self.part.store.put(self.session, name, &self.value, &options, condition);
            let answer = match unless_refused(put)? {
                None => Answer::Unchanged,
                Some(Outcome::Inserted) => Answer::Inserted,
                Some(Outcome::Replaced) => Answer::Replaced,
                Some(Outcome::Refused(version)) => Answer::Refused { present: version.is_some() },
            };
            Ok((answer, ()))
        })
    }

    fn increment(&mut self, name: &[u8], key: usize) -> Result<()> {
        // So large that no sum comes about twice.
        let by = self.rng.random_range(1..1_i64 << 45);
        self.client.record(key, Call::Increment(by), || {
            let answer = match self.part.store.add_to(self.session, name, by.into()) {
                Err(WriteError::NotANumber) => Answer::NotANumber,
                sum => unless_refused(sum)?.map_or(Answer::Unchanged, Answer::Sum),
            };
            Ok((answer, ()))
        })
    }
}

/// The answer of a write; none if it was refused for a reason that is allowed.
fn unless_refused<T>(result: Result<T, WriteError>) -> Result<Option<T>> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(WriteError::Full(_) | WriteError::Read(ReadError::Contended { .. })) => Ok(None),
        Err(error) => Err(error).context("a write"),
    }
}

fn word_of(stamp: Stamp) -> u64 {
    u64::from(stamp.writer) << 32 | u64::from(stamp.seq)
}

/// What the bytes under a key are.
pub(crate) fn meaning(key: usize, name: &[u8], bytes: &[u8]) -> Value {
    let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    if let Some(number) = number.filter(|_| has_numbers(key)) {
        return Value::Number(number);
    }
    let Ok(stamps) = read(name, bytes) else { return Value::Torn };
    let digest =
        stamps.iter().fold(None, |so_far, stamp| Some(with_record(so_far, word_of(*stamp))));
    digest.map_or(Value::Torn, Value::Records)
}

/// A seed for one process of one history.
pub(crate) fn seed_of(seed: u64, history: u64, life: u64) -> u64 {
    mix(mix(mix(seed) ^ history) ^ life)
}
