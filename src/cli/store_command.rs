//! `broker store`: which store is meant, and what is to be done with it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::options::{Fault, Parsed};
use super::persistence::RedisAccess;
use crate::cmd::store::{self, Checked};
use crate::{DiskSettings, Persistence};

/// Looks into stores, and moves what is in one to another.
///
/// No broker may have a store on disk open meanwhile. Without a directory or a URL it is the store that the environment and the configuration file describe, as in a
/// container.
#[derive(Clone, Debug, Args)]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Reads everything, and tells what is damaged; exit code 0 (nothing), 1 (something) or 2 (it can't be read now)
    Check {
        #[command(flatten)]
        place: Place,
    },
    /// Looks whether all that is in Redis belongs together, also while a broker runs; exit codes as those of check
    Doctor {
        #[command(flatten)]
        place: Place,
    },
    /// Tells how much there is
    Stats {
        #[command(flatten)]
        place: Place,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Writes everything as lines of JSON
    Export {
        #[command(flatten)]
        place: Place,
        /// The new file, which must not be there yet [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Puts what `export` has written into a store that is empty: all of it or nothing
    Import {
        /// The file that was exported
        file: PathBuf,
        #[command(flatten)]
        place: Place,
        /// Remove what is in the store before
        #[arg(long)]
        replace: bool,
    },
}

/// Where the store is.
#[derive(Clone, Debug, Args)]
struct Place {
    /// Directory of a store on disk
    #[arg(conflicts_with = "redis")]
    dir: Option<PathBuf>,
    /// URL of a store in Redis
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    #[command(flatten)]
    access: RedisAccess,
}

/// Does what the command says.
pub(super) fn run(command: &StoreCommand) -> ExitCode {
    let done = match &command.action {
        Action::Check { place } => return check(place),
        Action::Doctor { place } => return doctor(place),
        Action::Stats { place, json } => place.find().and_then(|at| store::stats(&at, *json)),
        Action::Export { place, output } => place.find().and_then(|at| store::export(&at, output.as_deref())),
        Action::Import { file, place, replace } => place.find().and_then(|at| store::import(file, &at, *replace)),
    };
    done.map_or_else(|error| super::fail(&error), |()| ExitCode::SUCCESS)
}

fn check(place: &Place) -> ExitCode {
    match place.find().and_then(|at| store::check(&at)) {
        Ok(Checked::Clean(totals)) => say(&format!("clean: {totals}")),
        Ok(Checked::Damaged(faults)) => {
            let _ = say(&faults.join("\n"));
            super::fail("the store is damaged")
        }
        Err(error) => {
            super::fail(&error);
            ExitCode::from(2)
        }
    }
}

fn doctor(place: &Place) -> ExitCode {
    match place.find().and_then(|at| store::doctor(&at)) {
        Ok((checked, report)) => {
            let said = say(&report);
            match checked {
                Checked::Clean(_) => said,
                Checked::Damaged(_) => super::fail("the store is damaged"),
            }
        }
        Err(error) => {
            super::fail(&error);
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) -> ExitCode {
    let written = writeln!(io::stdout(), "{text}");
    written.map_or_else(
        |error| super::fail(&format!("can't write to standard output: {error}")),
        |()| ExitCode::SUCCESS,
    )
}

impl Place {
    fn find(&self) -> Result<Persistence, String> {
        match (&self.dir, &self.redis) {
            (Some(dir), _) => Ok(Persistence::Disk(DiskSettings::new(dir))),
            (None, Some(url)) => self.access.settings(url).map(Persistence::Redis),
            (None, None) => configured(),
        }
    }
}

/// The store of a broker that is started with this environment.
fn configured() -> Result<Persistence, String> {
    let parsed = Parsed::new(vec![OsString::from("broker")]).map_err(|fault| match fault {
        Fault::Parser(error) => super::config_file::reason(&error),
        Fault::File(reason) => reason,
    })?;
    parsed.options.persistence.settings()
}
