//! The broker's own topics: `$SYS/broker/…` with Mosquitto's names, on request `$SYS/<id>/…` with those of Aedes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::aedes::AedesEvent;
use super::cluster::Totals;
use super::core::{Core, RouteScratch};
use crate::message::Publication;
use crate::packet::QoS;
use crate::router::LastMatch;
use crate::stats::{Discard, Stats};
use crate::time::Millis;

/// Publishes all topics now and at every interval, for as long as the broker lives.
pub(crate) async fn run(core: Arc<Core>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval.max(MIN_INTERVAL));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut loads = Loads::new(core.clock.now());
    let mut publisher = Publisher::new(&core);
    loop {
        ticks.tick().await;
        loads.update(&core.stats, core.clock.now());
        publisher.publish_all(&loads);
        if let Some(cluster) = &core.cluster
            && let Some(totals) = cluster.totals().await
        {
            publisher.cluster(&totals);
        }
    }
}

const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Publishes values as retained messages, each only when it has changed.
struct Publisher<'a> {
    core: &'a Core,
    scratch: RouteScratch,
    aedes_prefix: Option<String>,
}

impl<'a> Publisher<'a> {
    fn new(core: &'a Core) -> Publisher<'a> {
        let aedes_prefix = core.config().aedes_sys_topics.then(|| format!("$SYS/{}/", core.id));
        Publisher {
            core,
            scratch: RouteScratch::default(),
            aedes_prefix,
        }
    }

    fn publish_all(&mut self, loads: &Loads) {
        self.mosquitto();
        for (name, averages) in loads.averages() {
            for (minutes, value) in ["1min", "5min", "15min"].iter().zip(averages) {
                self.broker(&format!("load/{name}/{minutes}"), format!("{value:.2}"));
            }
        }
        if self.aedes_prefix.is_some() {
            self.aedes();
        }
        self.core.tell_aedes(AedesEvent::Heartbeat, &mut self.scratch);
        self.scratch.trim();
    }

    fn mosquitto(&mut self) {
        let core = self.core;
        let stats = &core.stats;
        let (online, offline) = (core.registry.online(), core.registry.offline());
        let (queued, queued_bytes) = core.registry.queued_messages();
        self.broker("version", concat!("mqtt-broker version ", env!("CARGO_PKG_VERSION")));
        self.broker("uptime", format!("{} seconds", core.clock.uptime().as_secs()));
        self.broker("clients/total", online + offline);
        self.broker("clients/connected", online);
        self.broker("clients/active", online);
        self.broker("clients/disconnected", offline);
        self.broker("clients/inactive", offline);
        self.broker("clients/maximum", core.registry.most_online());
        self.broker("clients/expired", count(&stats.expired_sessions));
        self.broker("messages/received", count(&stats.packets_received));
        self.broker("messages/sent", count(&stats.packets_sent));
        self.broker("messages/stored", queued + core.router.retained.len());
        self.broker("store/messages/count", queued + core.router.retained.len());
        self.broker("store/messages/bytes", queued_bytes + core.router.retained.bytes());
        self.broker("publish/messages/received", count(&stats.publish_received));
        self.broker("publish/messages/sent", count(&stats.publish_sent));
        self.broker("publish/messages/dropped", stats.all_discards());
        self.broker("publish/bytes/received", count(&stats.publish_bytes_received));
        self.broker("publish/bytes/sent", count(&stats.publish_bytes_sent));
        self.broker("bytes/received", count(&stats.bytes_received));
        self.broker("bytes/sent", count(&stats.bytes_sent));
        self.broker("retained messages/count", core.router.retained.len());
        self.broker("subscriptions/count", core.router.subscriptions());
        self.broker("shared_subscriptions/count", core.router.shared_subscriptions());
        for cause in Discard::ALL {
            self.broker(&format!("discarded/{}", cause.name()), stats.discards(cause));
        }
    }

    fn cluster(&mut self, totals: &Totals) {
        let connected = totals.of("connected_clients");
        let own = [
            ("nodes/count", totals.nodes as u64),
            ("clients/connected", connected),
            ("clients/disconnected", totals.away()),
            ("clients/total", connected + totals.away()),
            ("sessions/count", totals.sessions),
            ("subscriptions/count", totals.subscriptions()),
            ("retained messages/count", totals.retained),
        ];
        let sums = [
            ("messages/received", "received_packets"),
            ("messages/sent", "sent_packets"),
            ("publish/messages/received", "publish_received_messages"),
            ("publish/messages/sent", "publish_sent_messages"),
            ("publish/messages/dropped", "discarded_messages"),
            ("publish/bytes/received", "publish_received_bytes"),
            ("publish/bytes/sent", "publish_sent_bytes"),
            ("bytes/received", "received_bytes"),
            ("bytes/sent", "sent_bytes"),
        ];
        let sums = sums.map(|(name, figure)| (name, totals.of(figure)));
        for (name, value) in own.into_iter().chain(sums) {
            self.publish(&format!("$SYS/cluster/{name}"), &value.to_string());
        }
        self.scratch.trim();
    }

    fn aedes(&mut self) {
        let core = self.core;
        let stats = &core.stats;
        let uptime = core.clock.uptime().as_secs();
        self.aedes_topic("version", env!("CARGO_PKG_VERSION"));
        self.aedes_topic("uptime", uptime);
        self.aedes_topic("clients/connected", core.registry.online());
        self.aedes_topic("clients/disconnected", core.registry.offline());
        self.aedes_topic("clients/maximum", core.registry.most_online());
        self.aedes_topic("clients/total", core.registry.online() + core.registry.offline());
        self.aedes_topic("messages/publish/received", count(&stats.publish_received));
        self.aedes_topic("messages/publish/sent", count(&stats.publish_sent));
        self.aedes_topic("messages/publish/dropped", stats.all_discards());
        self.aedes_topic("retained/messages/count", core.router.retained.len());
        self.aedes_topic("subscriptions/count", core.router.subscriptions());
    }

    fn broker(&mut self, name: &str, value: impl ToString) {
        self.publish(&format!("$SYS/broker/{name}"), &value.to_string());
    }

    fn aedes_topic(&mut self, name: &str, value: impl ToString) {
        if let Some(prefix) = &self.aedes_prefix {
            let topic = format!("{prefix}{name}");
            self.publish(&topic, &value.to_string());
        }
    }

    fn publish(&mut self, topic: &str, value: &str) {
        if self.core.router.retained.holds(topic, value.as_bytes()) {
            return;
        }
        let publication = Publication {
            topic,
            payload: value.as_bytes(),
            properties: &[],
            expires_at: None,
            qos: QoS::ExactlyOnce,
            retain: true,
        };
        self.core
            .route(&publication, None, &mut self.scratch, &mut LastMatch::default());
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Moving averages per minute, as Mosquitto computes them.
struct Loads {
    at: Millis,
    meters: [Meter; 9],
}

struct Meter {
    name: &'static str,
    read: fn(&Stats) -> u64,
    last: u64,
    /// Over 1, 5 and 15 minutes.
    averages: [f64; 3],
}

impl Loads {
    fn new(at: Millis) -> Loads {
        let meter = |name, read| Meter {
            name,
            read,
            last: 0,
            averages: [0.0; 3],
        };
        let meters = [
            meter("messages/received", |stats| count(&stats.packets_received)),
            meter("messages/sent", |stats| count(&stats.packets_sent)),
            meter("publish/received", |stats| count(&stats.publish_received)),
            meter("publish/sent", |stats| count(&stats.publish_sent)),
            meter("publish/dropped", Stats::all_discards),
            meter("bytes/received", |stats| count(&stats.bytes_received)),
            meter("bytes/sent", |stats| count(&stats.bytes_sent)),
            meter("sockets", |stats| count(&stats.sockets)),
            meter("connections", |stats| count(&stats.connections)),
        ];
        Loads { at, meters }
    }

    fn update(&mut self, stats: &Stats, now: Millis) {
        let seconds = now.since(self.at).as_secs_f64();
        self.at = now;
        if seconds <= 0.0 {
            return;
        }
        for meter in &mut self.meters {
            let total = (meter.read)(stats);
            let per_minute = (total - meter.last) as f64 * 60.0 / seconds;
            meter.last = total;
            for (average, minutes) in meter.averages.iter_mut().zip([1.0, 5.0, 15.0]) {
                let keep = (-seconds / (60.0 * minutes)).exp();
                *average = per_minute + keep * (*average - per_minute);
            }
        }
    }

    fn averages(&self) -> impl Iterator<Item = (&'static str, [f64; 3])> {
        self.meters.iter().map(|meter| (meter.name, meter.averages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_its_own_average() {
        let stats = Stats::default();
        let mut loads = Loads::new(Millis::from_unix(0));
        for second in 1..=7200 {
            stats.publish_received.fetch_add(2, Ordering::Relaxed);
            loads.update(&stats, Millis::from_unix(second * 1000));
        }
        let (_, averages) = loads
            .averages()
            .find(|(name, _)| *name == "publish/received")
            .expect("is measured");
        for average in averages {
            assert!((average - 120.0).abs() < 1.0, "{average}");
        }
    }
}
