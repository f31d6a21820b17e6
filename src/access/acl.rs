//! Access lists: what users may publish and subscribe to.
//!
//! A list is read from a file in the format of Mosquitto (`mosquitto.rs`) or in TOML (`rules.rs`). What no line allows is
//! denied, and a line that denies outweighs all others.

mod filters;
mod mosquitto;
#[cfg(feature = "cli")]
mod rules;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::WideSubscriptions;
use crate::identity::Rights;
use crate::topic;
use filters::{contains, overlap};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub(crate) username: Option<&'a str>,
    pub(crate) client_id: &'a str,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Acl {
    /// For clients without a User Name.
    anonymous: List,
    users: HashMap<Box<str>, List>,
    /// For Client Identifiers, whatever the User Name.
    clients: HashMap<Box<str>, List>,
    everybody: List,
    wide: WideSubscriptions,
}

/// Lines that hold for the same clients, in four kinds, since each question is about two of them.
#[derive(Debug, Default)]
struct List {
    read: Vec<Line>,
    write: Vec<Line>,
    deny_read: Vec<Line>,
    deny_write: Vec<Line>,
}

/// A Topic Filter, and where it stands.
#[derive(Clone, Debug)]
struct Line {
    filter: Box<str>,
    number: usize,
    /// Whether `%u` and `%c` in it stand for names.
    has_names: bool,
    /// Those for whom it holds; none for all.
    client_ids: Option<Arc<HashSet<Box<str>>>>,
}

/// What is decided, and by which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// By the line of this number.
    Allowed(usize),
    /// By the line of this number.
    Denied(usize),
    /// No line allows it.
    NotAllowed,
}

impl Verdict {
    fn is_allowed(self) -> bool {
        matches!(self, Verdict::Allowed(_))
    }
}

impl Acl {
    /// The list in a file with this text. One whose name ends in `.toml`, or which begins with a table, is in TOML.
    pub(crate) fn parse_file(path: &Path, text: &str) -> Result<Acl, String> {
        let mut lines = text.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        let is_toml = path.extension().is_some_and(|extension| extension == "toml")
            || first.is_some_and(|line| line.starts_with('['));
        if is_toml {
            Acl::parse_rules(text)
        } else {
            Acl::parse(text)
        }
    }

    #[cfg(not(feature = "cli"))]
    fn parse_rules(_: &str) -> Result<Acl, String> {
        Err("rules in TOML are not understood: this program was built without the feature cli".to_owned())
    }

    /// What becomes of subscriptions to more than may be read, if nothing else is said.
    pub(crate) fn wide_subscriptions(&self) -> WideSubscriptions {
        self.wide
    }

    pub(super) fn allows_read(&self, who: &Who<'_>, topic: &str) -> bool {
        let matches = |filter: &str| topic::matches(filter, topic);
        self.decide(who, |list| (&list.deny_read, &list.read), matches, matches)
            .is_allowed()
    }

    pub(super) fn allows_write(&self, who: &Who<'_>, topic: &str) -> bool {
        self.write_verdict(who, topic).is_allowed()
    }

    /// Whether all that matches the filter may be read. One line must allow all of it: that several do together is not
    /// found out.
    pub(super) fn allows_all(&self, who: &Who<'_>, filter: &str) -> bool {
        self.subscribe_verdict(who, filter).is_allowed()
    }

    /// Whether the client may publish to the topic.
    pub(crate) fn write_verdict(&self, who: &Who<'_>, topic: &str) -> Verdict {
        let matches = |filter: &str| topic::matches(filter, topic);
        self.decide(who, |list| (&list.deny_write, &list.write), matches, matches)
    }

    /// Whether all that matches the filter may be read.
    pub(crate) fn subscribe_verdict(&self, who: &Who<'_>, filter: &str) -> Verdict {
        let denies = |denied: &str| overlap(denied, filter);
        let allows = |allowed: &str| contains(allowed, filter);
        self.decide(who, |list| (&list.deny_read, &list.read), denies, allows)
    }

    /// By the lines that deny and those that allow.
    fn decide(
        &self,
        who: &Who<'_>,
        kinds: impl Fn(&List) -> (&Vec<Line>, &Vec<Line>),
        denies: impl Fn(&str) -> bool,
        allows: impl Fn(&str) -> bool,
    ) -> Verdict {
        let lists = self.lists(who);
        let find = |lines: &Vec<Line>, test: &dyn Fn(&Line) -> bool| {
            let mut for_it = lines.iter().filter(|line| line.is_for(who));
            for_it.find(|line| test(line)).map(|line| line.number)
        };
        // A client whose name can't be put in must not get round a line by it.
        let denying = |line: &Line| line.with_names(who, &denies).unwrap_or(true);
        let allowing = |line: &Line| line.with_names(who, &allows).unwrap_or(false);
        let denied = lists.iter().flatten().find_map(|list| find(kinds(list).0, &denying));
        if let Some(number) = denied {
            return Verdict::Denied(number);
        }
        let allowed = lists.iter().flatten().find_map(|list| find(kinds(list).1, &allowing));
        allowed.map_or(Verdict::NotAllowed, Verdict::Allowed)
    }

    /// Those that hold for the client.
    fn lists(&self, who: &Who<'_>) -> [Option<&List>; 3] {
        let own = match who.username {
            Some(username) => self.users.get(username),
            None => Some(&self.anonymous),
        };
        let clients = match self.clients.is_empty() {
            true => None,
            false => self.clients.get(who.client_id),
        };
        [own, clients, Some(&self.everybody)]
    }
}

impl Line {
    fn is_for(&self, who: &Who<'_>) -> bool {
        self.client_ids.as_ref().is_none_or(|ids| ids.contains(who.client_id))
    }

    /// What `test` says of the filter for this client; none if it has none.
    fn with_names(&self, who: &Who<'_>, test: impl Fn(&str) -> bool) -> Option<bool> {
        match self.has_names {
            false => Some(test(&self.filter)),
            true => substitute(&self.filter, who).map(|filter| test(&filter)),
        }
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

/// Says what is wrong with a filter in which `%u` and `%c` may stand.
fn check_filter(filter: &str) -> Result<(), String> {
    let plain = filter.replace("%u", "u").replace("%c", "c");
    match topic::TopicFilter::parse(&plain) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{filter:?}: {error}")),
    }
}

fn has_names(filter: &str) -> bool {
    filter.contains("%u") || filter.contains("%c")
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

#[cfg(test)]
mod tests;
