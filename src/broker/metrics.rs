//! Counters in the text format of Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cluster::Cluster;
use super::{Core, memory};
use crate::stats::{Discard, Stats};
use crate::store::{BOUNDS, Journal};

/// All metrics. Costs some microseconds, and a walk over the sessions for what waits in them.
pub(crate) fn render(core: &Core) -> String {
    let mut text = Text::default();
    text.counters(core);
    text.gauges(core);
    if let Some(journal) = &core.journal {
        text.store(journal);
    }
    if let Some(cluster) = &core.cluster {
        text.cluster(cluster);
    }
    text.0
}

/// The counters: name, meaning, value.
pub(super) fn counters(stats: &Stats) -> [(&'static str, &'static str, &AtomicU64); 11] {
    [
        ("received_bytes", "Bytes received", &stats.bytes_received),
        ("sent_bytes", "Bytes sent", &stats.bytes_sent),
        ("received_packets", "Control Packets received", &stats.packets_received),
        ("sent_packets", "Control Packets sent", &stats.packets_sent),
        (
            "publish_received_messages",
            "PUBLISH packets received",
            &stats.publish_received,
        ),
        ("publish_sent_messages", "PUBLISH packets sent", &stats.publish_sent),
        (
            "publish_received_bytes",
            "Payload bytes received",
            &stats.publish_bytes_received,
        ),
        ("publish_sent_bytes", "Payload bytes sent", &stats.publish_bytes_sent),
        ("accepted_sockets", "Sockets accepted", &stats.sockets),
        ("accepted_connects", "CONNECT packets accepted", &stats.connections),
        (
            "expired_sessions",
            "Sessions that ended by their expiry interval",
            &stats.expired_sessions,
        ),
    ]
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn counters(&mut self, core: &Core) {
        let stats = &core.stats;
        for (name, help, value) in counters(stats) {
            let name = format!("{name}_total");
            self.head(&name, help, "counter");
            self.line(&name, "", value.load(Ordering::Relaxed));
        }
        let name = "discarded_messages_total";
        self.head(name, "Messages that a receiver did not get", "counter");
        for cause in Discard::ALL {
            self.line(name, &format!("{{cause=\"{}\"}}", cause.name()), stats.discards(cause));
        }
    }

    fn gauges(&mut self, core: &Core) {
        let (queued, queued_bytes) = core.registry.queued_messages();
        let router = &core.router;
        for (name, help, value) in [
            (
                "connected_clients",
                "Clients that are connected",
                core.registry.online(),
            ),
            (
                "connected_clients_max",
                "The most clients that were connected at a time",
                core.registry.most_online(),
            ),
            (
                "disconnected_sessions",
                "Sessions whose client is away",
                core.registry.offline(),
            ),
            (
                "open_connections",
                "Connections, those without a CONNECT included",
                core.connections.load(Ordering::Relaxed),
            ),
            (
                "resident_memory_bytes",
                "Memory of the process",
                memory::resident_bytes().unwrap_or_default(),
            ),
            ("subscriptions", "Subscriptions", router.subscriptions()),
            (
                "shared_subscriptions",
                "Shared subscriptions",
                router.shared_subscriptions(),
            ),
            (
                "queued_messages",
                "QoS 1 and 2 messages that wait or are in flight",
                queued,
            ),
            ("queued_bytes", "Bytes that wait or are in flight", queued_bytes),
            ("retained_messages", "Retained messages", router.retained.len()),
            ("retained_bytes", "Bytes of retained messages", router.retained.bytes()),
        ] {
            self.head(name, help, "gauge");
            self.line(name, "", value);
        }
        self.head("uptime_seconds", "Time since the start", "gauge");
        self.line("uptime_seconds", "", core.clock.uptime().as_secs());
        self.head("build_info", "The version of the broker", "gauge");
        let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
        self.line("build_info", version, 1);
    }

    fn store(&mut self, journal: &Journal) {
        let commits = journal.commits();
        for (name, help, value) in [
            (
                "store_failing",
                "Whether the store takes no changes now",
                usize::from(journal.is_failing()),
            ),
            (
                "store_pending_bytes",
                "Bytes of changes that are not kept yet",
                journal.pending(),
            ),
        ] {
            self.head(name, help, "gauge");
            self.line(name, "", value);
        }
        let name = "store_last_commit_seconds";
        self.head(name, "Time that the last commit took", "gauge");
        self.line(name, "", commits.last_seconds);
        for (name, help, value) in [
            (
                "store_committed_bytes_total",
                "Bytes of changes that are kept",
                commits.bytes,
            ),
            (
                "store_failed_commits_total",
                "Attempts to keep a batch of changes that failed",
                commits.failed,
            ),
        ] {
            self.head(name, help, "counter");
            self.line(name, "", value);
        }
        let name = "store_commit_seconds";
        self.head(
            name,
            "Batches of changes that are kept, by the time that it took",
            "histogram",
        );
        let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(commits.within) {
            self.line(&format!("{name}_bucket"), &format!("{{le=\"{bound}\"}}"), count);
        }
        self.line(&format!("{name}_sum"), "", commits.seconds);
        self.line(&format!("{name}_count"), "", commits.within[BOUNDS.len()]);
    }

    fn cluster(&mut self, cluster: &Cluster) {
        let seen = cluster.glance();
        for (name, help, value) in [
            (
                "cluster_incarnation",
                "The number of this run of the node",
                seen.incarnation,
            ),
            (
                "cluster_nodes",
                "Nodes that live, as far as this one knows",
                seen.nodes as u64,
            ),
            ("cluster_routes", "Topic Filters of other nodes", seen.routes as u64),
            (
                "cluster_log_lag_entries",
                "Entries of the log that this node had not applied a second ago",
                cluster.counters.log_lag.load(Ordering::Relaxed),
            ),
            (
                "cluster_sessions",
                "Sessions that are kept and have subscriptions",
                seen.sessions as u64,
            ),
        ] {
            self.head(name, help, "gauge");
            self.line(name, "", value);
        }
        for (name, help, age) in [
            (
                "cluster_heartbeat_age_seconds",
                "Time since the last heartbeat that was answered was sent",
                seen.heartbeat_age,
            ),
            (
                "cluster_contact_age_seconds",
                "Time since Redis was asked for news that it has told",
                seen.contact_age,
            ),
        ] {
            self.head(name, help, "gauge");
            self.line(name, "", age.as_secs_f64());
        }
        let counters = &cluster.counters;
        for (name, help, value) in [
            (
                "cluster_log_entries_total",
                "Entries of the log that were applied",
                &counters.entries_applied,
            ),
            (
                "cluster_inbox_messages_total",
                "Messages that came from other nodes",
                &counters.inbox_messages,
            ),
            (
                "cluster_claims_waited_total",
                "CONNECT packets that waited for another connection to let go",
                &counters.claims_waited,
            ),
            (
                "cluster_recovered_nodes_total",
                "Dead nodes whose clients this one has freed",
                &counters.recovered_nodes,
            ),
            (
                "cluster_recovered_clients_total",
                "Clients of dead nodes that this one has freed",
                &counters.recovered_clients,
            ),
            (
                "cluster_given_rests_total",
                "Sessions that have ended whose messages of Shared Subscriptions this node has given to other members",
                &counters.rests_given,
            ),
            (
                "cluster_appended_again_total",
                "Messages that Redis had lost and that this node has put into queues again",
                &counters.appended_again,
            ),
            (
                "cluster_not_appended_again_total",
                "Messages of the last seconds before Redis lost writes that could not be put into queues again",
                &counters.not_appended_again,
            ),
        ] {
            self.head(name, help, "counter");
            self.line(name, "", value.load(Ordering::Relaxed));
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(
            self.0,
            "# HELP mqtt_broker_{name} {help}.\n# TYPE mqtt_broker_{name} {kind}"
        );
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "mqtt_broker_{name}{labels} {value}");
    }
}
