//! The process that is stopped and killed: writes as the plan says, as fast as it can.

use anyhow::{Context, Result, bail};

use store_benches::records::{SEQ_MAX, Stamp, fill};
use store_benches::worker::{Handle, Parent};

use crate::Attached;
use crate::plan::{Plan, Step, VICTIM, value_len};

pub(crate) fn run(store: Handle, parent: &mut Parent) -> Result<()> {
    let store = store.writer().context("attaching to write")?;
    let plan = Plan::new();
    let mut value = Vec::new();
    parent.tell(&Attached)?;
    for n in 1..=SEQ_MAX {
        match Plan::step(n) {
            Step::Put(index) => {
                let (_, key) = &plan.keys[index];
                let stamp = Stamp { writer: VICTIM, seq: n };
                fill(&mut value, key, stamp, value_len(stamp));
                store.put(key, &value).with_context(|| format!("write {n}, a put"))?;
            }
            Step::Delete(index) => {
                let (_, key) = &plan.keys[index];
                store.delete(key).with_context(|| format!("write {n}, a delete"))?;
            }
            Step::Increment(index) => {
                let (_, key) = &plan.keys[index];
                store.incr(key, 1).with_context(|| format!("write {n}, an increment"))?;
            }
        }
    }
    bail!("nobody killed it")
}
