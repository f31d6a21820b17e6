//! The command line.

use std::path::PathBuf;

use crate::broker::Backend;
use crate::fault::Fault;

pub const HELP: &str = "\
Usage: tests/kill/run --backend NAME [OPTION]...
       tests/kill/run --check FILE

Kills the broker under load, lets the clients resume, and checks what they saw.

  --backend NAME   memory, disk-fsync, disk-os, redis (a redis-server of its own), or mosquitto
  --rounds N       how many rounds; 8
  --seed N         the seed of the first round, the next one has the next; 1
  --faults A,B,…   instead of the usual ones of the backend: kill, kill-twice, kill-starting, stop-kill, stop, term,
                   store-kill, both-kill, cut
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
    pub faults: Vec<Fault>,
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
            faults: Vec::new(),
            log: None,
            keep: "tests/.cache/kill".into(),
            keep_all: false,
            until_failure: false,
            note: None,
            program: PathBuf::new(),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match &**word {
                "--help" | "-h" => return Ok(Task::Help),
                "--check" => return Ok(Task::Check(value()?.into())),
                "--backend" => backend = Some(named_backend(value()?)?),
                "--rounds" => options.rounds = number(value()?)?,
                "--seed" => options.seed = number(value()?)?,
                "--faults" => options.faults = faults(value()?)?,
                "--log" => options.log = Some(value()?.into()),
                "--keep" => options.keep = value()?.into(),
                "--keep-all" => options.keep_all = true,
                "--until-failure" => options.until_failure = true,
                "--note" => options.note = Some(value()?.clone()),
                _ => return Err(format!("unknown option {word}; see --help")),
            }
        }
        options.backend = backend.ok_or("--backend is missing; see --help")?;
        if options.faults.is_empty() {
            options.faults = Fault::usual(options.backend);
        }
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

fn faults(names: &str) -> Result<Vec<Fault>, String> {
    let fault = |name| Fault::named(name).ok_or_else(|| format!("unknown fault {name}; see --help"));
    names.split(',').map(fault).collect()
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}
