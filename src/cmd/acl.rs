//! `broker acl`: what an access list says.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::access::acl::{Acl, Verdict, Who};
use crate::access::{WideSubscriptions, read_acl};
use crate::topic::{self, TopicFilter};

/// Looks at access lists.
#[derive(Clone, Debug, Args)]
pub(crate) struct AclCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Tells whether something is allowed, and by which line; exit code 0 or 1
    Check(Check),
}

#[derive(Clone, Debug, Args)]
struct Check {
    /// The access list, in the format of Mosquitto or in TOML
    file: PathBuf,
    /// What the client does
    what: What,
    /// The topic that it publishes to, or the topic filter that it subscribes to
    topic: String,
    /// Its user name [default: none, it is anonymous]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Its client identifier
    #[arg(long, value_name = "IDENTIFIER", default_value = "")]
    client_id: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    Publish,
    Subscribe,
}

/// Does what the command says.
pub(crate) fn run(command: &AclCommand) -> Result<(), String> {
    let Action::Check(check) = &command.command;
    let acl = read_acl(&check.file).map_err(|error| error.to_string())?;
    let text = std::fs::read_to_string(&check.file).map_err(|error| format!("{}: {error}", check.file.display()))?;
    let answer = answer(check, &acl, &text)?;
    writeln!(io::stdout(), "{answer}").map_err(|error| format!("can't write to standard output: {error}"))
}

/// What is allowed; the error says what is not.
fn answer(check: &Check, acl: &Acl, text: &str) -> Result<String, String> {
    let who = Who {
        username: check.user.as_deref(),
        client_id: &check.client_id,
    };
    let verdict = match check.what {
        What::Publish => {
            topic::check_name(&check.topic).map_err(|error| error.to_string())?;
            if check.topic == "$SYS" || check.topic.starts_with("$SYS/") {
                return Err("denied: $SYS belongs to the broker".to_owned());
            }
            acl.write_verdict(&who, &check.topic)
        }
        What::Subscribe => {
            let filter = TopicFilter::parse(&check.topic).map_err(|error| error.to_string())?;
            acl.subscribe_verdict(&who, filter.filter())
        }
    };
    let line = |number: usize| {
        let line = text.lines().nth(number - 1).unwrap_or_default().trim();
        format!("line {number}: {line}")
    };
    let reason = match verdict {
        Verdict::Allowed(number) => return Ok(format!("allowed by {}", line(number))),
        Verdict::Denied(number) => format!("by {}", line(number)),
        Verdict::NotAllowed => "no line allows it".to_owned(),
    };
    match (check.what, acl.wide_subscriptions()) {
        (What::Subscribe, WideSubscriptions::Filter) => Ok(format!(
            "granted, and each message is checked: not all of it is allowed ({reason}); --acl-subscribe deny refuses it"
        )),
        _ => Err(format!("denied {reason}").replace("denied no", "denied: no")),
    }
}

#[cfg(test)]
mod tests;
