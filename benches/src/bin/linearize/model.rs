//! What a key of the store is by its documentation: a register with a few operations.

/// A value, as far as the model goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Number(i64),
    /// Records, as a digest of their stamps.
    Records(u64),
    /// Bytes that nobody wrote so: no operation leads here.
    Torn,
}

/// What stands under a key.
pub(crate) type State = Option<Value>;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Get,
    Put(Value),
    /// If absent.
    Add(Value),
    /// If present.
    Replace(Value),
    /// If this stands, by the version that was read with it.
    Swap {
        expected: Value,
        new: Value,
    },
    /// Gives what stood.
    Exchange(Value),
    Append(u64),
    Delete,
    /// If this stands, by the version that was read with it.
    DeleteIf(Value),
    /// Deletes and gives what stood.
    Take,
    Increment(i64),
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What stands or stood.
    Is(State),
    Inserted,
    Replaced,
    Refused {
        present: bool,
    },
    Appended,
    Deleted(bool),
    Sum(i64),
    NotANumber,
    /// There was no room or too much going on: nothing was changed.
    Unchanged,
}

/// Adds a record to a digest of records.
pub(crate) fn with_record(before: Option<u64>, stamp: u64) -> u64 {
    let sum = before.unwrap_or(0).wrapping_add(stamp).wrapping_add(1);
    // Of 60 bits, so that a tag fits beside it.
    store_benches::records::mix(sum) >> 4
}

impl Call {
    /// What it leads to from `state`, and what it then answers.
    pub(crate) fn apply(self, state: State) -> (State, Answer) {
        let present = state.is_some();
        let written = if present { Answer::Replaced } else { Answer::Inserted };
        let refused = (state, Answer::Refused { present });
        match self {
            Self::Get => (state, Answer::Is(state)),
            Self::Put(new) => (Some(new), written),
            Self::Add(_) if present => refused,
            Self::Replace(_) if !present => refused,
            Self::Add(new) | Self::Replace(new) => (Some(new), written),
            Self::Swap { expected, new } if state == Some(expected) => (Some(new), written),
            Self::Swap { .. } => refused,
            Self::Exchange(new) => (Some(new), Answer::Is(state)),
            Self::Append(stamp) => match state {
                None => (Some(Value::Records(with_record(None, stamp))), Answer::Appended),
                Some(Value::Records(digest)) => {
                    (Some(Value::Records(with_record(Some(digest), stamp))), Answer::Appended)
                }
                // Nobody appends to numbers.
                Some(_) => (Some(Value::Torn), Answer::Appended),
            },
            Self::Delete => (None, Answer::Deleted(present)),
            Self::DeleteIf(expected) if state == Some(expected) => (None, Answer::Deleted(true)),
            Self::DeleteIf(_) => (state, Answer::Deleted(false)),
            Self::Take => (None, Answer::Is(state)),
            Self::Increment(by) => match state {
                None => (Some(Value::Number(by)), Answer::Sum(by)),
                Some(Value::Number(number)) => {
                    let sum = number.wrapping_add(by);
                    (Some(Value::Number(sum)), Answer::Sum(sum))
                }
                Some(_) => (state, Answer::NotANumber),
            },
        }
    }
}
