//! A store with namespaces, and a plain map for each of them.

use std::collections::BTreeMap;

use store_core::{
    Condition, CreateOptions, Mode, NamespaceError, NamespaceInfo, NamespaceOptions, PutOptions,
    Session, Shim, Store, WriteError, from_image, private_on_heap,
};

use crate::crash::{Live, kill_clients};
use crate::judge::{nothing_lives, sound};
use crate::pair::{Model, contents, key, value};
use crate::trace::Logging;

/// Bytes of an extent of these stores.
pub const EXTENT_BYTES: u64 = 4 << 10;
/// Names that namespaces can have.
pub const NAMES: [&str; 3] = ["quota", "none", "new"];
/// Keys that each has at first.
pub const KEYS: u8 = 40;

/// Where an operation is done: in the store itself, or in one of [`NAMES`].
pub type Place = Option<&'static str>;

/// One operation of a sequence. What asks for a namespace that is not there does nothing.
#[derive(Debug, Clone)]
pub enum Op {
    /// Puts a value of this size.
    Put(Place, u8, usize),
    /// Deletes a key.
    Delete(Place, u8),
    /// Deletes all keys.
    Clear(&'static str),
    /// Makes a namespace with a quota of so many extents, or with none.
    Create(&'static str, Option<u64>),
    /// Changes its quota to so many extents.
    Change(&'static str, u64),
    /// Removes it.
    Remove(&'static str),
}

/// A namespace as the model knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    quota_extents: Option<u64>,
    model: Model,
}

/// What a store and its namespaces must hold; in a cache, what they may.
#[derive(Debug, Clone)]
pub struct Tenancy {
    /// Whether any of it may be missing.
    evicts: bool,
    store: Model,
    tenants: BTreeMap<&'static str, Tenant>,
}

impl Tenancy {
    fn model(&mut self, place: Place) -> Option<&mut Model> {
        match place {
            None => Some(&mut self.store),
            Some(name) => self.tenants.get_mut(name).map(|tenant| &mut tenant.model),
        }
    }

    /// Whether `found` is what the model says.
    fn allows(&self, found: &Model, model: &Model) -> bool {
        if self.evicts {
            found.iter().all(|(key, value)| model.get(key) == Some(value))
        } else {
            found == model
        }
    }
}

/// A store with one session, its namespaces, and what they must hold.
pub struct Tenants<S: Shim> {
    /// The store.
    pub store: Store<S>,
    session: Session,
    tenancy: Tenancy,
    turn: usize,
}

impl<S: Shim> Tenants<S> {
    /// A store with keys of its own, and as many in a namespace with a quota and in one without.
    pub fn new(mode: Mode) -> Self {
        let options = CreateOptions::new(256 << 10).extent_size(EXTENT_BYTES).items(400).mode(mode);
        let store: Store<S> = private_on_heap(&options, 5).expect("a tiny store");
        let session = store.open_session().expect("an entry");
        let evicts = mode == Mode::Cache;
        let tenancy = Tenancy { evicts, store: Model::new(), tenants: BTreeMap::new() };
        let mut tenants = Self { store, session, tenancy, turn: 0 };
        tenants.apply(&Op::Create("quota", Some(10)));
        tenants.apply(&Op::Create("none", None));
        for number in 0..KEYS {
            for place in [None, Some("quota"), Some("none")] {
                tenants.apply(&Op::Put(place, number, 100 + usize::from(number)));
            }
        }
        tenants
    }

    /// Does `op` to both; panics where they differ.
    pub fn apply(&mut self, op: &Op) {
        self.turn += 1;
        match *op {
            Op::Put(place, number, size) => self.put(place, number, size),
            Op::Delete(place, number) => {
                let Some(at) = self.at(place) else { return };
                let deleted = at.delete(&self.session, &key(number)).expect("a delete");
                let model = self.tenancy.model(place).expect("it is there");
                let was = model.remove(&key(number)).is_some();
                assert!(deleted == was || self.tenancy.evicts && was);
            }
            Op::Clear(name) => {
                let Some(at) = self.at(Some(name)) else { return };
                at.clear(&self.session).expect("a clear");
                self.tenancy.model(Some(name)).expect("it is there").clear();
            }
            Op::Create(name, extents) => self.create(name, extents),
            Op::Change(name, extents) => {
                let options = NamespaceOptions::new().quota(extents * EXTENT_BYTES);
                match self.store.change_namespace(&self.session, name, &options) {
                    Ok(()) => {
                        let tenant = self.tenancy.tenants.get_mut(name).expect("it is there");
                        tenant.quota_extents = Some(extents);
                    }
                    Err(error) => self.refused(name, &error),
                }
            }
            Op::Remove(name) => {
                let removed = self.store.remove_namespace(&self.session, name);
                let known = self.tenancy.tenants.remove(name);
                assert_eq!(removed.is_ok(), known.is_some(), "{removed:?}");
            }
        }
    }

    /// The store, seen from `place`.
    fn at(&self, place: Place) -> Option<Store<S>> {
        let name = place?;
        let found = self.store.in_namespace(name).ok();
        assert_eq!(found.is_some(), self.tenancy.tenants.contains_key(name));
        found
    }

    fn put(&mut self, place: Place, number: u8, size: usize) {
        let (key, value) = (key(number), value(number, size, self.turn));
        let (options, always) = (PutOptions::new(), Condition::Always);
        let put = match place {
            None => self.store.put(&self.session, &key, &value, &options, always),
            Some(_) => match self.at(place) {
                None => return,
                Some(at) => at.put(&self.session, &key, &value, &options, always),
            },
        };
        match put {
            Ok(_) => {
                self.tenancy.model(place).expect("it is there").insert(key, value);
            }
            Err(WriteError::Full(_) | WriteError::IndexFull { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn create(&mut self, name: &'static str, quota_extents: Option<u64>) {
        let mut options = NamespaceOptions::new();
        if let Some(extents) = quota_extents {
            options = options.quota(extents * EXTENT_BYTES);
        }
        match self.store.create_namespace(&self.session, name, &options) {
            Ok(()) => {
                let model = Model::new();
                let was = self.tenancy.tenants.insert(name, Tenant { quota_extents, model });
                assert_eq!(was, None);
            }
            Err(error) => self.refused(name, &error),
        }
    }

    /// A namespace that is, or is not there, or a quota that can't be had.
    fn refused(&self, name: &str, error: &NamespaceError) {
        let known = self.tenancy.tenants.contains_key(name);
        match error {
            NamespaceError::Exists { .. } => assert!(known),
            NamespaceError::NotFound { .. } => assert!(!known),
            NamespaceError::InvalidQuota { .. } => {}
            error => panic!("{error}"),
        }
    }
}

impl Live for Tenants<Logging> {
    type Op = Op;
    type Model = Tenancy;

    fn store(&self) -> &Store<Logging> {
        &self.store
    }

    fn model(&self) -> Tenancy {
        self.tenancy.clone()
    }

    fn name(op: &Op) -> &'static str {
        match op {
            Op::Put(None, ..) => "put beside namespaces",
            Op::Put(Some(_), ..) => "put in a namespace",
            Op::Delete(..) => "delete in a namespace",
            Op::Clear(_) => "clear a namespace",
            Op::Create(..) => "make a namespace",
            Op::Change(..) => "change a quota",
            Op::Remove(_) => "remove a namespace",
        }
    }

    fn apply(&mut self, op: &Op) {
        Self::apply(self, op);
    }

    /// What is there is from before or after, or a removal that can be begun again.
    fn judge(image: &[u8], op: &Op, before: &Tenancy, after: &Tenancy) -> Result<(), String> {
        // Keys are deleted one after the other.
        let before =
            &Tenancy { evicts: before.evicts || matches!(op, Op::Clear(_)), ..before.clone() };
        let mut image = image.to_vec();
        kill_clients(&mut image);
        let store: Store<Logging> = from_image(&image).map_err(|error| error.to_string())?;
        let session = store.open_session().map_err(|error| error.to_string())?;
        store.reap(&session).map_err(|error| error.to_string())?;
        sound(&store)?;
        let found = contents(&store);
        if !before.allows(&found, &before.store) && !after.allows(&found, &after.store) {
            return Err("the store's own keys are neither those from before nor from after".into());
        }
        let infos = store.namespaces().map_err(|error| error.to_string())?;
        for name in NAMES {
            let info = infos.iter().find(|info| info.name == name);
            let sides = [before, after].map(|side| (side, side.tenants.get(name)));
            if !sides.iter().any(|(side, tenant)| is_side(&store, info, side, *tenant)) {
                return Err(format!("{name} is neither as before nor as after: {info:?}"));
            }
            ends_and_begins(&store, &session, name, info)?;
        }
        // What was adopted of the dead is filled up, and counted anew.
        for number in 0..60 {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store
                .put(&session, &key(number), &[6; 700], &options, always)
                .map_err(|error| error.to_string())?;
        }
        store.clear(&session).map_err(|error| error.to_string())?;
        store.clean(&session, 1000).map_err(|error| error.to_string())?;
        sound(&store)?;
        nothing_lives(&store)
    }
}

/// Whether a namespace is as one side of the operation knows it. One that is being removed counts as
/// one that is gone.
fn is_side(
    store: &Store<Logging>,
    info: Option<&NamespaceInfo>,
    side: &Tenancy,
    tenant: Option<&Tenant>,
) -> bool {
    let (Some(tenant), Some(info)) = (tenant, info) else {
        return tenant.is_none() && info.is_none_or(|info| info.leaving);
    };
    if info.leaving || info.quota_bytes != tenant.quota_extents.map(|it| it * EXTENT_BYTES) {
        return false;
    }
    let found = store.in_namespace(&info.name).map(|place| contents(&place));
    found.is_ok_and(|found| side.allows(&found, &tenant.model))
}

/// A namespace can be written if it is there, can be removed, and made anew without what it had.
fn ends_and_begins(
    store: &Store<Logging>,
    session: &Session,
    name: &str,
    info: Option<&NamespaceInfo>,
) -> Result<(), String> {
    let put = || {
        let place = store.in_namespace(name).map_err(|error| error.to_string())?;
        let (options, always) = (PutOptions::new(), Condition::Always);
        match place.put(session, b"another", &[5; 300], &options, always) {
            Ok(_) | Err(WriteError::Full(_)) => Ok(contents(&place)),
            Err(error) => Err(error.to_string()),
        }
    };
    if let Some(info) = info {
        if !info.leaving {
            put()?;
        }
        store.remove_namespace(session, name).map_err(|error| error.to_string())?;
    }
    let none = NamespaceOptions::new();
    store.create_namespace(session, name, &none).map_err(|error| error.to_string())?;
    if put()?.keys().any(|key| key != b"another") {
        return Err(format!("{name} has keys of the one that was removed"));
    }
    store.remove_namespace(session, name).map(drop).map_err(|error| error.to_string())
}

/// A deterministic sequence that fills, changes, removes and makes namespaces.
pub fn sequence(seed: u64, len: usize) -> impl Iterator<Item = Op> {
    let mut state = seed | 1;
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) % below
    };
    (0..len).map(move |turn| {
        let place = [None, Some("quota"), Some("none"), Some("new")][next(4) as usize];
        let name = place.unwrap_or("quota");
        let number = next(u64::from(KEYS)) as u8;
        let size = match next(10) {
            0 => 2 * EXTENT_BYTES as usize,
            _ => next(700) as usize,
        };
        match turn % 12 {
            1 => Op::Create(name, (next(2) == 0).then(|| 8 + next(4))),
            4 => Op::Change(name, 8 + next(7)),
            8 if next(3) == 0 => Op::Remove(name),
            9 if next(4) == 0 => Op::Clear(name),
            2 | 10 => Op::Delete(place, number),
            _ => Op::Put(place, number, size),
        }
    })
}
