//! SIGHUP: the settings are read again, and put into force if all of them are right.

use std::ffi::OsString;

use tokio::task::JoinHandle;

use super::options::{Fault, Fixed, Options, Parsed};
use super::running::{Plan, Running};

/// What is under way. One at a time: signals that arrive meanwhile are one more.
pub(super) struct Reload {
    /// Of the command line.
    arguments: Vec<OsString>,
    /// What can't change while the broker runs, as it was at the start.
    fixed: Fixed,
    planning: Option<JoinHandle<Result<Ready, String>>>,
    again: bool,
}

/// Settings that are right.
struct Ready {
    options: Options,
    plan: Plan,
}

/// A plan, or why there is none.
pub(super) struct Planned(Result<Ready, String>);

impl Reload {
    pub(super) fn new(arguments: Vec<OsString>, options: &Options) -> Reload {
        Reload {
            arguments,
            fixed: options.fixed(),
            planning: None,
            again: false,
        }
    }

    /// Begins to read everything again, off the worker threads: file systems may hang.
    pub(super) fn ask(&mut self, running: &Running) {
        if self.planning.is_some() {
            self.again = true;
            return;
        }
        let (arguments, held) = (self.arguments.clone(), running.held());
        self.planning = Some(tokio::task::spawn_blocking(move || {
            let options = parse(arguments)?;
            let plan = Plan::make(&options, &held)?;
            Ok(Ready { options, plan })
        }));
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.planning.is_some()
    }

    /// Waits for the plan; for ever if none is under way. May be dropped and called again.
    pub(super) async fn planned(&mut self) -> Planned {
        let Some(planning) = &mut self.planning else {
            return std::future::pending().await;
        };
        let planned = planning.await;
        self.planning = None;
        Planned(planned.unwrap_or_else(|_| Err("this is a fault of the broker".to_owned())))
    }

    /// Puts the plan into force.
    pub(super) fn finish(&mut self, planned: Planned, running: &mut Running) {
        match planned.0 {
            Ok(Ready { options, plan }) => {
                let announced = plan.announce();
                running.apply(plan);
                self.warn_about_restart(&options);
                tracing::info!("settings, users, access lists and certificates reloaded");
                if let Err(error) = announced {
                    tracing::warn!("{error}");
                }
            }
            Err(error) => tracing::error!(%error, "not reloaded: the old settings stay in force"),
        }
        if std::mem::take(&mut self.again) {
            self.ask(running);
        }
    }

    fn warn_about_restart(&self, options: &Options) {
        for ((setting, before), (_, now)) in self.fixed.iter().zip(options.fixed()) {
            if *before != now {
                tracing::warn!(setting, "has changed: the broker needs a restart for that");
            }
        }
    }
}

fn parse(arguments: Vec<OsString>) -> Result<Options, String> {
    let parsed = Parsed::new(arguments).map_err(|fault| match fault {
        Fault::Parser(error) => super::config_file::reason(&error),
        Fault::File(reason) => reason,
    })?;
    Ok(parsed.options)
}
