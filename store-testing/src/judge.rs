//! What a crash may leave of a store that holds a plain map.

use store_core::{Store, from_image};

use crate::crash::{Live, kill_clients};
use crate::pair::{Model, Op, Pair, compare, contents, key};
use crate::trace::Logging;

impl Live for Pair<Logging> {
    type Op = Op;
    type Model = Model;

    fn store(&self) -> &Store<Logging> {
        &self.store
    }

    fn model(&self) -> Model {
        self.model.clone()
    }

    fn name(op: &Op) -> &'static str {
        match op {
            Op::Put(..) | Op::PutText(..) => "put",
            Op::Overwrite(_) => "overwrite",
            Op::Add(..) => "put if absent",
            Op::Replace(..) => "put if present",
            Op::Swap(..) => "put if version",
            Op::GetAndPut(..) => "get and put",
            Op::PutBrief(..) => "put with a time to live",
            Op::PutMany(..) => "put many",
            Op::Load(..) => "load",
            Op::Incr(..) => "incr",
            Op::Append(..) => "append",
            Op::Prepend(..) => "prepend",
            Op::Delete(_) => "delete",
            Op::DeleteIf(..) => "delete if version",
            Op::Take(_) => "take",
            Op::Expire(_) => "expire",
            Op::Persist(_) => "persist",
            Op::Sweep => "sweep",
            Op::Clear => "clear",
            Op::Reopen => "detach and attach",
            Op::Clean => "clean",
            Op::Trim(_) => "trim",
        }
    }

    fn apply(&mut self, op: &Op) {
        Self::apply(self, op);
    }

    fn judge(image: &[u8], op: &Op, before: &Model, after: &Model) -> Result<(), String> {
        if matches!(op, Op::Clear | Op::PutMany(_, 2.., _)) {
            // Of several keys each is as before or as after.
            let now = in_between(image, before, after)?;
            return goes_on(&mut recovers(image, &now, &now, None)?);
        }
        let mut pair = recovers(image, before, after, None)?;
        let beside = |text| format!("beside others: {text}");
        if let Some(key) = op.key() {
            pair = recovers(image, before, after, Some(key)).map_err(beside)?;
        }
        goes_on(&mut pair)
    }
}

/// What readers see in `image`, where each key is as in one of two models.
fn in_between(image: &[u8], before: &Model, after: &Model) -> Result<Model, String> {
    let store: Store<Logging> = from_image(image).map_err(|error| error.to_string())?;
    let now = contents(&store);
    match (0..48).map(key).find(|key| ![before.get(key), after.get(key)].contains(&now.get(key))) {
        Some(key) => Err(format!("key {key:?} is neither as before nor as after")),
        None => Ok(now),
    }
}

/// Recovers from `image` as another process would, and compares.
///
/// With `avoid`, somebody else works on other keys between the death and the recovery: what the
/// dead one gave back or held on to may be in other hands by then.
fn recovers(
    image: &[u8],
    before: &Model,
    after: &Model,
    avoid: Option<u8>,
) -> Result<Pair<Logging>, String> {
    let (mut before, mut after) = (before.clone(), after.clone());
    let mut image = image.to_vec();
    kill_clients(&mut image);
    let store: Store<Logging> = from_image(&image).map_err(|error| error.to_string())?;
    // Readers need no repair: they see one of the two at once.
    let is_before = compare(&store, &before).is_ok();
    if !is_before {
        compare(&store, &after)?;
    }
    let mut pair = Pair::with_model(store, if is_before { before.clone() } else { after.clone() });
    if let Some(avoid) = avoid {
        work_beside(&mut pair, avoid, &mut [&mut before, &mut after]);
    }
    pair.store.reap(&pair.session).map_err(|error| error.to_string())?;
    sound(&pair.store)?;
    let found = contents(&pair.store);
    if found != *(if is_before { &before } else { &after }) {
        return Err("not the contents that readers saw before the repair".to_owned());
    }
    // Expired items count until they are swept.
    pair.store.sweep(&pair.session, u64::MAX).map_err(|error| error.to_string())?;
    if pair.store.len() != found.len() as u64 {
        return Err(format!("{} items are counted, {} are there", pair.store.len(), found.len()));
    }
    Ok(pair)
}

/// Puts keys other than the one in doubt, which only a repair may decide, and notes them in the models.
fn work_beside(pair: &mut Pair<Logging>, avoid: u8, models: &mut [&mut Model]) {
    for (number, size) in [(1, 9000), (2, 60), (3, 4200), (4, 3000), (5, 9000)] {
        let number = (avoid + number * 7) % 48;
        if number == avoid {
            continue;
        }
        pair.apply(&Op::Put(number, size));
        let value = pair.model.get(&key(number));
        for model in &mut *models {
            match value {
                Some(value) => drop(model.insert(key(number), value.clone())),
                None => drop(model.remove(&key(number))),
            }
        }
    }
}

/// Whether `check` finds nothing.
pub(crate) fn sound(store: &Store<Logging>) -> Result<(), String> {
    match store.check(|_, _| {}).violations.first() {
        Some(violation) => Err(format!("check: {violation}")),
        None => Ok(()),
    }
}

/// Every key can be written and deleted, and nothing is lost for good: without items no byte counts
/// as live.
fn goes_on(pair: &mut Pair<Logging>) -> Result<(), String> {
    pair.model = contents(&pair.store);
    for number in 0..48 {
        pair.apply(&Op::Delete(number));
        pair.apply(&if number % 2 == 0 { Op::Put(number, 1) } else { Op::Load(number, 1) });
    }
    compare(&pair.store, &pair.model)?;
    pair.apply(&Op::Clear);
    pair.store.clean(&pair.session, 1000).map_err(|error| error.to_string())?;
    nothing_lives(&pair.store)
}

/// Whether no byte counts as live, in a store without items.
pub(crate) fn nothing_lives(store: &Store<Logging>) -> Result<(), String> {
    let stats = store.stats().map_err(|error| error.to_string())?;
    match stats.live_bytes {
        0 => Ok(()),
        live => Err(format!("{live} bytes are counted live in an empty store: {stats:?}")),
    }
}
