//! The command line of `broker`.

mod access;
mod again;
mod authentication;
mod config_command;
mod config_file;
mod files_limit;
mod generate;
mod healthcheck;
mod http;
mod listener_table;
mod listening;
mod logging;
mod memory;
mod options;
mod persistence;
mod rates;
mod reload;
mod running;
mod store_command;
mod systemd;
mod values;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Broker;
use crate::cmd::{acl, bench, ctl, passwd, publish, subscribe};
use crate::store::legacy::Legacies;
use logging::Log;
use options::{Command, Options};
use reload::Reload;
use running::{Held, Plan, Running};

/// Runs the broker as the arguments and the environment say, until it is told to end.
///
/// Exit code 0 after an orderly end, 1 if the broker can't start, 2 for a wrong command line.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let options = Options::parse(arguments.clone());
    if let Some(command) = &options.command {
        let done = match command {
            Command::Bench(bench) => bench::run(bench),
            Command::Ctl(ctl) => ctl::run(ctl),
            Command::Passwd(passwd) => passwd::run(passwd),
            Command::Acl(command) => acl::run(command),
            Command::Config(config) => config_command::run(config),
            // Their exit codes say more.
            Command::Publish(options) => return publish::run(options),
            Command::Subscribe(options) => return subscribe::run(options),
            Command::Store(command) => return store_command::run(command),
            Command::Healthcheck(options) => healthcheck::run(options),
            Command::Completions(options) => generate::completions(options),
            Command::Manual(options) => generate::manual(options),
        };
        return done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS);
    }
    let log = logging::start(&options);
    options.warn_about_environment();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = options.threads {
        runtime.worker_threads(threads);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("can't start the runtime: {error}")),
    };
    let again = arguments.clone().into_iter().skip(1);
    let legacies = Legacies::default();
    if options.persistence.is_node() {
        again::inherit(&legacies);
    }
    let served = runtime.block_on(serve(&options, arguments, log, &legacies));
    // A reload whose files hang is not waited for.
    runtime.shutdown_timeout(LAST_WORK_TIME);
    match served {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::Lost(error)) if options.persistence.is_node() => again::start_again(&error, again, &legacies),
        Ok(Ended::Lost(error)) | Err(error) => fail(&error),
    }
}

/// How serving has ended.
enum Ended {
    Stopped,
    /// The store is not for this process any more.
    Lost(String),
}

/// Time at the end for what still runs.
const LAST_WORK_TIME: Duration = Duration::from_millis(500);

fn fail(error: &str) -> ExitCode {
    eprintln!("broker: {error}");
    ExitCode::FAILURE
}

async fn serve(options: &Options, arguments: Vec<OsString>, log: Log, legacies: &Legacies) -> Result<Ended, String> {
    let plan = Plan::make(options, &Held::default())?;
    let no_signals = |error| format!("can't listen for signals: {error}");
    let mut signals = Signals::listen().map_err(no_signals)?;
    // Before anybody is told that the broker is there: until now SIGHUP would end it.
    let mut hangups = signal(SignalKind::hangup()).map_err(no_signals)?;
    let begins_again = !legacies.is_empty();
    if begins_again {
        // What has begun again in the same process is ready as systemd sees it, and may have to wait for others now.
        tokio::spawn(systemd::watchdog());
    }
    let Some((plan, broker)) = start_broker(plan, options, &mut signals, legacies).await? else {
        return Ok(Ended::Stopped);
    };
    tokio::select! {
        () = broker.until_settled() => {}
        error = broker.store_lost() => return Ok(Ended::Lost(error.to_string())),
        name = signals.next() => {
            tracing::info!("{name}: ending before the start");
            return Ok(Ended::Stopped);
        }
    }
    plan.announce()?;
    let lost = broker.clone();
    let mut running = Running::start(broker, plan, log);
    let mut reload = Reload::new(arguments, options);
    if !begins_again {
        tokio::spawn(systemd::watchdog());
    }
    systemd::ready();
    let ended = loop {
        tokio::select! {
            name = signals.next() => {
                tracing::info!("{name}: shutting down");
                break Ok(Ended::Stopped);
            }
            _ = hangups.recv() => {
                systemd::reloading();
                reload.ask(&running);
            }
            planned = reload.planned() => {
                reload.finish(planned, &mut running);
                if !reload.is_under_way() {
                    systemd::ready();
                }
            }
            reason = running.failure() => break Err(reason),
            error = lost.store_lost() => break Ok(Ended::Lost(error.to_string())),
        }
    };
    running.close_listeners();
    let ended = ended?;
    if matches!(ended, Ended::Lost(_)) {
        return Ok(ended);
    }
    // Wills and connections have this time each.
    systemd::stopping(options.config().drain_timeout * 2);
    tokio::select! {
        () = running.broker.shutdown() => tracing::info!("shut down"),
        name = signals.next() => tracing::warn!("{name} again: ending at once"),
    }
    Ok(ended)
}

/// Opens the store, which may take its time, and starts the broker; `None` if a signal comes before that is done.
async fn start_broker(
    plan: Plan,
    options: &Options,
    signals: &mut Signals,
    legacies: &Legacies,
) -> Result<Option<(Plan, Broker)>, String> {
    let mut persistence = options.persistence.settings()?;
    persistence.inherit(legacies);
    let legacies = legacies.clone();
    let starting = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let broker = loop {
            match plan.start_broker(persistence.clone()) {
                // Whoever starts another process does not have what this one knows.
                Err(error) if !legacies.is_empty() && begun.elapsed() < LONGEST_START => {
                    tracing::warn!("can't start yet: {error}");
                    std::thread::sleep(BETWEEN_STARTS);
                }
                started => break started?,
            }
        };
        Ok((plan, broker))
    });
    tokio::select! {
        started = starting => match started {
            Ok(started) => started.map(Some),
            Err(_) => Err("it can't start, by a fault of the broker".to_owned()),
        },
        name = signals.next() => {
            tracing::info!("{name}: ending before the start");
            Ok(None)
        }
    }
}

/// How long a node that begins again tries to, if Redis has lost what the one before knows.
const LONGEST_START: Duration = Duration::from_secs(60);
const BETWEEN_STARTS: Duration = Duration::from_millis(500);

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
