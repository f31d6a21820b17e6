//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::broker::Backend;
use crate::cluster::Setup;
use crate::fault::Faults;

pub const HELP: &str = "\
Usage: tests/kill/run --backend NAME [OPTION]...
       tests/kill/run --check FILE

Kills the broker under load, lets the clients resume, and checks what they saw.

  --backend NAME   memory, disk-fsync, disk-os, redis (a redis-server of its own), mosquitto, or cluster
  --rounds N       how many rounds; 8
  --seed N         the seed of the first round, the next one has the next; 1
  --faults A,B,…   instead of the usual ones of the backend: kill, kill-twice, kill-starting, stop-kill, stop, term,
                   store-kill, both-kill, cut. With cluster: kill, freeze, freeze-short, cut, cut-short, hold,
                   hold-short, mute, late, store-kill, term, roll, lose, and several at once, as in kill+mute
  --loses          instead of the usual faults of a cluster: Redis loses writes that it has confirmed, in every other round
                   while something else happens, too
  --nodes N        of a cluster; 3
  --lease S        of a cluster, in seconds; 1
  --haproxy        clients reach the cluster through HAProxy
  --race N         before the rounds, N times two clients with one identifier connect to the cluster at once
  --crowd N        before the rounds, the node of N clients is killed, and the others must serve them all soon
  --log FILE       append a line for each round
  --keep DIR       rounds run below this directory, and those that fail stay there; tests/.cache/kill
  --keep-all       keep the rounds that are right, too
  --until-failure  end after the first round that fails
  --note TEXT      put this into each line of the log
  --check FILE     check the events of a round that was kept

The environment variable BROKER_BIN names the broker; tests/kill/run builds one if it is not set.";

pub struct Options {
    pub backend: Backend,
    pub rounds: u64,
    pub seed: u64,
    pub faults: Faults,
    pub setup: Setup,
    /// How often clients race for an identifier.
    pub races: u64,
    /// How many clients lose their node at once.
    pub crowd: usize,
    pub log: Option<PathBuf>,
    pub keep: PathBuf,
    pub keep_all: bool,
    pub until_failure: bool,
    pub note: Option<String>,
    pub program: PathBuf,
}

pub enum Task {
    Run(Options),
    Check(PathBuf),
    Help,
}

impl Options {
    pub fn read(arguments: &[String]) -> Result<Task, String> {
        let mut backend = None;
        let mut options = Options {
            backend: Backend::Memory,
            rounds: 8,
            seed: 1,
            faults: Faults::One(Vec::new()),
            setup: Setup {
                nodes: 3,
                lease: Duration::from_secs(1),
                haproxy: false,
            },
            races: 0,
            crowd: 0,
            log: None,
            keep: "tests/.cache/kill".into(),
            keep_all: false,
            until_failure: false,
            note: None,
            program: PathBuf::new(),
        };
        let (mut faults, mut loses) = (Vec::new(), false);
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match &**word {
                "--help" | "-h" => return Ok(Task::Help),
                "--check" => return Ok(Task::Check(value()?.into())),
                "--backend" => backend = Some(named_backend(value()?)?),
                "--rounds" => options.rounds = number(value()?)?,
                "--seed" => options.seed = number(value()?)?,
                "--faults" => faults = value()?.split(',').map(str::to_owned).collect(),
                "--loses" => loses = true,
                "--nodes" => options.setup.nodes = number(value()?)?,
                "--lease" => options.setup.lease = seconds(value()?)?,
                "--haproxy" => options.setup.haproxy = true,
                "--race" => options.races = number(value()?)?,
                "--crowd" => options.crowd = number(value()?)?,
                "--log" => options.log = Some(value()?.into()),
                "--keep" => options.keep = value()?.into(),
                "--keep-all" => options.keep_all = true,
                "--until-failure" => options.until_failure = true,
                "--note" => options.note = Some(value()?.clone()),
                _ => return Err(format!("unknown option {word}; see --help")),
            }
        }
        options.backend = backend.ok_or("--backend is missing; see --help")?;
        options.faults = match (loses, options.backend.is_cluster(), faults.is_empty()) {
            (false, ..) => Faults::of(options.backend, &faults)?,
            (true, true, true) => Faults::Loss,
            (true, ..) => return Err("--loses is for a cluster, without --faults".into()),
        };
        options.program = program(options.backend)?;
        Ok(Task::Run(options))
    }
}

fn program(backend: Backend) -> Result<PathBuf, String> {
    if backend == Backend::Mosquitto {
        return Ok("mosquitto".into());
    }
    let program = std::env::var_os("BROKER_BIN").ok_or("BROKER_BIN is not set")?;
    Ok(program.into())
}

fn named_backend(name: &str) -> Result<Backend, String> {
    let found = Backend::ALL.iter().find(|(_, other)| *other == name);
    found
        .map(|(backend, _)| *backend)
        .ok_or_else(|| format!("unknown backend {name}; see --help"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("{text:?} is no time"))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}
