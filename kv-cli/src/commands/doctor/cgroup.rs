//! The memory that control groups leave to this process, of version 2 or 1.

use super::host::Root;

/// The narrowest limit of the groups that this process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) bytes: u64,
    pub(super) used: u64,
    /// The directory of the group.
    pub(super) group: String,
}

/// Where version 1 says that there is none: the largest number of pages.
const UNLIMITED: u64 = 1 << 62;

pub(super) fn limit(root: &Root<'_>) -> Option<Limit> {
    let groups = root.text("proc/self/cgroup")?;
    groups.lines().flat_map(|line| of_line(root, line)).min_by_key(|limit| limit.bytes)
}

/// One line: the number of the hierarchy, what it controls, the path.
fn of_line(root: &Root<'_>, line: &str) -> Vec<Limit> {
    let mut words = line.splitn(3, ':');
    let (Some(_), Some(controls), Some(path)) = (words.next(), words.next(), words.next()) else {
        return Vec::new();
    };
    let (mount, names) = match controls {
        "" => ("sys/fs/cgroup", ["memory.max", "memory.current"]),
        _ if controls.split(',').any(|control| control == "memory") => {
            ("sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes"])
        }
        _ => return Vec::new(),
    };
    // Of each group and those above it. In a container the path may be one of the host: then only
    // the mount itself is there.
    let mut found = Vec::new();
    let mut path = path.trim_matches('/');
    loop {
        let group = format!("{mount}/{path}");
        let group = group.trim_end_matches('/');
        // Without a limit the file says "max".
        let bytes = root.number(&format!("{group}/{}", names[0]));
        if let Some(bytes) = bytes.filter(|bytes| *bytes < UNLIMITED) {
            let used = root.number(&format!("{group}/{}", names[1])).unwrap_or(0);
            found.push(Limit { bytes, used, group: format!("/{group}") });
        }
        if path.is_empty() {
            return found;
        }
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_narrowest_group_counts() {
        let folder = tempfile::tempdir().expect("a directory");
        let root = Root(folder.path());
        let write = |name: &str, text: &str| {
            let path = root.path(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("makes it");
            fs::write(path, text).expect("writes");
        };
        write("proc/self/cgroup", "4:cpu,memory:/v1\n0::/a/b\n");
        assert_eq!(limit(&root), None);
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        write("sys/fs/cgroup/memory/v1/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit(&root), None);
        write("sys/fs/cgroup/a/memory.max", "1000\n");
        write("sys/fs/cgroup/a/memory.current", "900\n");
        let of_a = Limit { bytes: 1000, used: 900, group: "/sys/fs/cgroup/a".to_owned() };
        assert_eq!(limit(&root), Some(of_a));
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "10\n");
        let of_v1 = Limit { bytes: 10, used: 0, group: "/sys/fs/cgroup/memory".to_owned() };
        assert_eq!(limit(&root), Some(of_v1));
    }
}
