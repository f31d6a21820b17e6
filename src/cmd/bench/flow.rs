//! A run in which messages flow for a time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::account::Account;
use super::clients::{self, Joining, Terms};
use super::net::Net;
use super::options::TrafficOptions;
use super::plan::Plan;
use super::report::Report;
use super::traffic::Traffic;
use super::{Costs, Outcome, PER_MESSAGE};
use crate::client;

/// How long nothing may arrive at the end before the rest counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// Publishers are given their turn at least this often.
const TICK: Duration = Duration::from_millis(100);
/// Below this, waiting is left to the processor: the kernel would sleep for longer.
const TOO_SHORT_TO_SLEEP: u64 = 2_000_000;

pub(super) fn run(name: &'static str, prefix: &str, plan: &Plan, options: &TrafficOptions) -> Result<Outcome, String> {
    let common = &options.common;
    let rate = match name {
        "latency" => Some(options.rate.unwrap_or(1000)),
        _ => options.rate,
    };
    let mut flow = Flow::new(prefix, plan, options, rate)?;
    let start = Instant::now();
    flow.until(start + options.warmup(), false)?;
    flow.traffic.start_measuring();
    let (costs, account, begun) = (Costs::now(common)?, flow.traffic.account, Instant::now());
    flow.until(
        begun + options.duration(),
        !common.json && std::io::stderr().is_terminal(),
    )?;
    let (costs_after, account_after, took) = (Costs::now(common)?, flow.traffic.account, begun.elapsed());
    let memory = common.broker().map(super::Process::memory).transpose()?;
    flow.drain()?;
    let total = flow.traffic.final_account();
    flow.end_sessions(prefix)?;

    let delivered = account_after.delivered - account.delivered;
    let mut report = Report::default();
    report.text("shape", name);
    report.text("protocol", common.version().to_string());
    report.count("QoS", common.qos() as u64);
    report.measure("delivered", delivered as f64 / took.as_secs_f64(), "/s", 0);
    costs_after.report(costs, delivered, PER_MESSAGE, &mut report);
    if let Some(memory) = memory {
        report.measure("broker memory", memory as f64 / (1024.0 * 1024.0), "MiB", 1);
    }
    flow.report_latencies(&mut report);
    report_account(&total, &mut report);
    Ok(Outcome {
        report,
        fault: fault(&total),
    })
}

fn report_account(account: &Account, report: &mut Report) {
    report.count("messages sent", account.sent);
    report.count("messages delivered", account.delivered);
    report.count("messages lost", account.lost);
    report.count("messages duplicated", account.duplicated);
    report.count("messages out of order", account.out_of_order);
}

fn fault(account: &Account) -> Option<String> {
    (account.lost + account.duplicated + account.out_of_order > 0).then(|| {
        format!(
            "{} messages were lost, {} came twice, {} out of order",
            account.lost, account.duplicated, account.out_of_order
        )
    })
}

struct Flow<'a> {
    net: Net,
    traffic: Traffic,
    terms: Terms<'a>,
    /// Of subscribers whose sessions end with their connections.
    of_subscribers: Terms<'a>,
    /// Connections of subscribers whose sessions have to be ended.
    persistent: Vec<usize>,
    pace: Option<Pace>,
    /// What is due waits for the broker, and is late.
    held_up: bool,
    churn: Option<Churn>,
    latencies: Option<[u64; 5]>,
}

/// Messages a second, due one after the other whatever has become of those before.
struct Pace {
    interval: f64,
    begun: u64,
    sent: u64,
}

/// Subscriptions that come and go.
struct Churn {
    connection: usize,
    pace: Pace,
    prefix: String,
}

