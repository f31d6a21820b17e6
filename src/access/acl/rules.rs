//! Access lists in TOML.
//!
//! ```toml
//! [[rule]]
//! users = ["ann", "bob"]        # and anonymous = true: clients without a User Name; client-ids: only these
//! publish = ["house/%u/#"]
//! subscribe = ["house/#"]
//! deny-subscribe = ["house/safe/#"]
//! ```
//!
//! A rule that names nobody holds for everybody. `%u` and `%c` stand for the User Name and the Client Identifier.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Acl, Line, List, check_filter, has_names};
use crate::access::WideSubscriptions;
use crate::access::similar::nearest;

const LISTS: [&str; 4] = ["publish", "subscribe", "deny-publish", "deny-subscribe"];
const KEYS: [&str; 7] = [
    "users",
    "anonymous",
    "client-ids",
    LISTS[0],
    LISTS[1],
    LISTS[2],
    LISTS[3],
];

type Names = Vec<Box<str>>;
type Entry<'a, 'i> = (&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>);

/// What a rule says, checked.
#[derive(Debug, Default)]
struct Rule {
    users: Option<Names>,
    anonymous: bool,
    client_ids: Option<Names>,
    list: List,
    says_something: bool,
}

/// The text, for the numbers of its lines.
#[derive(Clone, Copy)]
struct Text<'a>(&'a str);

impl Text<'_> {
    fn line(self, span: Range<usize>) -> usize {
        let before = self.0.as_bytes().get(..span.start).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn error(self, span: Range<usize>, reason: &str) -> String {
        format!("line {}: {reason}", self.line(span))
    }
}

impl Acl {
    /// The list in this text.
    pub(crate) fn parse_rules(toml: &str) -> Result<Acl, String> {
        let text = Text(toml);
        let table =
            DeTable::parse(toml).map_err(|error| text.error(error.span().unwrap_or_default(), error.message()))?;
        let mut acl = Acl {
            wide: WideSubscriptions::Deny,
            ..Acl::default()
        };
        for (key, value) in table.get_ref() {
            if key.get_ref() != "rule" {
                return Err(text.error(key.span(), &unknown(key.get_ref(), &["rule"])));
            }
            let DeValue::Array(rules) = value.get_ref() else {
                return Err(text.error(key.span(), "rules are tables that begin with [[rule]]"));
            };
            for rule in rules {
                acl.add(Rule::read(text, rule)?);
            }
        }
        Ok(acl)
    }

    fn add(&mut self, rule: Rule) {
        let is_for_all = rule.users.is_none() && !rule.anonymous;
        if is_for_all {
            match &rule.client_ids {
                Some(client_ids) => client_ids.iter().for_each(|id| {
                    self.clients.entry(id.clone()).or_default().extend(&rule.list);
                }),
                None => self.everybody.extend(&rule.list),
            }
            return;
        }
        let list = match rule.client_ids {
            Some(client_ids) => rule.list.for_clients(&Arc::new(client_ids.into_iter().collect())),
            None => rule.list,
        };
        if rule.anonymous {
            self.anonymous.extend(&list);
        }
        for user in rule.users.into_iter().flatten() {
            self.users.entry(user).or_default().extend(&list);
        }
    }
}

impl List {
    fn extend(&mut self, other: &List) {
        self.read.extend_from_slice(&other.read);
        self.write.extend_from_slice(&other.write);
        self.deny_read.extend_from_slice(&other.deny_read);
        self.deny_write.extend_from_slice(&other.deny_write);
    }

    fn for_clients(mut self, client_ids: &Arc<HashSet<Box<str>>>) -> List {
        let lists = [
            &mut self.read,
            &mut self.write,
            &mut self.deny_read,
            &mut self.deny_write,
        ];
        for line in lists.into_iter().flatten() {
            line.client_ids = Some(Arc::clone(client_ids));
        }
        self
    }
}

impl Rule {
    fn read(text: Text<'_>, value: &Spanned<DeValue<'_>>) -> Result<Rule, String> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(text.error(value.span(), "a rule is a table that begins with [[rule]]"));
        };
        let mut rule = Rule::default();
        for entry in table {
            rule.take(text, entry)?;
        }
        match rule.says_something {
            true => Ok(rule),
            false => Err(text.error(value.span(), "a rule says what its clients may publish or subscribe to")),
        }
    }

    fn take(&mut self, text: Text<'_>, (key, value): Entry<'_, '_>) -> Result<(), String> {
        let name = key.get_ref().as_ref();
        match name {
            "users" => self.users = Some(names(text, key, value)?),
            "client-ids" => self.client_ids = Some(names(text, key, value)?),
            // That a rule is not for anonymous clients is said by naming others.
            "anonymous" => match value.get_ref() {
                DeValue::Boolean(true) => self.anonymous = true,
                _ => return Err(text.error(key.span(), "\"anonymous\" is true, or left out")),
            },
            _ if LISTS.contains(&name) => {
                self.says_something = true;
                let lines = match name {
                    "publish" => &mut self.list.write,
                    "subscribe" => &mut self.list.read,
                    "deny-publish" => &mut self.list.deny_write,
                    _ => &mut self.list.deny_read,
                };
                for (filter, span) in texts(text, key, value)? {
                    lines.push(line(filter, text.line(span.clone())).map_err(|reason| text.error(span, &reason))?);
                }
            }
            _ => return Err(text.error(key.span(), &unknown(name, &KEYS))),
        }
        Ok(())
    }
}

fn line(filter: &str, number: usize) -> Result<Line, String> {
    check_filter(filter)?;
    if filter.starts_with("$share/") {
        return Err(format!("{filter:?}: a rule is about topics, however they are shared"));
    }
    Ok(Line {
        filter: filter.into(),
        number,
        has_names: has_names(filter),
        client_ids: None,
    })
}

/// A list that must not be empty: without it the rule would be for everybody, which is not what an empty one says.
fn names(
    text: Text<'_>,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Names, String> {
    let names: Names = texts(text, key, value)?
        .into_iter()
        .map(|(name, _)| name.into())
        .collect();
    match names.is_empty() {
        true => Err(text.error(key.span(), &format!("{:?} is empty: nobody is named", key.get_ref()))),
        false => Ok(names),
    }
}

fn texts<'a>(
    text: Text<'_>,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &'a Spanned<DeValue<'_>>,
) -> Result<Vec<(&'a str, Range<usize>)>, String> {
    let error = |span| {
        text.error(
            span,
            &format!("{:?} is a list of texts, such as [\"a\", \"b\"]", key.get_ref()),
        )
    };
    let DeValue::Array(items) = value.get_ref() else {
        return Err(error(value.span()));
    };
    let text_of = |item: &'a Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::String(text) => Ok((text.as_ref(), item.span())),
        _ => Err(error(item.span())),
    };
    items.iter().map(text_of).collect()
}

fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("there is no setting {name:?}; is it {meant:?} that you mean?"),
        None => format!("there is no setting {name:?}; there are {}", known.join(", ")),
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
