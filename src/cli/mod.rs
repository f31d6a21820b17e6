//! The command line of `broker`.

mod logging;
mod options;
mod values;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::cmd::bench;
use crate::{Broker, Config};
use options::{Command, Options};

/// Runs the broker as the arguments and the environment say, until it is told to end.
///
/// Exit code 0 after an orderly end, 1 if the broker can't start, 2 for a wrong command line.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = Options::parse(arguments);
    if let Some(Command::Bench(bench)) = &options.command {
        return bench::run(bench).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS);
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
    let listeners = bind_all(options)?;
    let mut signals = Signals::listen().map_err(|error| format!("can't listen for signals: {error}"))?;
    announce(&listeners, &config)?;
    let broker = Broker::start(config);
    let mut failed = tokio::task::JoinSet::new();
    for listener in listeners {
        let broker = broker.clone();
        failed.spawn(async move { broker.serve(listener).await });
    }
    tokio::select! {
        name = signals.next() => tracing::info!("{name}: shutting down"),
        Some(Ok(Err(error))) = failed.join_next() => return Err(format!("a listener failed: {error}")),
    }
    tokio::select! {
        () = broker.shutdown() => tracing::info!("shut down"),
        name = signals.next() => tracing::warn!("{name} again: ending at once"),
    }
    Ok(())
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
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

fn bind_all(options: &Options) -> Result<Vec<TcpListener>, String> {
    let addresses = options.addresses()?;
    let mut listeners = Vec::new();
    for address in &addresses {
        let listener = bind(*address).map_err(|error| explain_bind(*address, &error))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Connections that the kernel may hold for us until they are accepted.
const BACKLOG: i32 = 4096;

/// Binds with address reuse, so that a restart does not wait for old connections to be forgotten. The IPv6 wildcard
/// address also takes IPv4.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn explain_bind(address: SocketAddr, error: &io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another program".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need more rights; choose another with --port".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    };
    format!("can't listen on {address}: {reason}")
}

fn announce(listeners: &[TcpListener], config: &Config) -> Result<(), String> {
    let mut open = false;
    for listener in listeners {
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        writeln!(io::stdout(), "listening on mqtt://{address}")
            .map_err(|error| format!("can't write to standard output: {error}"))?;
        open |= !address.ip().is_loopback();
    }
    tracing::debug!(max_connections = config.max_connections, "limits in force");
    if open {
        tracing::warn!(
            "anonymous access is open to every host that can reach this address (--host 127.0.0.1 keeps it to this machine)"
        );
    }
    Ok(())
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
