//! What processes did, in memory that outlives them: a kill loses nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::FromZeros;

use store_benches::mortal::{Graves, Life};
use store_benches::shared::now_ns;

use crate::checker::Operation;
use crate::model::{Answer, Call, State, Value};

/// Processes that work at the same time.
pub(crate) const CLIENTS: usize = 4;
/// Operations of each in one history.
pub(crate) const OPERATIONS: usize = 12;
/// Reads that a client adds before a swap or a delete of a version count too.
const RECORDS: usize = 2 * OPERATIONS;

/// One operation.
#[derive(FromZeros)]
#[repr(C)]
struct Record {
    key: AtomicU64,
    call: [AtomicU64; 3],
    invoked_ns: AtomicU64,
    answer: [AtomicU64; 2],
    /// 0 until it was answered; stored last.
    returned_ns: AtomicU64,
}

/// The operations of a client, of one process after the other.
#[derive(FromZeros)]
#[repr(C)]
pub(crate) struct Client {
    pub(crate) life: Life,
    /// Operations of its own that it has begun, reads before a swap aside.
    pub(crate) begun: AtomicU64,
    recorded: AtomicU64,
    records: [Record; RECORDS],
}

impl Client {
    /// Nothing done yet.
    pub(crate) fn clear(&self) {
        self.begun.store(0, Ordering::Release);
        self.recorded.store(0, Ordering::Release);
    }

    /// Does something to a key and notes what and when.
    pub(crate) fn record<T>(
        &self,
        key: usize,
        call: Call,
        work: impl FnOnce() -> Result<(Answer, T), anyhow::Error>,
    ) -> Result<T, anyhow::Error> {
        let at = self.recorded.load(Ordering::Acquire);
        let record = &self.records[at as usize];
        record.key.store(key as u64, Ordering::Relaxed);
        for (cell, word) in record.call.iter().zip(words_of_call(call)) {
            cell.store(word, Ordering::Relaxed);
        }
        record.returned_ns.store(0, Ordering::Relaxed);
        record.invoked_ns.store(now_ns(), Ordering::Relaxed);
        self.recorded.store(at + 1, Ordering::Release);
        let (answer, more) = work()?;
        let returned_ns = now_ns();
        for (cell, word) in record.answer.iter().zip(words_of_answer(answer)) {
            cell.store(word, Ordering::Relaxed);
        }
        record.returned_ns.store(returned_ns, Ordering::Release);
        Ok(more)
    }

    /// What it did to a key.
    pub(crate) fn operations(&self, client: u8, key: usize) -> Vec<Operation> {
        let recorded = self.recorded.load(Ordering::Acquire) as usize;
        let of_key = |record: &&Record| record.key.load(Ordering::Acquire) == key as u64;
        self.records[..recorded].iter().filter(of_key).map(|record| record.read(client)).collect()
    }
}

impl Record {
    fn read(&self, client: u8) -> Operation {
        let load = |cell: &AtomicU64| cell.load(Ordering::Acquire);
        let returned = match load(&self.returned_ns) {
            0 => None,
            at => Some((at, answer_of([load(&self.answer[0]), load(&self.answer[1])]))),
        };
        let call = call_of([load(&self.call[0]), load(&self.call[1]), load(&self.call[2])]);
        Operation { client, call, invoked_ns: load(&self.invoked_ns), returned }
    }
}

/// All that the processes of a run share, beside the store.
#[derive(FromZeros)]
#[repr(C)]
pub(crate) struct Log {
    pub(crate) clients: [Client; CLIENTS],
    /// The parent, which reads all keys at the end of a history.
    pub(crate) parent: Client,
    pub(crate) graves: Graves,
    /// Clients that are ready to begin.
    pub(crate) ready: AtomicU64,
    /// The number of the history that has begun.
    pub(crate) began: AtomicU64,
}

/// Beside the two bits that say what kind of value a word is.
const VALUE_MASK: u64 = (1 << 62) - 1;

fn word_of(value: Value) -> u64 {
    match value {
        Value::Torn => 0,
        Value::Number(number) => 1 << 62 | (number as u64 & VALUE_MASK),
        Value::Records(digest) => 2 << 62 | digest,
    }
}

fn value_of(word: u64) -> Value {
    match word >> 62 {
        0 => Value::Torn,
        1 => Value::Number((word << 2) as i64 >> 2),
        _ => Value::Records(word & VALUE_MASK),
    }
}

