//! The log, on standard error: what is in it, which can be changed while the broker runs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt as lines, reload};

use super::options::{LogFormat, Options};

/// What is logged: a level, and levels of single modules.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    text: String,
    targets: Targets,
}

/// What is not named is logged at this level.
const USUAL: LevelFilter = LevelFilter::INFO;
const LEVELS: &str = "off, error, warn, info, debug or trace";
/// Characters of the longest filter.
const LONGEST: usize = 4096;

impl FromStr for Filter {
    type Err = String;

    /// `LEVEL` and `MODULE=LEVEL`, with commas between them. A name that is no level is an error, and not a module that
    /// is logged at every level.
    fn from_str(text: &str) -> Result<Filter, String> {
        if text.len() > LONGEST {
            return Err(format!("more than {LONGEST} characters"));
        }
        let (mut usual, mut targets) = (None, Targets::new());
        for directive in text.split(',') {
            match directive.trim().split_once('=') {
                Some((module, level)) => {
                    check_module(module)?;
                    targets = targets.with_target(module, self::level(level)?);
                }
                None if usual.is_some() => return Err("there are two levels without a module".to_owned()),
                None => usual = Some(level(directive.trim())?),
            }
        }
        Ok(Filter {
            text: text.to_owned(),
            targets: targets.with_default(usual.unwrap_or(USUAL)),
        })
    }
}

impl From<Level> for Filter {
    fn from(level: Level) -> Filter {
        Filter {
            text: level.as_str().to_ascii_lowercase(),
            targets: Targets::new().with_default(level),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn level(text: &str) -> Result<LevelFilter, String> {
    let names = ["off", "error", "warn", "info", "debug", "trace"];
    let known = names.iter().any(|name| text.eq_ignore_ascii_case(name));
    let parsed = text.parse().ok().filter(|_| known);
    parsed.ok_or_else(|| format!("{text:?} is no level: {LEVELS}, or MODULE=LEVEL"))
}

fn check_module(text: &str) -> Result<(), String> {
    let is_of_a_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    match !text.is_empty() && text.chars().all(is_of_a_path) {
        true => Ok(()),
        false => Err(format!("{text:?} is no module, such as mqtt_broker::access")),
    }
}

/// The log of the process.
#[derive(Clone, Debug)]
pub(super) struct Log {
    handle: reload::Handle<Targets, Registry>,
    text: Arc<Mutex<String>>,
}

impl Log {
    /// Logs by this filter from now on.
    pub(super) fn set(&self, filter: Filter) {
        let mut text = self.text.lock();
        if *text == filter.text {
            return;
        }
        // It fails when the process has no log any more.
        if self.handle.reload(filter.targets).is_ok() {
            *text = filter.text;
            tracing::info!(level = *text, "log level changed");
        }
    }

    /// The filter in force.
    pub(super) fn level(&self) -> String {
        self.text.lock().clone()
    }
}

/// Sets up the log for the process.
pub(super) fn start(options: &Options) -> Log {
    let filter = options.log_filter();
    let (targets, handle) = reload::Layer::new(filter.targets);
    let log = tracing_subscriber::registry().with(targets);
    let lines = lines::layer().with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            log.with(lines.with_target(false).with_ansi(is_terminal)).init();
        }
        LogFormat::Json => log.with(lines.json().flatten_event(true)).init(),
    }
    Log {
        handle,
        text: Arc::new(Mutex::new(filter.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_a_level_and_levels_of_modules() {
        let filter: Filter = "warn,mqtt_broker::access=DEBUG,mqtt_broker::trace=off"
            .parse()
            .expect("is right");
        let logs = |module, level: Level| filter.targets.would_enable(module, &level);
        assert!(logs("mqtt_broker::broker", Level::WARN) && !logs("mqtt_broker::broker", Level::INFO));
        assert!(logs("mqtt_broker::access::passwords", Level::DEBUG) && !logs("mqtt_broker::trace", Level::ERROR));
        let filter: Filter = "mqtt_broker::access=debug".parse().expect("is right");
        assert!(filter.targets.would_enable("mqtt_broker::broker", &Level::INFO));
    }

    #[test]
    fn what_is_no_level_is_an_error() {
        for text in [
            "",
            "verbose",
            "info,",
            "info,debug",
            "a=",
            "=info",
            "a=b",
            "a b=info",
            "a[b]=info",
            "3",
            "a=3",
        ] {
            assert!(text.parse::<Filter>().is_err(), "{text:?}");
        }
    }
}
