//! Globs of minimatch as Topic Filters.
//!
//! A filter never matches more than its glob, but for levels that are empty or begin with a dot, which `*` leaves out.
//! What can't be said with filters is refused.

use crate::topic::TopicFilter;

/// Filters that braces may become.
const MOST_FILTERS: usize = 100;

/// Filters for the topics that the glob allows to publish to.
pub(super) fn to_publish(glob: &str) -> Result<Vec<String>, String> {
    let mut filters = Vec::new();
    for glob in expand(glob)? {
        if glob.contains(['+', '#']) {
            return Err("no topic has + or # in its name".to_owned());
        }
        let filter = match glob.strip_suffix("/**") {
            // The glob leaves out what stands before it.
            Some(start) => format!("{}/+/#", levels(start)?),
            None if glob == "**" => "#".to_owned(),
            None => levels(&glob)?,
        };
        filters.push(checked(filter)?);
    }
    Ok(filters)
}

/// Filters for what the glob allows to subscribe to: aedes-cli compares it with the Topic Filter of the client as a text,
/// so that `a/**` allows the subscription `a/#`.
pub(super) fn to_subscribe(glob: &str) -> Result<Vec<String>, String> {
    let mut filters = Vec::new();
    for glob in expand(glob)? {
        match glob.strip_suffix("/**") {
            Some(start) => filters.push(checked(format!("{}/#", levels(start)?))?),
            None if glob == "**" => filters.extend(["#", "$SYS/#"].map(str::to_owned)),
            None => filters.push(checked(levels(&glob)?)?),
        }
    }
    Ok(filters)
}

fn levels(glob: &str) -> Result<String, String> {
    let mut levels = Vec::new();
    for (number, level) in glob.split('/').enumerate() {
        levels.push(match level {
            "*" => "+",
            "**" => return Err("`**` with something behind it has no counterpart".to_owned()),
            "" if number > 0 => return Err("an empty level".to_owned()),
            "." | ".." => return Err("`.` and `..` have no counterpart".to_owned()),
            level if level.contains(['*', '?', '[', ']', '(', ')', '{', '}', '|', '\\', '!']) => {
                return Err(format!("{level:?} is part of a level"));
            }
            level if level.contains("%u") || level.contains("%c") => {
                return Err("%u and %c stand for names here".to_owned());
            }
            level => level,
        });
    }
    Ok(levels.join("/"))
}

fn checked(filter: String) -> Result<String, String> {
    match TopicFilter::parse(&filter) {
        Ok(_) => Ok(filter),
        Err(error) => Err(error.to_string()),
    }
}

/// The globs that `{a,b}` stands for.
fn expand(glob: &str) -> Result<Vec<String>, String> {
    if glob.starts_with(['#', '!']) {
        return Err("what begins with # matches nothing, and what begins with ! all else".to_owned());
    }
    let mut done = Vec::new();
    let mut left = vec![glob.to_owned()];
    while let Some(glob) = left.pop() {
        let Some((before, rest)) = glob.split_once('{') else {
            done.push(glob);
            continue;
        };
        let (choices, after) = rest.split_once('}').ok_or("a brace is open")?;
        if choices.contains(['{', '\\']) || choices.contains("..") || !choices.contains(',') || before.contains('\\') {
            return Err("only braces of the form {a,b} have a counterpart".to_owned());
        }
        // The last is taken first.
        left.extend(choices.rsplit(',').map(|choice| format!("{before}{choice}{after}")));
        if left.len() + done.len() > MOST_FILTERS {
            return Err(format!("more than {MOST_FILTERS} filters"));
        }
    }
    Ok(done)
}
