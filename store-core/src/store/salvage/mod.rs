//! Salvaging: what is whole in a segment that can't be used any more, perhaps not even attached, is put
//! into a new store. It is lossy, and declared so: the arena does not tell what was deleted, which of
//! several versions was the last, or what was written and never published.
//!
//! Nothing is stored into the segment. Each word of its superblock is believed where it makes sense by
//! itself, and does not contradict what the index leads to.

mod census;
mod clock;
mod found;
mod proof;
mod survey;
mod wreck;
mod writers;

use std::time::Duration;

use super::quoted::quoted;
use super::{Condition, NamespaceOptions, PutOptions, Session, Store};
use crate::config::Mode;
use crate::error::{NamespaceError, WriteError};
use crate::layout::NamespaceState;
use crate::region::Shim;

pub use survey::Survey;
pub use wreck::Wreck;

/// Sentences that are kept about what was not put.
const SENTENCES_MAX: usize = 100;

/// What was put into a new store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// Items put.
    pub items: u64,
    /// Of those, the ones that no slot led to: if the index could be read, deleted keys, old versions and
    /// what was never stored.
    pub unlisted: u64,
    /// Items that expired since they were found.
    pub expired: u64,
    /// Items in whose place something else was by then, since somebody writes to the source.
    pub changed: u64,
    /// Items of namespaces that were removed before, which were left out.
    pub removed: u64,
    /// Items that the new store does not take.
    pub refused: u64,
    /// Which, as sentences; at most 100.
    pub refused_items: Vec<String>,
    /// Namespaces that were made, and what could not be kept of them.
    pub namespaces: Vec<String>,
}

/// Where items of a namespace go.
enum Place<S: Shim> {
    Into(Box<Store<S>>),
    /// It was removed.
    Removed,
}

impl<S: Shim> Store<S> {
    /// Puts what a survey found whole into this store, which should be new. Namespaces are made with
    /// what their records say; one whose record can't be read is called `salvaged-N`, by its number.
    /// `progress` is told (done, all) items.
    ///
    /// Reads each item once more, and costs what a put costs. An item that is another one by then is left
    /// out, so that no value is mixed of two; of a segment that somebody writes to, what is written
    /// meanwhile is saved or not.
    ///
    /// # Errors
    /// Those of [`Store::put`], `Full` first of all: what was put until then stays.
    pub fn salvage(
        &self,
        session: &Session,
        wreck: &Wreck,
        survey: &Survey,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Salvaged, WriteError> {
        let mut salvaged = Salvaged::default();
        let mut places: Vec<Option<Place<S>>> = (0..256).map(|_| None).collect();
        let all = survey.items();
        for (done, found) in (0..).zip(survey.found()) {
            progress(done, all);
            let number = found.header.namespace;
            let place = if number == 0 {
                self
            } else {
                let made = &mut places[usize::from(number)];
                if made.is_none() {
                    let source = (wreck, survey, number);
                    *made = Some(self.place_for(session, source, &mut salvaged)?);
                }
                match made {
                    Some(Place::Into(place)) => place,
                    _ => {
                        salvaged.removed += 1;
                        continue;
                    }
                }
            };
            let options = match found.expiry {
                None => PutOptions::new().for_ever(),
                Some(expiry) => {
                    match expiry.saturating_sub(Wreck::now_ms(survey.clock_offset_ms)) {
                        0 => {
                            salvaged.expired += 1;
                            continue;
                        }
                        left => PutOptions::new().ttl(Duration::from_millis(left)),
                    }
                }
            };
            let Some((key, value)) = wreck.item(found, survey)? else {
                salvaged.changed += 1;
                continue;
            };
            match place.put(session, &key, &value, &options, Condition::Always) {
                Ok(_) => {
                    salvaged.items += 1;
                    salvaged.unlisted += u64::from(!found.is_listed);
                }
                Err(
                    error @ (WriteError::KeyTooLong { .. }
                    | WriteError::ValueTooLarge { .. }
                    | WriteError::InvalidTtl { .. }),
                ) => {
                    salvaged.refused += 1;
                    if salvaged.refused_items.len() < SENTENCES_MAX {
                        salvaged.refused_items.push(format!("key {}: {error}", quoted(&key)));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        progress(all, all);
        Ok(salvaged)
    }

    /// Makes the namespace that has a number in the old store. Who removes one deletes all of its items
    /// first: if the index leads to one, it is rather the record that is wrong.
    fn place_for(
        &self,
        session: &Session,
        (wreck, survey, number): (&Wreck, &Survey, u8),
        salvaged: &mut Salvaged,
    ) -> Result<Place<S>, WriteError> {
        let record = wreck.namespace(number);
        let is_in_use =
            record.as_ref().is_some_and(|record| record.word.state == NamespaceState::InUse);
        let is_listed = survey.leads_into(number);
        if !is_in_use && !is_listed && record.as_ref().is_some_and(|it| it.word.generation > 0) {
            return Ok(Place::Removed);
        }
        let fallback = format!("salvaged-{number}");
        let mut tries = Vec::new();
        if let Some(record) = record.filter(|record| {
            // Zeros are no name.
            is_in_use || is_listed && !record.name.is_empty()
        }) {
            let ttl = Duration::from_millis(record.default_ttl_ms);
            let with_ttl = NamespaceOptions::new().default_ttl(ttl);
            if is_in_use {
                let mode = if record.word.evicts { Mode::Cache } else { Mode::Store };
                let full = with_ttl.quota(record.quota_bytes).mode(mode);
                tries.push((record.name.clone(), full, ""));
            }
            let less = match is_in_use {
                true => ", without its quota and mode",
                false => ", which was removed as its record says, without its quota and mode",
            };
            tries.push((record.name.clone(), with_ttl, less));
            let plain = NamespaceOptions::new();
            tries.push((record.name, plain, ", without its quota, mode and time to live"));
        }
        let lost = ", whose record can't be read";
        tries.push((fallback.clone(), NamespaceOptions::new(), lost));
        let mut refused = None;
        for (name, options, less) in tries {
            match self.create_namespace(session, &name, &options) {
                Ok(()) => {
                    salvaged.namespaces.push(format!("{name}{less}"));
                    match self.in_namespace(&name) {
                        Ok(place) => return Ok(Place::Into(Box::new(place))),
                        Err(error) => refused = Some(error),
                    }
                }
                // What its record says no namespace can have.
                Err(error @ NamespaceError::Write(WriteError::InvalidTtl { .. })) => {
                    refused = Some(error);
                }
                Err(error @ (NamespaceError::Write(_) | NamespaceError::Corruption(_))) => {
                    return Err(of_namespace(error, fallback));
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(of_namespace(refused.unwrap_or(NamespaceError::NeedsQuota), fallback))
    }
}

/// A namespace that can't be made, as an error of a write to it.
fn of_namespace(error: NamespaceError, namespace: String) -> WriteError {
    match error {
        NamespaceError::Write(error) => error,
        NamespaceError::Corruption(error) => error.into(),
        _ => WriteError::NamespaceGone { namespace },
    }
}