fn words_of_call(call: Call) -> [u64; 3] {
    match call {
        Call::Get => [0, 0, 0],
        Call::Put(new) => [1, word_of(new), 0],
        Call::Add(new) => [2, word_of(new), 0],
        Call::Replace(new) => [3, word_of(new), 0],
        Call::Swap { expected, new } => [4, word_of(new), word_of(expected)],
        Call::Exchange(new) => [5, word_of(new), 0],
        Call::Append(stamp) => [6, stamp, 0],
        Call::Delete => [7, 0, 0],
        Call::DeleteIf(expected) => [8, word_of(expected), 0],
        Call::Take => [9, 0, 0],
        Call::Increment(by) => [10, by as u64, 0],
    }
}

fn call_of(words: [u64; 3]) -> Call {
    let value = || value_of(words[1]);
    match words[0] {
        0 => Call::Get,
        1 => Call::Put(value()),
        2 => Call::Add(value()),
        3 => Call::Replace(value()),
        4 => Call::Swap { expected: value_of(words[2]), new: value() },
        5 => Call::Exchange(value()),
        6 => Call::Append(words[1]),
        7 => Call::Delete,
        8 => Call::DeleteIf(value()),
        9 => Call::Take,
        _ => Call::Increment(words[1] as i64),
    }
}

fn words_of_answer(answer: Answer) -> [u64; 2] {
    match answer {
        Answer::Is(None) => [0, 0],
        Answer::Is(Some(value)) => [1, word_of(value)],
        Answer::Inserted => [2, 0],
        Answer::Replaced => [3, 0],
        Answer::Refused { present } => [4, present.into()],
        Answer::Appended => [5, 0],
        Answer::Deleted(was) => [6, was.into()],
        Answer::Sum(sum) => [7, sum as u64],
        Answer::NotANumber => [8, 0],
        Answer::Unchanged => [9, 0],
    }
}

fn answer_of(words: [u64; 2]) -> Answer {
    let state: fn(u64) -> State = |word| Some(value_of(word));
    match words[0] {
        0 => Answer::Is(None),
        1 => Answer::Is(state(words[1])),
        2 => Answer::Inserted,
        3 => Answer::Replaced,
        4 => Answer::Refused { present: words[1] != 0 },
        5 => Answer::Appended,
        6 => Answer::Deleted(words[1] != 0),
        7 => Answer::Sum(words[1] as i64),
        8 => Answer::NotANumber,
        _ => Answer::Unchanged,
    }
}

#[cfg(test)]
mod tests {
    use store_benches::shared::zeroed;

    use super::{Client, answer_of, call_of, words_of_answer, words_of_call};
    use crate::model::{Answer, Call, Value};

    const VALUES: [Value; 4] =
        [Value::Torn, Value::Number(-7), Value::Number(7_000_000), Value::Records((1 << 60) - 1)];

    #[test]
    fn calls_and_answers_survive_the_round_trip() {
        for value in VALUES {
            let calls = [
                Call::Get,
                Call::Put(value),
                Call::Add(value),
                Call::Replace(value),
                Call::Swap { expected: value, new: Value::Number(3) },
                Call::Exchange(value),
                Call::Append(77),
                Call::Delete,
                Call::DeleteIf(value),
                Call::Take,
                Call::Increment(-4),
            ];
            for call in calls {
                assert_eq!(call_of(words_of_call(call)), call);
            }
            let answers = [
                Answer::Is(None),
                Answer::Is(Some(value)),
                Answer::Inserted,
                Answer::Replaced,
                Answer::Refused { present: true },
                Answer::Refused { present: false },
                Answer::Appended,
                Answer::Deleted(true),
                Answer::Deleted(false),
                Answer::Sum(-3),
                Answer::NotANumber,
                Answer::Unchanged,
            ];
            for answer in answers {
                assert_eq!(answer_of(words_of_answer(answer)), answer);
            }
        }
    }

    #[test]
    fn what_was_begun_is_there_without_an_answer() {
        let client: &Client = zeroed().expect("memory");
        client.record(1, Call::Get, || Ok((Answer::Is(None), ()))).expect("it is done");
        let died =
            client.record(2, Call::Delete, || Err::<(Answer, ()), _>(anyhow::anyhow!("dies")));
        assert!(died.is_err());
        let done = client.operations(3, 1);
        assert_eq!((done.len(), done[0].client, done[0].call), (1, 3, Call::Get));
        let (at, answer) = done[0].returned.expect("it was answered");
        assert!(at >= done[0].invoked_ns && answer == Answer::Is(None));
        assert!(client.operations(3, 2)[0].returned.is_none());
        client.clear();
        assert!(client.operations(3, 1).is_empty());
    }
}
