//! Makes or attaches the store, keeps it until told to end, and leaves it or removes it.

use std::time::Instant;

use anyhow::{Result, anyhow};
use bytesize::ByteSize;
use serde_json::json;
use store_client::{AttachError, CreateError, HugePages, Info, Writer, create, destroy, set_owner};

use crate::config::Config;
use crate::log::Log;
use crate::notify;
use crate::signals::Signals;
use crate::upkeep::Upkeep;

/// How soon a signal is noticed.
const STEP: std::time::Duration = std::time::Duration::from_millis(50);

/// Keeps the store of `config`; `load` reads the settings anew, if there is a file of them.
///
/// # Errors
/// What kept it from starting, or from removing the store.
pub(crate) fn run(config: Config, load: Option<&dyn Fn() -> Result<Config>>) -> Result<()> {
    let signals =
        Signals::install().map_err(|error| anyhow!("installing signal handlers: {error}"))?;
    let mut log = Log::new(config.settings.format());
    let (writer, made) = open(&config)?;
    writer.keep()?;
    let namespaces = config.make_namespaces(&writer).inspect_err(|_| {
        // One that was made for nothing.
        if made {
            drop(destroy(&config.settings.store()));
        }
    })?;
    announce(&config, &writer.info()?, made, writer.len(), &log);
    if namespaces > 0 {
        let text = format!("made {namespaces} of {} namespaces", config.settings.namespaces.len());
        let names: Vec<_> = config.settings.namespaces.keys().collect();
        log.say("namespaces", &text, json!({ "made": namespaces, "names": names }));
    }
    log.say("ready", "ready", json!({ "pid": std::process::id() }));
    if let Err(error) = notify::tell("READY=1") {
        log.complain(&format!("telling NOTIFY_SOCKET: {error}"));
    }

    let mut config = config;
    let mut upkeep = Upkeep::new();
    while !signals.stop() && !writer.is_retired() {
        upkeep.round(&writer, &mut log);
        let next = Instant::now() + config.settings.interval();
        while Instant::now() < next && !signals.pending() {
            std::thread::sleep(STEP.min(next.saturating_duration_since(Instant::now())));
        }
        if signals.take_reload() {
            reload(&mut config, load, &mut log);
        }
    }
    let _ = notify::tell("STOPPING=1");
    upkeep.tell(&log);
    end(&config, writer, &log)
}

/// Attaches the store, or makes it if that was asked for; whether it did.
fn open(config: &Config) -> Result<(Writer, bool)> {
    let spec = config.settings.store();
    let Some(options) = config.settings.options() else {
        return Ok((Writer::attach(&spec).map_err(advise)?, false));
    };
    match create(&spec, &options) {
        Ok(writer) => {
            if let Some(owner) = config.settings.owner {
                set_owner(&spec, Some(owner.0.0), None).inspect_err(|_| drop(destroy(&spec)))?;
            }
            Ok((writer, true))
        }
        // What is there may be a store or not: attaching it tells.
        Err(CreateError::Exists { .. } | CreateError::Occupied { .. }) => {
            Ok((Writer::attach(&spec)?, false))
        }
        Err(error) => Err(config.explain(error)),
    }
}

fn advise(error: AttachError) -> anyhow::Error {
    match error {
        AttachError::NotFound { .. } => {
            let text = format!("{error}; size (--size) makes one");
            anyhow::Error::new(error).context(text)
        }
        error => error.into(),
    }
}

/// What was got, if some were asked for.
fn huge_pages(info: &Info) -> String {
    match info.huge_pages {
        HugePages::Default => String::new(),
        asked => format!(", {asked} huge pages: {}", ByteSize(info.huge_page_bytes)),
    }
}

fn announce(config: &Config, info: &Info, made: bool, items: u64, log: &Log) {
    let spec = config.settings.store().to_string();
    if made {
        let text = format!(
            "made {spec}: {} of at most {}, {} extents of {}, index for {} items, hash {}, guards \
             {}, checksums {}{}",
            ByteSize(info.segment_bytes),
            ByteSize(info.max_segment_bytes),
            info.extents,
            ByteSize(info.extent_bytes),
            info.planned_items,
            info.hash,
            info.guard,
            if info.checksums { "on" } else { "off" },
            huge_pages(info),
        );
        log.say(
            "made",
            &text,
            json!({
                "store": spec,
                "name": info.name,
                "uuid": info.uuid,
                "backing": info.backing.to_string(),
                "size": info.segment_bytes,
                "max_size": info.max_segment_bytes,
                "extents": info.extents,
                "extent_size": info.extent_bytes,
                "planned_items": info.planned_items,
                "mode": info.mode.to_string(),
                "hash": info.hash,
                "guard": info.guard.to_string(),
                "huge_pages": info.huge_pages.to_string(),
                "huge_page_bytes": info.huge_page_bytes,
                "checksums": info.checksums,
            }),
        );
    } else if config.settings.size.is_some() {
        let text = format!("{spec} is there already: what is set for making it is not used");
        log.say("found", &text, json!({ "store": spec, "uuid": info.uuid }));
    }
    let text = format!("keeping {spec} ({}), {items} items", ByteSize(info.segment_bytes));
    let fields = json!({ "store": spec, "size": info.segment_bytes, "items": items });
    log.say("keeping", &text, fields);
}

/// Takes the interval from the file. What else changed needs a new start.
fn reload(config: &mut Config, load: Option<&dyn Fn() -> Result<Config>>, log: &mut Log) {
    let Some(load) = load else {
        log.complain("SIGHUP: there is no file of settings (--config) to read anew");
        return;
    };
    let reloaded = load().and_then(|new| Ok((new.differs_beside_the_interval(config)?, new)));
    match reloaded {
        Ok((others, new)) => {
            config.settings.interval_ms = new.settings.interval_ms;
            let millis = config.settings.interval().as_millis() as u64;
            let rest = if others { "; what else changed needs a new start" } else { "" };
            let text = format!("read the settings anew: interval-ms is {millis}{rest}");
            log.say("reloaded", &text, json!({ "interval_ms": millis, "others_changed": others }));
        }
        Err(error) => log.complain(&format!("SIGHUP: nothing is changed: {error}")),
    }
}

/// Lets go of the store, and removes it if that was asked for.
fn end(config: &Config, writer: Writer, log: &Log) -> Result<()> {
    let spec = config.settings.store();
    let fields = json!({ "store": spec.to_string() });
    // A store that somebody removed meanwhile is not ours any more, whatever has its name now.
    if writer.is_retired() {
        log.say("gone", "the store was removed", fields);
    } else if config.settings.remove() {
        destroy(&spec)?;
        log.say("removed", &format!("removed {spec}"), fields);
    } else {
        log.say("left", &format!("left {spec} as it is"), fields);
    }
    Ok(())
}
