//! Access lists in the format of Mosquitto.
//!
//! ```text
//! topic read $SYS/#              # clients without a User Name
//! user ann
//! topic readwrite house/#
//! topic deny house/safe/#
//! pattern write status/%u/%c     # everybody
//! ```
//!
//! What no line allows is denied, and a `deny` that matches outweighs all others.

use std::collections::HashMap;

use crate::identity::Rights;
use crate::topic;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) username: Option<&'a str>,
    pub(super) client_id: &'a str,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Acl {
    anonymous: List,
    users: HashMap<Box<str>, List>,
    patterns: List,
}

/// Lines that hold for the same clients, in three kinds, since each question is about two of them.
#[derive(Debug, Default)]
struct List {
    read: Vec<Box<str>>,
    write: Vec<Box<str>>,
    deny: Vec<Box<str>>,
}

impl Acl {
    pub(super) fn parse(text: &str) -> Result<Acl, String> {
        let mut acl = Acl::default();
        let mut user: Option<Box<str>> = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let error = |reason: &str| format!("line {}: {reason}", number + 1);
            let (word, rest) = split_word(line);
            match word {
                "user" if rest.is_empty() => return Err(error("a user has a name")),
                "user" => {
                    acl.users.entry(rest.into()).or_default();
                    user = Some(rest.into());
                }
                "topic" => {
                    let list = match &user {
                        Some(name) => acl.users.entry(name.clone()).or_default(),
                        None => &mut acl.anonymous,
                    };
                    list.add(rest).map_err(|reason| error(&reason))?;
                }
                "pattern" => acl.patterns.add(rest).map_err(|reason| error(&reason))?,
                _ => return Err(error(&format!("{word:?} is neither user, topic nor pattern"))),
            }
        }
        Ok(acl)
    }

    pub(super) fn allows_read(&self, who: &Who<'_>, topic: &str) -> bool {
        self.allows(who, topic, |list| &list.read)
    }

    pub(super) fn allows_write(&self, who: &Who<'_>, topic: &str) -> bool {
        self.allows(who, topic, |list| &list.write)
    }

    fn allows(&self, who: &Who<'_>, topic: &str, kind: impl Fn(&List) -> &Vec<Box<str>>) -> bool {
        let matches = |filter: &str| topic::matches(filter, topic);
        !self.any(who, |list| &list.deny, matches) && self.any(who, kind, matches)
    }

    /// Whether all that matches the filter may be read. One line must allow all of it: that several do together is not
    /// found out.
    pub(super) fn allows_all(&self, who: &Who<'_>, filter: &str) -> bool {
        !self.any(who, |list| &list.deny, |denied| overlap(denied, filter))
            && self.any(who, |list| &list.read, |allowed| contains(allowed, filter))
    }

    /// Whether `test` holds for a filter of this kind among those for the client.
    fn any(&self, who: &Who<'_>, kind: impl Fn(&List) -> &Vec<Box<str>>, test: impl Fn(&str) -> bool) -> bool {
        let own = match who.username {
            Some(username) => self.users.get(username),
            None => Some(&self.anonymous),
        };
        own.is_some_and(|list| kind(list).iter().any(|filter| test(filter)))
            || kind(&self.patterns)
                .iter()
                .filter_map(|pattern| substitute(pattern, who))
                .any(|filter| test(&filter))
    }
}

impl List {
    /// `[read|write|readwrite|deny] filter`
    fn add(&mut self, rest: &str) -> Result<(), String> {
        let (word, behind) = split_word(rest);
        // A filter may be called like a kind, if nothing follows.
        let (kind, filter) = match word {
            "read" | "write" | "readwrite" | "deny" if !behind.is_empty() => (word, behind),
            _ => ("readwrite", rest),
        };
        if filter.is_empty() {
            return Err("there is no topic".to_owned());
        }
        let plain = filter.replace("%u", "u").replace("%c", "c");
        topic::TopicFilter::parse(&plain).map_err(|error| format!("{filter:?}: {error}"))?;
        let lists = match kind {
            "read" => [Some(&mut self.read), None],
            "write" => [Some(&mut self.write), None],
            "deny" => [Some(&mut self.deny), None],
            _ => [Some(&mut self.read), Some(&mut self.write)],
        };
        lists.into_iter().flatten().for_each(|list| list.push(filter.into()));
        Ok(())
    }
}

impl Rights {
    pub(super) fn allow_read(&self, topic: &str) -> bool {
        self.everything || within(topic, &self.read, &self.never_read)
    }

    pub(super) fn allow_write(&self, topic: &str) -> bool {
        self.everything || within(topic, &self.write, &self.never_write)
    }

    /// As [`Acl::allows_all`].
    pub(super) fn allow_all(&self, filter: &str) -> bool {
        self.everything
            || (!self.never_read.iter().any(|denied| overlap(denied, filter))
                && self.read.iter().any(|allowed| contains(allowed, filter)))
    }
}

fn within(topic: &str, allowed: &[Box<str>], denied: &[Box<str>]) -> bool {
    let any = |filters: &[Box<str>]| filters.iter().any(|filter| topic::matches(filter, topic));
    any(allowed) && !any(denied)
}

fn split_word(line: &str) -> (&str, &str) {
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    (word, rest.trim())
}

/// The pattern for this client; none if a name would change its structure: `+` as a Client Identifier must not open the
/// topics of everybody.
pub(super) fn substitute(pattern: &str, who: &Who<'_>) -> Option<String> {
    let is_safe = |name: &&str| !name.contains(['+', '#', '/']);
    let mut filter = pattern.to_owned();
    if pattern.contains("%c") {
        filter = filter.replace("%c", Some(who.client_id).filter(is_safe)?);
    }
    if pattern.contains("%u") {
        // The name of the client may have been "%u".
        let username = who.username.filter(is_safe)?;
        filter = match pattern.contains("%c") {
            true => pattern
                .split("%u")
                .map(|part| part.replace("%c", who.client_id))
                .collect::<Vec<_>>()
                .join(username),
            false => filter.replace("%u", username),
        };
    }
    Some(filter)
}

/// Whether every topic that matches `inner` matches `outer`.
fn contains(outer: &str, inner: &str) -> bool {
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
fn overlap(a: &str, b: &str) -> bool {
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

#[cfg(test)]
mod tests;
