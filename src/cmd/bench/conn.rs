//! Clients that connect and stay: how fast, at what cost, and how much memory each takes.

use std::time::Instant;

use super::clients::{self, Host, Joined, Joining, Terms};
use super::net::{Handler, Net};
use super::options::Common;
use super::plan::mixed_filter;
use super::process::Process;
use super::report::Report;
use super::{Costs, Outcome};
use crate::client::Inbound;

#[derive(Debug, Default)]
struct Idle(Joined);

impl Handler for Idle {
    fn packet(&mut self, _: usize, packet: Inbound<'_>, _: &mut Vec<u8>) -> Result<(), String> {
        self.0.see(&packet).map(drop)
    }
}

impl Host for Idle {
    fn joined(&mut self) -> &mut Joined {
        &mut self.0
    }
}

/// Who connects.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) count: usize,
    /// Of each.
    pub(super) subscriptions: usize,
    pub(super) are_persistent: bool,
}

pub(super) fn run(prefix: &str, who: &Clients, common: &Common) -> Result<Outcome, String> {
    let (clients, subscriptions) = (who.count, who.subscriptions);
    let clean = Terms::of(common)?;
    let terms = if who.are_persistent { clean.persistent() } else { clean };
    let mut net = Net::new(common.version(), common.layers()?)?;
    let mut idle = Idle::default();
    let memory = || common.broker().map(Process::memory).transpose();
    let mut joining: Vec<_> = (0..clients)
        .map(|number| Joining::new(prefix, format_args!("c{number}"), Vec::new()))
        .collect();
    let (before, costs, begun) = (memory()?, Costs::now(common)?, Instant::now());
    let ids = clients::join(&mut net, &mut idle, &terms, &joining)?;
    let took = begun.elapsed();
    let mut report = Report::default();
    report.text("shape", "conn");
    report.count("clients", clients as u64);
    report.measure("connects", clients as f64 / took.as_secs_f64(), "/s", 0);
    let names = ["broker CPU per connect", "load generator CPU per connect"];
    Costs::now(common)?.report(costs, clients as u64, names, &mut report);
    clients::settle(&mut net, &mut idle)?;
    let connected = memory()?;
    let grown = |from: Option<u64>, to: Option<u64>| Some(to? as f64 - from? as f64);
    if let Some(bytes) = grown(before, connected) {
        report.measure("broker memory per client", bytes / clients as f64, "bytes", 0);
    }
    if subscriptions > 0 {
        for (number, client) in joining.iter_mut().enumerate() {
            let numbers = number * subscriptions..(number + 1) * subscriptions;
            client.filters = numbers.map(|number| mixed_filter(prefix, number)).collect();
        }
        let (costs, begun, total) = (Costs::now(common)?, Instant::now(), (clients * subscriptions) as u64);
        clients::subscribe(&mut net, &mut idle, &terms, &ids, &joining)?;
        let took = begun.elapsed();
        report.count("subscriptions", total);
        report.measure("subscriptions", total as f64 / took.as_secs_f64(), "/s", 0);
        let names = ["broker CPU per subscription", "load generator CPU per subscription"];
        Costs::now(common)?.report(costs, total, names, &mut report);
        clients::settle(&mut net, &mut idle)?;
        if let Some(bytes) = grown(connected, memory()?) {
            report.measure("broker memory per subscription", bytes / total as f64, "bytes", 0);
        }
    }
    if who.are_persistent {
        joining.iter_mut().for_each(|client| client.filters.clear());
        clients::end_sessions(&mut net, &mut idle, &clean, ids, &joining)?;
    }
    Ok(Outcome { report, fault: None })
}
