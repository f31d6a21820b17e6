//! How sets of topics lie to each other.

use crate::topic;

/// Whether every topic that matches `inner` matches `outer`.
pub(super) fn contains(outer: &str, inner: &str) -> bool {
    // A wildcard at the beginning matches no topic that begins with $ [MQTT-4.7.2-1].
    if inner.starts_with('$') && outer.starts_with(['+', '#']) {
        return false;
    }
    let (mut outer, mut inner) = (topic::split(outer), topic::split(inner));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) => return true,
            (_, Some("#")) => return false,
            (Some("+"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether there is a topic that matches both.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let wild = ['+', '#'];
    if (a.starts_with('$') && b.starts_with(wild)) || (b.starts_with('$') && a.starts_with(wild)) {
        return false;
    }
    let (mut a, mut b) = (topic::split(a), topic::split(b));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(one), Some(other)) if one == other => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}