impl<'a> Flow<'a> {
    fn new(prefix: &str, plan: &Plan, options: &'a TrafficOptions, rate: Option<u32>) -> Result<Flow<'a>, String> {
        let common = &options.common;
        let terms = Terms::of(common)?;
        let mut net = Net::new(common.version(), common.layers()?)?;
        let mut traffic = Traffic::new(
            plan,
            common.version(),
            common.qos(),
            common.window,
            common.payload,
            options.user_properties,
        );
        let of_subscribers = Terms {
            ports: &options.subscriber_ports,
            ..terms
        };
        let persistent = match options.persistent {
            true => join_subscribers(&mut net, &mut traffic, &of_subscribers.persistent(), prefix, plan)?,
            false => {
                join_subscribers(&mut net, &mut traffic, &of_subscribers, prefix, plan)?;
                Vec::new()
            }
        };
        freeze_some(&mut net, &mut traffic, &of_subscribers, prefix, plan, options.frozen)?;
        let joining = |kind: &str, number: usize| Joining::new(prefix, format_args!("{kind}{number}"), Vec::new());
        let publishers: Vec<_> = (0..plan.publishers.len()).map(|number| joining("p", number)).collect();
        let ids = clients::join(&mut net, &mut traffic, &terms, &publishers)?;
        let churning = match options.churn {
            0 => None,
            rate => Some((
                clients::join(&mut net, &mut traffic, &terms, &[joining("churn", 0)])?[0],
                rate,
            )),
        };
        for id in ids {
            traffic.add_publisher(id, plan);
        }
        if !options.subscriber_ports.is_empty() {
            clients::settle(&mut net, &mut traffic)?;
        }
        let now = traffic.elapsed();
        Ok(Flow {
            net,
            terms,
            of_subscribers,
            persistent,
            pace: rate.map(|rate| Pace::new(rate, now)),
            held_up: false,
            churn: churning.map(|(connection, rate)| Churn {
                connection,
                pace: Pace::new(rate, now),
                prefix: format!("{prefix}/churn"),
            }),
            traffic,
            latencies: None,
        })
    }

    /// Lets messages flow until then.
    fn until(&mut self, end: Instant, progress: bool) -> Result<(), String> {
        let mut told = (Instant::now(), self.traffic.account.delivered);
        while Instant::now() < end {
            self.publish();
            let wait = self
                .next_due()
                .min(end.saturating_duration_since(Instant::now()))
                .min(TICK);
            self.net.round(wait, &mut self.traffic)?;
            if progress && told.0.elapsed() >= Duration::from_secs(1) {
                let delivered = self.traffic.account.delivered;
                eprintln!("{:>12} messages/s", delivered - told.1);
                told = (Instant::now(), delivered);
            }
        }
        Ok(())
    }

    fn publish(&mut self) {
        let now = self.traffic.elapsed();
        if let Some(churn) = &mut self.churn {
            while let Some((number, _)) = churn.pace.next(now) {
                churn.step(&mut self.net, &self.terms, number);
            }
        }
        let Some(pace) = &mut self.pace else {
            return self.traffic.publish_window(&mut self.net);
        };
        self.held_up = false;
        while let Some((number, due)) = pace.peek(now) {
            let publisher = (number % self.traffic.publishers() as u64) as usize;
            if !self.traffic.can_publish(&self.net, publisher) {
                self.held_up = true;
                return;
            }
            pace.sent += 1;
            self.traffic.publish(&mut self.net, publisher, due);
        }
    }

    /// How long nothing needs to be sent.
    fn next_due(&self) -> Duration {
        let Some(pace) = self.pace.as_ref().filter(|_| !self.held_up) else {
            return if self.churn.is_some() || self.held_up {
                Duration::from_millis(1)
            } else {
                TICK
            };
        };
        let left = pace.due(pace.sent).saturating_sub(self.traffic.elapsed());
        if left < TOO_SHORT_TO_SLEEP {
            Duration::ZERO
        } else {
            Duration::from_nanos(left - TOO_SHORT_TO_SLEEP / 2)
        }
    }

    /// Waits for what is under way.
    fn drain(&mut self) -> Result<(), String> {
        let histogram = &self.traffic.latencies;
        self.latencies = Some([
            histogram.quantile(0.5),
            histogram.quantile(0.9),
            histogram.quantile(0.99),
            histogram.quantile(0.999),
            histogram.largest(),
        ]);
        let mut seen = (self.traffic.account.delivered, Instant::now());
        while !self.traffic.is_settled() && seen.1.elapsed() < PATIENCE {
            self.net.round(TICK, &mut self.traffic)?;
            if self.traffic.account.delivered != seen.0 {
                seen = (self.traffic.account.delivered, Instant::now());
            }
        }
        Ok(())
    }

    fn end_sessions(&mut self, prefix: &str) -> Result<(), String> {
        let ids = std::mem::take(&mut self.persistent);
        let clients: Vec<_> = (0..ids.len())
            .map(|number| subscriber(prefix, number, Vec::new()))
            .collect();
        clients::end_sessions(&mut self.net, &mut self.traffic, &self.of_subscribers, ids, &clients)
    }

    fn report_latencies(&self, report: &mut Report) {
        let names = [
            "latency p50",
            "latency p90",
            "latency p99",
            "latency p99.9",
            "latency max",
        ];
        for (name, nanoseconds) in names.into_iter().zip(self.latencies.iter().flatten()) {
            report.measure(name, *nanoseconds as f64 / 1000.0, "us", 1);
        }
    }
}

fn subscriber(prefix: &str, number: usize, filters: Vec<String>) -> Joining {
    Joining::new(prefix, format_args!("s{number}"), filters)
}

/// Their connections.
fn join_subscribers(
    net: &mut Net,
    traffic: &mut Traffic,
    terms: &Terms<'_>,
    prefix: &str,
    plan: &Plan,
) -> Result<Vec<usize>, String> {
    let members = plan.groups.iter().enumerate();
    let members: Vec<_> = members
        .flat_map(|(group, of)| of.members.iter().map(move |filters| (group, filters)))
        .collect();
    let joining: Vec<_> = members
        .iter()
        .enumerate()
        .map(|(number, (_, filters))| subscriber(prefix, number, (*filters).clone()))
        .collect();
    let ids = clients::join(net, traffic, terms, &joining)?;
    for (id, (group, _)) in ids.iter().zip(members) {
        traffic.add_subscriber(*id, group);
    }
    Ok(ids)
}

fn freeze_some(
    net: &mut Net,
    traffic: &mut Traffic,
    terms: &Terms<'_>,
    prefix: &str,
    plan: &Plan,
    count: u32,
) -> Result<(), String> {
    let joining: Vec<_> = (0..count)
        .map(|number| Joining::new(prefix, format_args!("f{number}"), plan.topics[..1].to_vec()))
        .collect();
    for id in clients::join(net, traffic, terms, &joining)? {
        net.freeze(id);
    }
    Ok(())
}

impl Pace {
    fn new(rate: u32, begun: u64) -> Pace {
        Pace {
            interval: 1e9 / f64::from(rate),
            begun,
            sent: 0,
        }
    }

    fn due(&self, number: u64) -> u64 {
        self.begun + (number as f64 * self.interval) as u64
    }

    /// The number of the next one, and when it is due, if that is not later than `now`.
    fn peek(&self, now: u64) -> Option<(u64, u64)> {
        let (number, due) = (self.sent, self.due(self.sent));
        (due <= now).then_some((number, due))
    }

    fn next(&mut self, now: u64) -> Option<(u64, u64)> {
        let next = self.peek(now)?;
        self.sent += 1;
        Some(next)
    }
}

impl Churn {
    /// Subscribes, and unsubscribes from what was subscribed to a while ago.
    fn step(&mut self, net: &mut Net, terms: &Terms<'_>, number: u64) {
        const KEPT: u64 = 1000;
        let filter = |number: u64| format!("{}/{number}/+/state", self.prefix);
        let output = net.output(self.connection);
        client::subscribe(
            output,
            terms.version,
            clients::packet_id(number * 2),
            &filter(number),
            terms.qos,
        );
        if let Some(old) = number.checked_sub(KEPT) {
            client::unsubscribe(output, terms.version, clients::packet_id(number * 2 + 1), &filter(old));
        }
    }
}
