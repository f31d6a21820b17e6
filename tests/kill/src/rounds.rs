//! Runs rounds, tells how they went, and keeps those that fail.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use crate::check::{self, Violation};
use crate::cluster;
use crate::event;
use crate::fault::Chosen;
use crate::options::Options;
use crate::random::Random;
use crate::round;
use crate::stage::Report;

/// A round counts only if so many messages were not acknowledged at the fault.
const OUTSTANDING: usize = 100;
/// How often a round is tried that does not count.
const TRIES: usize = 5;
/// How many violations are printed.
const PRINTED: usize = 12;

/// Runs all rounds; whether none has failed.
pub fn run(options: &Options) -> Result<bool, String> {
    let mut failed = 0;
    if options.races > 0 && !cluster::race::run(options, options.races)? {
        failed += 1;
    }
    if options.crowd > 0 && !cluster::crowd::run(options, options.crowd)? {
        failed += 1;
    }
    for seed in options.seed..options.seed + options.rounds {
        let is_right = one(options, seed)?;
        failed += u64::from(!is_right);
        if failed > 0 && options.until_failure {
            break;
        }
    }
    Ok(failed == 0)
}

/// Checks the events of a round that was kept.
pub fn check_file(file: &Path) -> Result<bool, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let violations = check::check(&event::parse(&text)?);
    violations.iter().for_each(|violation| println!("{violation}"));
    println!("{} violations", violations.len());
    Ok(violations.is_empty())
}

/// Runs one round until it counts; whether it is right.
fn one(options: &Options, seed: u64) -> Result<bool, String> {
    let fault = options.faults.choose(&mut Random::new(seed));
    let dir = options.keep.join(format!("{}-{seed}", options.backend.name()));
    for _ in 0..TRIES {
        let _ = fs::remove_dir_all(&dir);
        let start = Instant::now();
        let attempt = || match &fault {
            Chosen::One(fault) => round::run(options.backend, &options.program, &dir, *fault, seed),
            Chosen::Cluster(blows) => cluster::round::run(options.setup, &options.program, &dir, blows, seed),
        };
        let outcome = catch_unwind(AssertUnwindSafe(attempt));
        let report = match outcome {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => return fail(options, seed, &fault, &error),
            Err(_) => {
                return fail(
                    options,
                    seed,
                    &fault,
                    "the broker has sent something malformed, see above",
                );
            }
        };
        if report.outstanding < OUTSTANDING && report.violations.is_empty() {
            continue;
        }
        let verdict = verdict(&report.violations);
        tell(options, seed, &fault, &report, &verdict, start.elapsed().as_secs_f64())?;
        let is_right = report.violations.is_empty();
        if is_right && !options.keep_all {
            fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
            return Ok(true);
        }
        return keep(&dir, &report).map(|()| is_right);
    }
    fail(
        options,
        seed,
        &fault,
        &format!("never were {OUTSTANDING} messages outstanding"),
    )
}

fn tell(
    options: &Options,
    seed: u64,
    fault: &Chosen,
    report: &Report,
    verdict: &str,
    seconds: f64,
) -> Result<(), String> {
    let (backend, fault) = (options.backend.name(), fault.name());
    let facts = format!(
        "acked={} delivered={} outstanding={} unanswered={} restart_ms={}",
        report.acked,
        report.delivered,
        report.outstanding,
        report.unanswered,
        report.restart.as_millis()
    );
    let word = if verdict == "ok" { "ok" } else { "not ok" };
    println!("{word} {backend} seed {seed}: {fault}, {facts} ({seconds:.1} s)");
    append(
        options,
        &format!("backend={backend} seed={seed} fault={fault} {facts} verdict={verdict}"),
    )
}

fn fail(options: &Options, seed: u64, fault: &Chosen, error: &str) -> Result<bool, String> {
    let (backend, fault) = (options.backend.name(), fault.name());
    println!("not ok {backend} seed {seed}: {fault}: {error}");
    append(
        options,
        &format!("backend={backend} seed={seed} fault={fault} verdict=error"),
    )?;
    Ok(false)
}

fn append(options: &Options, line: &str) -> Result<(), String> {
    let Some(path) = &options.log else {
        return Ok(());
    };
    let note = options
        .note
        .as_ref()
        .map_or(String::new(), |note| format!(" note={note}"));
    let file = fs::File::options().append(true).create(true).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{line}{note}"));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

/// `ok`, or how often each rule was broken.
fn verdict(violations: &[Violation]) -> String {
    let mut counts = BTreeMap::<_, usize>::new();
    for violation in violations {
        *counts.entry(violation.rule).or_default() += 1;
    }
    let words: Vec<String> = counts
        .iter()
        .map(|(rule, count)| format!("{}:{count}", rule.name()))
        .collect();
    if words.is_empty() {
        "ok".to_owned()
    } else {
        words.join(",")
    }
}

/// Writes what was seen beside the logs and the data of the broker, and says what is wrong.
fn keep(dir: &Path, report: &Report) -> Result<(), String> {
    let lines = |items: Vec<String>| items.join("\n") + "\n";
    let violations: Vec<String> = report.violations.iter().map(Violation::to_string).collect();
    for violation in violations.iter().take(PRINTED) {
        println!("    {violation}");
    }
    println!("    {} violations; all are in {}", violations.len(), dir.display());
    let events = report.events.iter().map(ToString::to_string).collect();
    let written = fs::write(dir.join("events"), lines(events));
    written
        .and_then(|()| fs::write(dir.join("violations"), lines(violations)))
        .map_err(|error| error.to_string())
}
