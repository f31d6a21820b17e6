//! How many connections the limit of open files allows.

/// File descriptors that are not for connections in service: the broker's own, and those of connections that are told
/// that there are too many.
fn reserved_files(limit: u64) -> u64 {
    (limit / 4).clamp(16, 320)
}

/// Raises the limit of open files as far as it goes, and keeps the connections within it: a connection is refused in
/// words rather than by a failing system call.
pub(super) fn connections_that_fit(wanted: Option<usize>) -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    let fit = limit.current.map_or(usize::MAX, |files| {
        files.saturating_sub(reserved_files(files)).max(1) as usize
    });
    match wanted {
        Some(wanted) if wanted > fit => {
            tracing::warn!(
                wanted,
                fit,
                "the limit of open files allows fewer connections (ulimit -n)"
            );
            fit
        }
        Some(wanted) => wanted,
        None => fit,
    }
}
