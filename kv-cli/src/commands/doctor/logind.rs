//! systemd's `RemoveIPC`: what logind does with the shared memory of a user who logged out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::host::Root;

/// Where systemd looks for settings, the most important first (`logind.conf(5)`).
const PLACES: [&str; 4] =
    ["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];

/// Whether it removes them; `None` where no logind runs.
pub(super) fn removes_ipc(root: &Root<'_>) -> Option<bool> {
    // It makes the directory when it starts.
    if !root.has("run/systemd/seats") {
        return None;
    }
    let main = PLACES.iter().map(|place| root.path(&format!("{place}/logind.conf")));
    let main = main.into_iter().find(|path| path.exists());
    let set = main.into_iter().chain(drop_ins(root)).filter_map(|path| setting(&path)).last();
    Some(set.unwrap_or(true))
}

/// In the order in which they count, the last one most. Of those of one name the most important
/// place has the only one.
fn drop_ins(root: &Root<'_>) -> impl Iterator<Item = PathBuf> {
    let mut found = BTreeMap::new();
    for place in PLACES {
        let directory = root.path(&format!("{place}/logind.conf.d"));
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                found.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    found.into_values()
}

/// What a file says last, if it says anything.
fn setting(path: &Path) -> Option<bool> {
    let text = fs::read_to_string(path).ok()?;
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.trim().split_once('=')?;
        (name.trim() == "RemoveIPC").then_some(value.trim())
    });
    match values.next_back()?.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_important_setting_counts() {
        let folder = tempfile::tempdir().expect("a directory");
        let root = Root(folder.path());
        let write = |name: &str, text: &str| {
            let path = root.path(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("makes it");
            fs::write(path, text).expect("writes");
        };
        assert_eq!(removes_ipc(&root), None, "no logind");
        fs::create_dir_all(root.path("run/systemd/seats")).expect("makes it");
        assert_eq!(removes_ipc(&root), Some(true), "the default");
        write("usr/lib/systemd/logind.conf", "[Login]\nRemoveIPC=no\n");
        assert_eq!(removes_ipc(&root), Some(false));
        write("etc/systemd/logind.conf", "[Login]\n#RemoveIPC=yes\n");
        assert_eq!(removes_ipc(&root), Some(true), "it stands in place of the other one");
        write("usr/lib/systemd/logind.conf.d/50-x.conf", "[Login]\nRemoveIPC = off\n");
        assert_eq!(removes_ipc(&root), Some(false));
        write("run/systemd/logind.conf.d/60-y.conf", "[Login]\nRemoveIPC=1\n");
        assert_eq!(removes_ipc(&root), Some(true));
        write("etc/systemd/logind.conf.d/60-y.conf", "[Login]\n");
        assert_eq!(removes_ipc(&root), Some(false), "a file of that name hides the other");
    }
}
