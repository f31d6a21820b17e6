//! The configuration file: the options, by their long names, in TOML.
//!
//! A setting is handed to the parser of the command line as an option, unless the command line or the environment has
//! it: so the file knows the same values and the same contradictions, and says the same about them. The settings of a
//! `[[listener]]` are parsed behind all others, for this listener alone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::listener_table::{self, ListenerOptions, ListenerTable, SETTINGS, Transport};

/// What a file says, checked setting by setting.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    /// By the name of the option.
    settings: BTreeMap<String, Setting>,
    /// In their order.
    listeners: Vec<ListenerTable>,
}

#[derive(Debug)]
struct Setting {
    /// The options that say the same; none for what is turned off by being left out.
    arguments: Vec<OsString>,
    line: usize,
}

impl ConfigFile {
    /// Reads the file. Names, values and their types are known to be right then; whether they go together is not.
    pub(super) fn read(path: &Path, command: &Command) -> Result<ConfigFile, String> {
        let text = read(path).map_err(|reason| format!("{}: {reason}", path.display()))?;
        let table = DeTable::parse(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            format!("{}: line {line}: {}", path.display(), error.message())
        })?;
        let mut settings = BTreeMap::new();
        let mut listeners = Vec::new();
        let located = |(line, reason): Fault| format!("{}: line {line}: {reason}", path.display());
        for (name, value) in table.get_ref() {
            let line = line_of(&text, name.span().start);
            let name = name.get_ref().as_ref();
            if name == "listener" {
                listeners = listener_tables(&text, line, command, value).map_err(located)?;
                continue;
            }
            let arguments = setting(command, name, value.get_ref()).map_err(|reason| located((line, reason)))?;
            settings.insert(name.to_owned(), Setting { arguments, line });
        }
        Ok(ConfigFile {
            path: path.to_owned(),
            settings,
            listeners,
        })
    }

    /// The listeners with settings of their own, on top of the `arguments`, which are those of the broker.
    pub(super) fn listeners(&self, arguments: &[OsString], command: &Command) -> Result<Vec<ListenerOptions>, String> {
        let mut resolved: Vec<ListenerOptions> = Vec::new();
        for table in &self.listeners {
            let error = |reason: String| format!("{}: line {}: {reason}", self.path.display(), table.line);
            let listener = table.resolve(command, arguments).map_err(error)?;
            if resolved.iter().any(|other| other.name == listener.name) {
                return Err(error(format!("a second listener is called {:?}", listener.name)));
            }
            resolved.push(listener);
        }
        Ok(resolved)
    }

    /// The arguments with those of the file, which come first, for what is set neither there nor in the environment.
    pub(super) fn merge(&self, arguments: &[OsString], given: &ArgMatches, command: &Command) -> Vec<OsString> {
        let (program, rest) = arguments.split_at(arguments.len().min(1));
        let wins = |name: &str| {
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
            arg.is_none_or(|arg| {
                let source = given.value_source(arg.get_id().as_str());
                !matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
            })
        };
        let settings = self.settings.iter().filter(|(name, _)| wins(name));
        let of_file = settings.flat_map(|(_, setting)| setting.arguments.iter().cloned());
        program
            .iter()
            .cloned()
            .chain(of_file)
            .chain(rest.iter().cloned())
            .collect()
    }

    /// Whether the file has the setting, and so is its origin if nothing else is.
    pub(super) fn has(&self, name: &str) -> bool {
        self.settings.contains_key(name)
    }

    /// What the parser says of settings that contradict each other, with where they are.
    pub(super) fn explain(&self, error: &clap::Error) -> String {
        let reason = reason(error);
        let is_named = |name: &str| {
            let mut words = reason.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            words.any(|word| word.strip_prefix("--") == Some(name))
        };
        let named = self.settings.iter().find(|(name, _)| is_named(name));
        let line = named.map(|(_, setting)| format!("line {}: ", setting.line));
        format!("{}: {}{reason}", self.path.display(), line.unwrap_or_default())
    }
}

