//! `broker bench`: a load generator for any MQTT broker.

mod account;
mod bulk;
mod clients;
mod conn;
mod flow;
mod histogram;
mod net;
mod offline;
mod options;
mod plan;
mod process;
mod report;
mod retained;
mod socket;
mod traffic;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Write;
use std::time::Duration;

pub(crate) use options::Bench;
use options::{Common, Shape};
use plan::Plan;
use process::Process;
use report::Report;

/// Runs the load, and prints its figures.
///
/// # Errors
/// If the broker can't be reached, or does what no broker should. Lost messages are an error, too.
pub(crate) fn run(bench: &Bench) -> Result<(), String> {
    let prefix = prefix(std::process::id());
    let (common, outcome) = match &bench.shape {
        Shape::P2p { pairs, traffic } | Shape::Latency { pairs, traffic } => (
            &traffic.common,
            flow::run(bench.name(), &prefix, &Plan::p2p(&prefix, *pairs as usize), traffic)?,
        ),
        Shape::Fanout { subscribers, traffic } => {
            let plan = Plan::fan_out(&prefix, *subscribers as usize);
            (&traffic.common, flow::run(bench.name(), &prefix, &plan, traffic)?)
        }
        Shape::Fanin { publishers, traffic } => {
            let plan = Plan::fan_in(&prefix, *publishers as usize);
            (&traffic.common, flow::run(bench.name(), &prefix, &plan, traffic)?)
        }
        Shape::Shared {
            publishers,
            members,
            traffic,
        } => {
            let plan = Plan::shared(&prefix, *publishers as usize, *members as usize);
            (&traffic.common, flow::run(bench.name(), &prefix, &plan, traffic)?)
        }
        Shape::Match {
            publishers,
            topics,
            filters,
            traffic,
        } => {
            let plan = Plan::matching(&prefix, *publishers as usize, *topics as usize, *filters as usize);
            (&traffic.common, flow::run(bench.name(), &prefix, &plan, traffic)?)
        }
        Shape::Conn {
            clients,
            subscribe,
            subscriptions,
            persistent,
            common,
        } => {
            let each = if *subscribe { 1 } else { *subscriptions };
            let clients = conn::Clients {
                count: *clients as usize,
                subscriptions: each as usize,
                are_persistent: *persistent,
            };
            (common, conn::run(&prefix, &clients, common)?)
        }
        Shape::Retained { topics, common } => (common, retained::run(&prefix, u64::from(*topics), common)?),
        Shape::Offline {
            subscribers,
            messages,
            common,
        } => {
            let messages = u64::from(*messages);
            (common, offline::run(&prefix, *subscribers as usize, messages, common)?)
        }
    };
    print(&outcome.report, common)?;
    outcome.fault.map_or(Ok(()), Err)
}

/// What topics begin with and, with `-`, Client Identifiers: those of two runs differ, also where processes in different
/// containers have the same id. Hexadecimal, so that an identifier has at most 23 bytes: a broker need not accept longer
/// ones (section 3.1.3.1).
fn prefix(process: u32) -> String {
    // Keyed with the system's randomness.
    let random = RandomState::new().hash_one(process) as u16;
    format!("bench/{process:x}{random:04x}")
}

/// The figures, and what is wrong with them.
#[derive(Debug)]
struct Outcome {
    report: Report,
    fault: Option<String>,
}

impl Bench {
    fn name(&self) -> &'static str {
        match self.shape {
            Shape::P2p { .. } => "p2p",
            Shape::Fanout { .. } => "fanout",
            Shape::Fanin { .. } => "fanin",
            Shape::Shared { .. } => "shared",
            Shape::Match { .. } => "match",
            Shape::Latency { .. } => "latency",
            Shape::Conn { .. } => "conn",
            Shape::Retained { .. } => "retained",
            Shape::Offline { .. } => "offline",
        }
    }
}

fn print(report: &Report, common: &Common) -> Result<(), String> {
    let text = if common.json { report.json() } else { report.table() };
    let mut output = std::io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .map_err(|error| format!("can't print: {error}"))
}

/// CPU time of the broker, if its process is known, and of this program.
#[derive(Clone, Copy, Debug)]
struct Costs {
    broker: Option<Duration>,
    own: Duration,
}

impl Costs {
    /// Where what is measured begins, or ends.
    fn now(common: &Common) -> Result<Costs, String> {
        if common.marks {
            eprintln!("mark");
        }
        Ok(Costs {
            broker: common.broker().map(Process::cpu).transpose()?,
            own: Process::Own.cpu()?,
        })
    }

    /// What was used for each of `count` things since `before`.
    fn report(self, before: Costs, count: u64, names: [&'static str; 2], report: &mut Report) {
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / count as f64;
        if let (Some(now), Some(before)) = (self.broker, before.broker) {
            report.measure(names[0], each(now.saturating_sub(before)), "us", 3);
        }
        report.measure(names[1], each(self.own.saturating_sub(before.own)), "us", 3);
    }
}

const PER_MESSAGE: [&str; 2] = ["broker CPU per message", "load generator CPU per message"];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn runs_with_the_same_process_id_differ() {
        // The largest of Linux.
        let process = 4_194_304;
        let prefixes: HashSet<_> = (0..10).map(|_| prefix(process)).collect();
        assert!(prefixes.len() > 1, "{prefixes:?}");
        for prefix in prefixes {
            assert!(prefix.starts_with("bench/400000") && prefix.len() == 16, "{prefix}");
        }
    }
}
