//! How much memory the broker may take.

use std::path::{Path, PathBuf};

use super::values::bytes;

/// A bound of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemoryBound {
    /// From the limit of the control group, such as that of a container.
    Auto,
    Off,
    Bytes(usize),
}

/// Below this a broker does not work well.
const LEAST: u64 = 16 * 1024 * 1024;

pub(super) fn memory_bound(text: &str) -> Result<MemoryBound, String> {
    match text {
        "auto" => Ok(MemoryBound::Auto),
        "off" => Ok(MemoryBound::Off),
        text => match bytes(text)? {
            least if least < LEAST => Err("must be at least 16M".to_owned()),
            bytes => Ok(MemoryBound::Bytes(usize::try_from(bytes).unwrap_or(usize::MAX))),
        },
    }
}

impl MemoryBound {
    /// In bytes, if there is one. The kernel's memory for sockets counts against the limit of a control group and not
    /// against the process: a part of it is left for that.
    pub(super) fn bytes(self) -> Option<usize> {
        match self {
            MemoryBound::Off => None,
            MemoryBound::Bytes(bytes) => Some(bytes),
            MemoryBound::Auto => control_group_limit().map(|limit| limit / 100 * 85),
        }
    }
}

/// The lowest limit of the control groups that this process is in.
fn control_group_limit() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let files = groups.lines().flat_map(limit_files);
    files
        .filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok())
        // The first version says "none" with a number beyond any memory.
        .filter(|limit| *limit < 1 << 46)
        .min()
}

/// Where the limits of a line of `/proc/self/cgroup` are: of the group and of those around it. In a container the path may
/// be one of the host, and the group is at the root.
fn limit_files(line: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':');
    let (root, name) = match (fields.next(), fields.next()) {
        (Some("0"), Some("")) => ("/sys/fs/cgroup", "memory.max"),
        (Some(_), Some(controllers)) if controllers.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let path = fields.next().unwrap_or_default().trim_start_matches('/');
    let group = Path::new(root).join(path);
    let around = group.ancestors().take_while(|group| group.starts_with(root));
    around.map(|group| group.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_all_groups_around_count() {
        let files = |line| -> Vec<String> {
            let files = limit_files(line).into_iter();
            files.map(|file| file.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(
            files("0::/a/b"),
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(files("0::/"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(
            files("9:memory:/docker"),
            [
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
        assert!(files("4:cpu,cpuacct:/docker").is_empty() && files("").is_empty());
    }

    #[test]
    fn bounds_have_a_floor() {
        assert_eq!(memory_bound("off"), Ok(MemoryBound::Off));
        assert_eq!(memory_bound("1G"), Ok(MemoryBound::Bytes(1 << 30)));
        assert!(memory_bound("1M").is_err() && memory_bound("much").is_err());
    }
}
