//! The command line of `broker`.

mod access;
mod config_command;
mod config_file;
mod http;
mod listening;
mod logging;
mod options;
mod values;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cmd::{bench, passwd};
use crate::{Access, Broker, Tls};
use options::{Command, Options};

/// Runs the broker as the arguments and the environment say, until it is told to end.
///
/// Exit code 0 after an orderly end, 1 if the broker can't start, 2 for a wrong command line.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = Options::parse(arguments);
    if let Some(command) = &options.command {
        let done = match command {
            Command::Bench(bench) => bench::run(bench),
            Command::Passwd(passwd) => passwd::run(passwd),
            Command::Config(config) => config_command::run(config),
        };
        return done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS);
    }
    logging::start(&options);
    options.warn_about_environment();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = options.threads {
        runtime.worker_threads(threads);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("can't start the runtime: {error}")),
    };
    match runtime.block_on(serve(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("broker: {error}");
    ExitCode::FAILURE
}

async fn serve(options: &Options) -> Result<(), String> {
    let mut config = options.config();
    config.max_connections = connections_that_fit(options.max_connections);
    let access = options.access.load(options.listening.has_certificate_names())?;
    let opened = options.listening.open()?;
    let http = match options.listening.http_address() {
        Some(address) => Some(http::bind(address).await?),
        None => None,
    };
    let no_signals = |error| format!("can't listen for signals: {error}");
    let mut signals = Signals::listen().map_err(no_signals)?;
    // Before anybody is told that the broker is there: until now SIGHUP would end it.
    let hangups = signal(SignalKind::hangup()).map_err(no_signals)?;
    opened.announce(options.access.anonymous(), http.as_ref())?;
    tracing::debug!(max_connections = config.max_connections, "limits in force");
    let broker = Broker::builder().config(config).access(access.clone()).start();
    let mut failed = tokio::task::JoinSet::new();
    for listener in opened.listeners {
        let broker = broker.clone();
        failed.spawn(async move { broker.serve(listener).await });
    }
    // It goes on during the shutdown: it is what /readyz is for.
    let serving = http.map(|listener| tokio::spawn(http::serve(listener, broker.clone())));
    let reloading = tokio::spawn(reload(hangups, opened.tls, access, broker.clone()));
    let ended = tokio::select! {
        name = signals.next() => {
            tracing::info!("{name}: shutting down");
            Ok(())
        }
        Some(Ok(Err(error))) = failed.join_next() => Err(format!("a listener failed: {error}")),
    };
    reloading.abort();
    // Nobody is accepted any more, and the next broker may want to be there.
    drop(opened.unix_socket);
    ended?;
    tokio::select! {
        () = broker.shutdown() => tracing::info!("shut down"),
        name = signals.next() => tracing::warn!("{name} again: ending at once"),
    }
    serving.into_iter().for_each(|serving| serving.abort());
    Ok(())
}

/// Reloads users, access lists and certificates at SIGHUP, and certificates when they change.
async fn reload(mut hangups: Signal, tls: Option<Tls>, access: Access, broker: Broker) {
    let on_hangup = async {
        while hangups.recv().await.is_some() {
            reload_access(&access, &broker).await;
            if let Some(tls) = &tls {
                tls.reload_and_log().await;
            }
        }
    };
    match tls.clone() {
        Some(tls) => tokio::join!(on_hangup, tls.watch()).0,
        None => on_hangup.await,
    }
}

async fn reload_access(access: &Access, broker: &Broker) {
    let reloaded = access.clone();
    match tokio::task::spawn_blocking(move || reloaded.reload()).await {
        Ok(Ok(())) => {
            broker.recheck();
            tracing::info!("users and access list reloaded");
        }
        Ok(Err(error)) => tracing::error!(%error, "users and access list not reloaded: the old ones stay in force"),
        Err(error) => tracing::error!(%error, "users and access list not reloaded: this is a fault of the broker"),
    }
}

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

/// File descriptors that are not for connections in service: the broker's own, and those of connections that are told
/// that there are too many.
fn reserved_files(limit: u64) -> u64 {
    (limit / 4).clamp(16, 320)
}

/// Raises the limit of open files as far as it goes, and keeps the connections within it: a connection is refused in
/// words rather than by a failing system call.
fn connections_that_fit(wanted: Option<usize>) -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    let fit = limit.current.map_or(usize::MAX, |files| {
        files.saturating_sub(reserved_files(files)).max(1) as usize
    });
    match wanted {
        Some(wanted) if wanted > fit => {
            tracing::warn!(
                wanted,
                fit,
                "the limit of open files allows fewer connections (ulimit -n)"
            );
            fit
        }
        Some(wanted) => wanted,
        None => fit,
    }
}
