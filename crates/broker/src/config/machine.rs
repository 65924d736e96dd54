//! How much memory this process may have.

use std::path::{Path, PathBuf};

/// Returns the memory of the machine or, where that is less, of the control groups that the process is in; in bytes.
///
/// `None` where nothing says it.
pub(super) fn memory() -> Option<usize> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let bounds = groups.lines().flat_map(bounds_of).filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    bounds.chain(machine).min()
}

/// Reads `MemTotal` of proc_meminfo(5).
fn of_machine(text: &str) -> Option<usize> {
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?;
    kibibytes.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// Returns the files with the bounds of a control group and of those that it is in, cgroups(7).
fn bounds_of(line: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { return Vec::new() };
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    Path::new(path.trim_start_matches('/')).ancestors().map(|group| Path::new(root).join(group).join(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_has_is_read() {
        assert_eq!(of_machine("MemTotal:       24683520 kB\nMemFree: 1 kB\n"), Some(24_683_520 << 10));
        assert_eq!(of_machine("MemFree: 1 kB\n"), None);
        assert!(memory().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_group_is_bounded_by_those_around_it() {
        let paths = |line| bounds_of(line).iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        let expected = "/sys/fs/cgroup/a/b/memory.max /sys/fs/cgroup/a/memory.max /sys/fs/cgroup/memory.max";
        assert_eq!(paths("0::/a/b"), expected);
        let expected = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(paths("4:memory:/a"), expected);
        assert_eq!(paths("9:name=systemd:/"), "");
    }
}
