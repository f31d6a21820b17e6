//! Has `broker store doctor` look at the store of a round.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::check::{Rule, Violation};
use crate::redis::Redis;

pub struct Doctor {
    program: PathBuf,
    url: String,
}

/// Longest time in which nodes finish what has begun, and recover who was killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is said of a cluster in which nothing is left to be done, beside its nodes.
const DONE: [&str; 4] = [
    "dead nodes: {}",
    "messages that have begun: 0",
    "messages that are noted as put into queues: 0",
    "sessions that have left messages: 0",
];

impl Doctor {
    /// One that goes to Redis itself, by no proxy.
    pub fn new(program: &Path, redis: &Redis) -> Doctor {
        Doctor {
            program: program.to_owned(),
            url: redis.url(),
        }
    }

    /// What is wrong now.
    pub fn finds(&self, when: &str) -> Result<Vec<Violation>, String> {
        Ok(faults(&self.look()?, when))
    }

    /// Waits until so many nodes have nothing left to do: what is wrong then.
    pub fn when_all_is_done(&self, nodes: usize) -> Result<Vec<Violation>, String> {
        let start = Instant::now();
        loop {
            let report = self.look()?;
            let undone = undone(&report, nodes);
            let mut found = faults(&report, "with all nodes there");
            match undone {
                Some(undone) if start.elapsed() > PATIENCE => found.push(violation(&undone, "in the end")),
                Some(_) => {
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
                None => {}
            }
            return Ok(found);
        }
    }

    fn look(&self) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        let output = command.args(["store", "doctor", "--redis", &self.url]).output();
        let output = output.map_err(|error| format!("{}: {error}", self.program.display()))?;
        match output.status.code() {
            Some(0 | 1) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            _ => Err(format!("the doctor: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }
}

/// The faults of a report. One that has none says so, or it is none.
fn faults(report: &str, when: &str) -> Vec<Violation> {
    let faults = report.lines().filter_map(|line| line.strip_prefix("fault: "));
    let mut found: Vec<_> = faults.map(|fault| violation(fault, when)).collect();
    if found.is_empty() && !report.lines().any(|line| line == "no faults") {
        found.push(violation(report, when));
    }
    found
}

/// What remains to be done, if something does.
fn undone(report: &str, nodes: usize) -> Option<String> {
    let count = |line: &str| {
        line.trim_matches(['{', '}'])
            .split(',')
            .filter(|part| !part.is_empty())
            .count()
    };
    let living = report.lines().find_map(|line| line.strip_prefix("nodes: "));
    if living.map(count) != Some(nodes) {
        return Some(format!("there are not {nodes} nodes: {living:?}"));
    }
    let missing = DONE
        .into_iter()
        .find(|done| !report.lines().any(|line| line == *done))?;
    Some(format!("it does not say {missing:?}: {report}"))
}

fn violation(text: &str, when: &str) -> Violation {
    Violation {
        rule: Rule::Doctor,
        text: format!("{when}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "incarnation: 7\nnodes: {5, 6}\ndead nodes: {}\nmessages that have begun: 0\n\
                         messages that are noted as put into queues: 0\nsessions that have left messages: 0\nno faults";

    #[test]
    fn a_clean_report_has_no_violation() {
        assert_eq!(faults(CLEAN, "now"), []);
        assert_eq!(undone(CLEAN, 2), None);
    }

    #[test]
    fn what_the_doctor_says_is_a_violation() {
        let damaged = CLEAN.replace("no faults", "fault: k: what. Advice\nfaults: 1");
        assert_eq!(faults(&damaged, "now"), [violation("k: what. Advice", "now")]);
        assert_eq!(faults("", "now").len(), 1);
        assert!(undone(CLEAN, 3).is_some_and(|undone| undone.contains("3 nodes")));
        for (done, other) in [
            ("dead nodes: {}", "dead nodes: {4}"),
            ("begun: 0", "begun: 1"),
            ("queues: 0", "queues: 10"),
            ("left messages: 0", "left messages: 1"),
            ("nodes: {5, 6}", "nodes: {}"),
        ] {
            assert!(undone(&CLEAN.replace(done, other), 2).is_some(), "{other}");
        }
    }
}
