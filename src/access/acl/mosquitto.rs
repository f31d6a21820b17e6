//! Access lists in the format of Mosquitto.
//!
//! ```text
//! topic read $SYS/#              # clients without a User Name
//! user ann
//! topic readwrite house/#
//! topic deny house/safe/#
//! pattern write status/%u/%c     # everybody
//! ```

use super::{Acl, Line, List, check_filter, has_names};

impl Acl {
    /// The list in this text.
    pub(crate) fn parse(text: &str) -> Result<Acl, String> {
        let mut acl = Acl::default();
        let mut user: Option<Box<str>> = None;
        for (number, line) in text.lines().enumerate() {
            let (number, line) = (number + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let error = |reason: &str| format!("line {number}: {reason}");
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
                    list.add(rest, number, false).map_err(|reason| error(&reason))?;
                }
                "pattern" => {
                    let list = &mut acl.everybody;
                    list.add(rest, number, true).map_err(|reason| error(&reason))?;
                }
                _ => return Err(error(&format!("{word:?} is neither user, topic nor pattern"))),
            }
        }
        Ok(acl)
    }
}

impl List {
    /// `[read|write|readwrite|deny] filter`
    fn add(&mut self, rest: &str, number: usize, is_pattern: bool) -> Result<(), String> {
        let (word, behind) = split_word(rest);
        // A filter may be called like a kind, if nothing follows.
        let (kind, filter) = match word {
            "read" | "write" | "readwrite" | "deny" if !behind.is_empty() => (word, behind),
            _ => ("readwrite", rest),
        };
        if filter.is_empty() {
            return Err("there is no topic".to_owned());
        }
        check_filter(filter)?;
        let line = Line {
            filter: filter.into(),
            number,
            has_names: is_pattern && has_names(filter),
            client_ids: None,
        };
        let lists = match kind {
            "read" => [Some(&mut self.read), None],
            "write" => [Some(&mut self.write), None],
            "deny" => [Some(&mut self.deny_read), Some(&mut self.deny_write)],
            _ => [Some(&mut self.read), Some(&mut self.write)],
        };
        lists.into_iter().flatten().for_each(|list| list.push(line.clone()));
        Ok(())
    }
}

fn split_word(line: &str) -> (&str, &str) {
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    (word, rest.trim())
}
