//! The store of a round, and its namespace if it has one.

use anyhow::{Context, Result};

use store_core::{Mode, NamespaceOptions, Sealing, Store, anonymous, memfd};

use store_benches::mortal::Mortal;

use crate::content;
use crate::ledger::State;
use crate::settings::Setting;
use crate::{Backing, StoreArgs};

/// Of the arena, in percent, what the namespace may take.
const QUOTA_PERCENT: u64 = 40;

pub(crate) struct Stores {
    pub(crate) base: Store<Mortal>,
    /// A namespace in which nothing is evicted, if there is one.
    kept: Option<Store<Mortal>>,
    evicts: bool,
}

/// Where a key is.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub(crate) store: &'a Store<Mortal>,
    /// Whether a key may be gone without having been deleted.
    pub(crate) may_vanish: bool,
}

impl Keys<'_> {
    /// What is under a key of a kind.
    pub(crate) fn read(self, number: bool, key: &[u8], value: &[u8]) -> Result<State, String> {
        if number { content::read_number(key, value) } else { content::read(key, value) }
    }
}

impl Stores {
    pub(crate) fn create(setting: &Setting, args: StoreArgs) -> Result<Self> {
        let options = setting.options().guard(args.guard);
        let base: Store<Mortal> = match args.backing {
            Backing::Memfd => memfd(&options, Sealing::SharedWriters),
            Backing::Anon => anonymous(&options),
        }
        .with_context(|| format!("making a store for {}", setting.name))?;
        let kept = if setting.namespace { Some(Self::namespace(&base)?) } else { None };
        Ok(Self { base, kept, evicts: setting.evicts() })
    }

    fn namespace(base: &Store<Mortal>) -> Result<Store<Mortal>> {
        let session = base.open_session()?;
        let quota = base.stats()?.arena_bytes / 100 * QUOTA_PERCENT;
        let options = NamespaceOptions::new().quota(quota).mode(Mode::Store);
        base.create_namespace(&session, "kept", &options).context("making a namespace")?;
        base.close_session(&session)?;
        base.in_namespace("kept").context("opening a namespace")
    }

    /// Where the own or shared key with an index is.
    pub(crate) fn of(&self, index: usize) -> Keys<'_> {
        match &self.kept {
            Some(kept) if index % 2 == 1 => Keys { store: kept, may_vanish: false },
            _ => self.rolling(),
        }
    }

    /// Where rolling keys are.
    pub(crate) fn rolling(&self) -> Keys<'_> {
        Keys { store: &self.base, may_vanish: self.evicts }
    }
}
