//! `broker config`: looking at configurations without starting a broker.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Args, Command, CommandFactory, Subcommand};

use super::options::{Fault, Options, Parsed};
use super::running::Plan;
use crate::cmd::mosquitto;
use crate::store::without_secrets;

/// Looks at configurations without starting a broker.
#[derive(Clone, Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Tells whether a broker would start with the file, as far as files can tell; exit code 0 or 1
    Check {
        /// The configuration file
        file: PathBuf,
    },
    /// Prints all settings that would be in force, and where they come from
    Show {
        /// The configuration file
        file: Option<PathBuf>,
    },
    /// Prints a configuration file with every setting, its meaning and its default
    Default,
    /// Translates a mosquitto.conf, and lists on standard error what can't be translated
    Import {
        /// The file of Mosquitto
        file: PathBuf,
        /// The new file, which must not be there yet [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Does what the command says.
pub(super) fn run(command: &ConfigCommand) -> Result<(), String> {
    let text = match &command.action {
        Action::Check { file } => {
            let options = parse(Some(file))?.options;
            return Plan::check(&options);
        }
        Action::Show { file } => show(&parse(file.as_ref())?),
        Action::Default => default_file(),
        Action::Import { file, output } => return mosquitto::import(file, output.as_deref()),
    };
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|error| format!("can't write to standard output: {error}"))
}

fn parse(file: Option<&PathBuf>) -> Result<Parsed, String> {
    let mut arguments = vec![OsString::from("broker")];
    if let Some(file) = file {
        arguments.extend(["--config".into(), file.into()]);
    }
    Parsed::new(arguments).map_err(|fault| match fault {
        Fault::Parser(error) => error.to_string(),
        Fault::File(reason) => reason,
    })
}

/// All settings, which are options that a file may have.
fn settings(command: &Command) -> impl Iterator<Item = (&Arg, &str)> {
    let named = command.get_arguments().filter_map(|arg| Some((arg, arg.get_long()?)));
    named.filter(|(_, name)| !["config", "help", "version"].contains(name))
}

fn show(parsed: &Parsed) -> String {
    let mut text = String::new();
    for (arg, name) in settings(&Options::command()) {
        let id = arg.get_id().as_str();
        let has = parsed.file.as_ref().is_some_and(|file| file.has(name));
        let origin = match parsed.matches.value_source(id) {
            Some(ValueSource::EnvVariable) => "environment",
            Some(ValueSource::CommandLine) if has => "file",
            Some(ValueSource::CommandLine) => "command line",
            _ => "default",
        };
        let values = parsed.matches.get_raw(id).into_iter().flatten();
        let values: Vec<_> = values.map(|value| value.to_string_lossy().into_owned()).collect();
        let value = match arg.get_action() {
            ArgAction::SetTrue => parsed.matches.get_flag(id).to_string(),
            ArgAction::Count => parsed.matches.get_count(id).to_string(),
            _ => values.join(","),
        };
        let value = if value.is_empty() {
            "(none)"
        } else {
            &without_secrets(&value)
        };
        text += &format!("{name:<24} {value:<24} {origin}\n");
    }
    for listener in &parsed.options.listeners {
        text += &format!("\nlistener {}\n", listener.name);
        for spec in listener.specs().into_iter().flatten() {
            text += &format!("  {}\n", spec.url(None));
        }
        for option in &listener.own {
            let (name, value) = option.split_once('=').unwrap_or((option, "true"));
            let value = without_secrets(value);
            text += &format!("  {:<22} {value:<24} file\n", name.trim_start_matches('-'));
        }
    }
    text
}

fn default_file() -> String {
    let mut text =
        "# Settings of the broker, with their defaults. Options and environment variables win over them.\n".to_owned();
    let mut last = None;
    let command = Options::command();
    for (arg, name) in settings(&command) {
        let heading = arg.get_help_heading();
        if heading != last {
            text += &format!("\n# ---- {} ----\n", heading.unwrap_or("Others"));
            last = heading;
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        text += &format!("\n# {help}\n#{name} = {}\n", default_value(arg));
    }
    text + TABLES
}

const TABLES: &str = "
# ---- Listeners with settings of their own ----

# As many tables as there are such listeners, behind all other settings. With one, the default port is not opened unless
# \"port\" is set above. What a table does not say is as above.
#[[listener]]
#name = \"outside\"                 # in logs; default: transport and port
#transport = \"tls\"               # tcp, tls, ws, wss or unix
#host = \"192.0.2.1\"
#port = 8883                      # for unix: path = \"/run/broker/socket\"
#proxy-protocol = false
#anonymous = false
#acl-file = \"outside.acl\"
#max-packet-size = \"64K\"
";

/// As TOML has it; for what has no default, what could be there.
fn default_value(arg: &Arg) -> String {
    let values: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    match (arg.get_action(), values.first()) {
        (ArgAction::SetTrue, _) => "false".to_owned(),
        (ArgAction::Count, _) => "0".to_owned(),
        (_, Some(value)) if value.parse::<u64>().is_ok() => value.to_string(),
        (_, Some(value)) => format!("{value:?}"),
        (_, None) => {
            let names = arg.get_value_names().unwrap_or_default();
            format!("\"{}\"", names.first().map_or("...", |name| name.as_str()))
        }
    }
}
