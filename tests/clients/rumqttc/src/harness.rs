//! The broker under test and the case runner; the counterpart of `harness.py`, with the same output.

use std::any::Any;
use std::fs::File;
use std::future::Future;
use std::io::{Read, Seek, SeekFrom};
use std::pin::Pin;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

pub const DEADLINE: Duration = Duration::from_secs(10);
pub const BURST_DEADLINE: Duration = Duration::from_secs(60);

type Run = Box<dyn FnOnce(u16) -> Pin<Box<dyn Future<Output = ()> + Send>>>;

pub struct Case {
    pub name: String,
    run: Run,
}

/// The cases that share one running broker.
pub struct Suite {
    name: String,
    pub cases: Vec<Case>,
}

impl Suite {
    pub fn new(name: String) -> Self {
        Self {
            name,
            cases: Vec::new(),
        }
    }

    /// Adds a case, a function of the broker's port; it fails by a panic.
    pub fn add<F, R>(&mut self, name: &str, run: F)
    where
        F: FnOnce(u16) -> R + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let name = format!("{}: {name}", self.name);
        self.cases.push(Case {
            name,
            run: Box::new(move |port| Box::pin(run(port))),
        });
    }
}

/// Waits for something that has to happen.
pub async fn within<T>(what: &str, deadline: Duration, future: impl Future<Output = T>) -> T {
    match timeout(deadline, future).await {
        Ok(value) => value,
        Err(_) => panic!("no {what} within {deadline:?}"),
    }
}

/// Compares long lists and names the first difference instead of printing thousands of items.
pub fn expect_sequence<T: PartialEq + std::fmt::Debug>(actual: &[T], expected: &[T], what: &str) {
    let same = actual.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let (got, wanted) = (actual.get(same), expected.get(same));
    let lengths = (actual.len(), expected.len());
    assert!(
        actual == expected,
        "{what}: {lengths:?} received and expected, at {same} {got:?} instead of {wanted:?}"
    );
}

/// Runs the suites, each against a broker of its own; the number of cases that failed.
pub async fn run(suites: Vec<Suite>, only: &str) -> usize {
    // The message itself is printed below the name of its case.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(location) = panic.location() {
            println!("    panicked at {location}");
        }
    }));
    let mut failed = 0;
    for Suite { name, mut cases } in suites {
        cases.retain(|case| case.name.contains(only));
        if !cases.is_empty() {
            failed += run_suite(&name, cases).await;
        }
    }
    failed
}

async fn run_suite(name: &str, cases: Vec<Case>) -> usize {
    let started = Instant::now();
    let starting = tokio::spawn(Broker::start()).await;
    let Ok(mut broker) = report(&format!("{name}: the broker starts"), started, starting) else {
        return 1;
    };
    let mut failed = 0;
    for case in cases {
        let started = Instant::now();
        let outcome = tokio::spawn((case.run)(broker.port)).await;
        if report(&case.name, started, outcome).is_err() {
            broker.print_log();
            failed += 1;
        }
    }
    let started = Instant::now();
    let stopped = tokio::spawn(broker.stop()).await;
    let ends = format!("{name}: the broker ends with exit code 0 on SIGTERM");
    failed + usize::from(report(&ends, started, stopped).is_err())
}

fn report<T>(name: &str, started: Instant, outcome: Result<T, tokio::task::JoinError>) -> Result<T, ()> {
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Ok(value) => {
            println!("ok {name} ({seconds:.2} s)");
            Ok(value)
        }
        Err(error) => {
            println!("not ok {name} ({seconds:.2} s)");
            println!("    {}", panic_message(error.into_panic().as_ref()));
            Err(())
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

/// The broker under test, on a port that the kernel chose; killed when dropped.
struct Broker {
    child: Child,
    port: u16,
    log: File,
    // Kept open: a broker that writes a further line must not meet a closed pipe.
    _stdout: BufReader<ChildStdout>,
}

impl Broker {
    async fn start() -> Self {
        let binary = std::env::var("BROKER_BIN").expect("BROKER_BIN names a broker binary; `tests/run` sets it");
        let mut log = log_file();
        let mut child = Command::new(binary)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().expect("a second handle of the log"))
            .kill_on_drop(true)
            .spawn()
            .expect("the broker binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let port = within("line with the port", DEADLINE, read_port(&mut stdout)).await;
        let port = port.unwrap_or_else(|| panic!("the broker ended before it listened: {}", last_lines(&mut log)));
        Self {
            child,
            port,
            log,
            _stdout: stdout,
        }
    }

    /// SIGTERM must drain and exit with code 0.
    async fn stop(mut self) {
        assert!(
            self.child.try_wait().expect("a state").is_none(),
            "the broker ended by itself"
        );
        let pid = self.child.id().expect("a running process") as i32;
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id above 0");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM is sent");
        let status = within("end of the broker", DEADLINE, self.child.wait())
            .await
            .expect("an exit status");
        assert_eq!(status.code(), Some(0), "exit code of the broker after SIGTERM");
    }

    fn print_log(&mut self) {
        for line in last_lines(&mut self.log).lines() {
            println!("    {line}");
        }
    }
}

fn last_lines(log: &mut File) -> String {
    let mut text = String::new();
    log.seek(SeekFrom::Start(0))
        .and_then(|_| log.read_to_string(&mut text))
        .expect("the log is readable");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// A file without a name, so that nothing has to be removed.
fn log_file() -> File {
    let path = std::env::temp_dir().join(format!("rumqttc-scenarios-{}", std::process::id()));
    let file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(&path)
        .expect("a file for the log");
    std::fs::remove_file(path).expect("the name of the log is removed");
    file
}

/// The port that the broker names, or nothing when its output ends before that.
async fn read_port(stdout: &mut BufReader<ChildStdout>) -> Option<u16> {
    loop {
        let mut line = String::new();
        if stdout.read_line(&mut line).await.expect("readable standard output") == 0 {
            return None;
        }
        if let Some(port) = line.trim_end().strip_prefix("listening on mqtt://127.0.0.1:") {
            return Some(port.parse().expect("a port number"));
        }
    }
}
