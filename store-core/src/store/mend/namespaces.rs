//! Records of namespaces whose words contradict what a namespace may be: a name that nobody can say, a
//! time to live or a quota that none can have.

use super::RepairReport;
use crate::error::WriteError;
use crate::layout::{NamespaceRecord, NamespaceWord};
use crate::region::Shim;
use crate::store::expiry::TTL_MS_MAX;
use crate::store::namespace::{name_of, name_words};
use crate::store::{Session, Store};

/// What is wrong with a record that is some namespace's, and its word and its name as they should be.
pub(in crate::store) struct Wrong {
    pub(in crate::store) sentence: String,
    word: NamespaceWord,
    name: String,
    default_ttl_ms: u64,
}

impl<S: Shim> Store<S> {
    /// What is wrong with the records of namespaces that there are.
    pub(in crate::store) fn wrong_namespaces(&self) -> Vec<(u8, Wrong)> {
        let taken = self.records().filter(|(_, record)| record.is_taken());
        taken.filter_map(|(number, record)| Some((number, self.wrong(number, record)?))).collect()
    }

    fn wrong(&self, number: u8, record: &NamespaceRecord) -> Option<Wrong> {
        let (mut word, name) = (record.state(), name_of(record));
        let mut wrongs = Vec::new();
        let told = record.word.load();
        let quota = word.quota_extents;
        if quota > self.segment.geometry.extents {
            wrongs.push(format!("a quota of {quota} extents"));
            word.quota_extents = 0;
            word.evicts = self.segment.evicts;
        }
        if word.word() != told && wrongs.is_empty() {
            wrongs.push(format!("stray bits in its word {told:#x}"));
        }
        let mut default_ttl_ms = record.default_ttl_ms.load();
        if default_ttl_ms > TTL_MS_MAX {
            wrongs.push(format!("a default time to live of {default_ttl_ms} ms"));
            default_ttl_ms = 0;
        }
        let words: Vec<_> = record.name.iter().map(|word| word.load()).collect();
        let is_name = name_words(&name).is_ok_and(|right| right[..] == words[..]);
        if !is_name {
            wrongs.push(format!("the name {name:?}, which none can have"));
        }
        let sentence = format!("namespace {number} has {}", wrongs.join(", "));
        let name = if is_name { name } else { self.name_for(number, &words) };
        (!wrongs.is_empty()).then_some(Wrong { sentence, word, name, default_ttl_ms })
    }

    /// A name for a namespace whose own is damaged: what may stand in a name of it, or its number.
    fn name_for(&self, number: u8, words: &[u64]) -> String {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        let left: String = bytes.take_while(u8::is_ascii).map(char::from).collect();
        let end = left.find('\0').unwrap_or(left.len());
        let is_free = |name: &str| {
            name_words(name).is_ok()
                && !self.records().any(|(other, record)| {
                    other != number && record.is_taken() && name_of(record) == name
                })
        };
        let candidates = [left[..end].to_owned(), format!("recovered-{number}")];
        candidates.into_iter().find(|name| is_free(name)).unwrap_or_default()
    }

    /// Gives records that contradict what a namespace may be words that do not.
    ///
    /// Dies anywhere: a record with less that is wrong, or more of its name.
    pub(super) fn mend_namespaces(
        &self,
        session: &Session,
        report: &mut RepairReport,
    ) -> Result<(), WriteError> {
        if self.wrong_namespaces().is_empty() {
            return Ok(());
        }
        // Records change under it.
        let _held = self.hold_damaged(session, 0)?;
        for (number, wrong) in self.wrong_namespaces() {
            let Some(record) = self.segment.namespace_record(number) else { continue };
            if let Ok(words) = name_words(&wrong.name) {
                for (cell, word) in record.name.iter().zip(words) {
                    if cell.load() != word {
                        cell.store::<S>(word);
                    }
                }
            }
            record.default_ttl_ms.store::<S>(wrong.default_ttl_ms);
            record.word.store::<S>(wrong.word.word());
            let name = &wrong.name;
            report.restored.push(format!("{}: it is {name:?} without it", wrong.sentence));
        }
        Ok(())
    }
}
