//! What a process costs, as Linux counts it.

use std::fs;
use std::time::Duration;

/// A process by its id, or the program itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Process {
    Own,
    Other(u32),
}

impl Process {
    fn path(self, file: &str) -> String {
        match self {
            Process::Own => format!("/proc/self/{file}"),
            Process::Other(id) => format!("/proc/{id}/{file}"),
        }
    }

    /// CPU time that the threads which it has now have used, in user and in kernel mode.
    pub(super) fn cpu(self) -> Result<Duration, String> {
        let path = self.path("task");
        let threads = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
        let of_thread = |thread: fs::DirEntry| {
            // A thread that has ended meanwhile has no file any more.
            let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            schedstat.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        Ok(Duration::from_nanos(threads.flatten().filter_map(of_thread).sum()))
    }

    /// Memory in use (RSS), in bytes.
    pub(super) fn memory(self) -> Result<u64, String> {
        let path = self.path("status");
        let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| "/proc/…/status has no VmRSS".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_uses_time() {
        let own = Process::Other(std::process::id());
        assert!(own.memory().expect("is readable") > 100_000);
        let before = own.cpu().expect("is readable");
        while own.cpu().expect("is readable") < before + Duration::from_millis(20) {}
        assert!(Process::Own.cpu().expect("is readable") >= before);
    }
}