/// Bytes of the largest file that is read.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Only what ends, and is there at once: a pipe that nobody writes to would hold up the reload for ever.
fn read(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    if metadata.len() > LARGEST {
        return Err(format!("larger than {LARGEST} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// What the parser says, without how to call the program.
pub(super) fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let reason = text.split("\n\nUsage").next().unwrap_or_default();
    reason.trim_start_matches("error: ").trim_end().to_owned()
}

/// The line of a fault, and what is wrong.
type Fault = (usize, String);

fn listener_tables(
    text: &str,
    line: usize,
    command: &Command,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<ListenerTable>, Fault> {
    let no_tables = || {
        (
            line,
            "listeners are tables, each with the heading [[listener]]".to_owned(),
        )
    };
    let DeValue::Array(items) = value.get_ref() else {
        return Err(no_tables());
    };
    let tables = items.iter().map(|item| match item.get_ref() {
        DeValue::Table(table) => listener_table(text, line_of(text, item.span().start), command, table),
        _ => Err(no_tables()),
    });
    tables.collect()
}

fn listener_table(text: &str, line: usize, command: &Command, table: &DeTable<'_>) -> Result<ListenerTable, Fault> {
    let mut listener = ListenerTable {
        line,
        ..ListenerTable::default()
    };
    for (name, value) in table {
        let line = line_of(text, name.span().start);
        let (name, value) = (name.get_ref().as_ref(), value.get_ref());
        let done = match listener_table::OWN.iter().find(|(own, _)| *own == name) {
            Some((_, kind)) => set_own(&mut listener, name, value).ok_or_else(|| format!("{name:?} is {kind}")),
            None => listener_setting(command, name, value).map(|arguments| {
                listener.settings.push((name.to_owned(), arguments));
            }),
        };
        done.map_err(|reason| (line, reason))?;
    }
    Ok(listener)
}

/// What a listener alone has.
fn set_own(listener: &mut ListenerTable, name: &str, value: &DeValue<'_>) -> Option<()> {
    let text = || scalar(value).filter(|text| !text.is_empty());
    match (name, value) {
        ("proxy-protocol", DeValue::Boolean(expects)) => listener.proxy_protocol = Some(*expects),
        ("port", DeValue::Integer(_)) => listener.port = Some(text()?.parse().ok()?),
        ("name", DeValue::String(_)) => listener.name = Some(text()?),
        ("path", DeValue::String(_)) => listener.path = Some(text()?.into()),
        ("transport", DeValue::String(_)) => listener.transport = Transport::parse(&text()?)?,
        _ => return None,
    }
    Some(())
}

/// What a listener has otherwise than the broker.
fn listener_setting(command: &Command, name: &str, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    if SETTINGS.contains(&name) {
        return setting(command, name, value);
    }
    if find(command, name).is_ok() {
        return Err(format!("{name:?} is a setting of the broker, not of a listener"));
    }
    let names = SETTINGS.iter().chain(listener_table::OWN.iter().map(|(own, _)| own));
    let similar = Command::new("listener").args(names.map(|name| Arg::new(*name).long(*name)));
    find(&similar, name).map(|_| Vec::new())
}

/// A setting as the command line has it.
fn setting(command: &Command, name: &str, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let arguments = to_options(find(command, name)?, name, value)?;
    check(command, &arguments)?;
    Ok(arguments)
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())].matches('\n').count() + 1
}

/// Settings that a file can't have: they lead to it, or end the program.
const ELSEWHERE: [&str; 3] = ["config", "help", "version"];

fn find<'a>(command: &'a Command, name: &str) -> Result<&'a Arg, String> {
    let mut known = command.get_arguments().filter(|arg| {
        let long = arg.get_long();
        long.is_some_and(|long| !ELSEWHERE.contains(&long))
    });
    if let Some(arg) = known.find(|arg| arg.get_long() == Some(name)) {
        return Ok(arg);
    }
    let underscored = name.replace('_', "-");
    let error = command
        .clone()
        .try_get_matches_from(["broker", &format!("--{underscored}=")])
        .err();
    let suggestion = match error.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
        Some(suggested) => suggested.to_string().trim_start_matches('-').to_owned(),
        None if underscored != name && command.get_arguments().any(|arg| arg.get_long() == Some(&underscored)) => {
            underscored
        }
        None => return Err(format!("there is no setting {name:?}")),
    };
    Err(format!(
        "there is no setting {name:?}; is it {suggestion:?} that you mean?"
    ))
}

/// The value as the command line has it.
fn to_options(arg: &Arg, name: &str, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let with = |text: &str| Ok(vec![format!("--{name}={text}").into()]);
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, DeValue::Boolean(true)) => Ok(vec![format!("--{name}").into()]),
        (ArgAction::SetTrue, DeValue::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => Err(format!("{name:?} is true or false")),
        (ArgAction::Count, value) => {
            let count = scalar(value)
                .and_then(|text| text.parse().ok())
                .filter(|count| *count <= 2);
            let count: usize = count.ok_or_else(|| format!("{name:?} is 0, 1 or 2"))?;
            Ok(vec![format!("--{name}").into(); count])
        }
        (_, DeValue::Boolean(on)) => with(if *on { "on" } else { "off" }),
        (_, DeValue::Array(_)) if arg.get_value_delimiter().is_none() => Err(format!("{name:?} has a single value")),
        (_, DeValue::Array(items)) => {
            let items: Option<Vec<_>> = items.iter().map(|item| scalar(item.get_ref())).collect();
            let items = items.ok_or_else(|| format!("{name:?} is a list of texts or numbers"))?;
            if items.is_empty() {
                Ok(Vec::new())
            } else {
                with(&items.join(","))
            }
        }
        (_, value) => {
            let text = scalar(value).ok_or_else(|| format!("{name:?} is a text or a number"))?;
            if text.is_empty() {
                Err(format!("{name:?} is empty"))
            } else {
                with(&text)
            }
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether the value is one of the option's. What it needs besides is not looked at.
fn check(command: &Command, arguments: &[OsString]) -> Result<(), String> {
    let arguments = std::iter::once("broker".into()).chain(arguments.iter().cloned());
    match command.clone().try_get_matches_from(arguments) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) => {
            let text = error.to_string();
            let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            let possible = text.lines().find(|line| line.contains("possible values"));
            Err([reason, possible.unwrap_or_default().trim()]
                .join(" ")
                .trim_end()
                .to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
