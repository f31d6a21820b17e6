//! Whether nodes have lived through what should kill none of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::fleet::Fleet;
use crate::check::{Rule, Violation};

/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a node says of another one that it takes for dead.
const DEATH: &str = "a node of the cluster is dead";

/// The number of each node's run, which a node changes that begins again, whether its process goes on or not.
pub fn incarnations(fleet: &Fleet) -> Result<Vec<u64>, String> {
    fleet.nodes.iter().map(|node| incarnation(node.http)).collect()
}

/// Who has begun again since.
pub fn begun_again(fleet: &Fleet, before: &[u64]) -> Result<Vec<Violation>, String> {
    let now = incarnations(fleet)?;
    Ok(changes(before, &now).into_iter().map(violation).collect())
}

/// Who says that one is dead.
pub fn deaths(fleet: &Fleet) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, node) in fleet.nodes.iter().enumerate() {
        let line = node.broker.says(DEATH);
        found.extend(line.map(|line| violation(format!("node {} says: {line}", at + 1))));
    }
    found
}

/// How often nodes have said that one is dead.
pub fn count_deaths(fleet: &Fleet) -> usize {
    let lines = fleet.nodes.iter().map(|node| node.broker.lines_with(DEATH).len());
    lines.sum()
}

fn changes(before: &[u64], now: &[u64]) -> Vec<String> {
    let both = before.iter().zip(now).enumerate();
    both.filter(|(_, (before, now))| before != now)
        .map(|(at, (before, now))| format!("node {} has begun again: it was {before}, and is {now}", at + 1))
        .collect()
}

/// That of one.
pub fn incarnation(http: SocketAddr) -> Result<u64, String> {
    let metrics = metrics(http).map_err(|error| format!("the metrics of {http}: {error}"))?;
    read(&metrics).ok_or_else(|| format!("{http} does not tell its incarnation: {metrics}"))
}

fn metrics(http: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn read(metrics: &str) -> Option<u64> {
    let name = "mqtt_broker_cluster_incarnation ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}

pub fn violation(text: String) -> Violation {
    Violation { rule: Rule::Died, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_incarnation_is_found_among_the_metrics() {
        let metrics = "HTTP/1.1 200 OK\r\n\r\n# TYPE mqtt_broker_cluster_incarnation gauge\n\
                       mqtt_broker_cluster_incarnation 42\nmqtt_broker_cluster_nodes 3\n";
        assert_eq!(read(metrics), Some(42));
        assert_eq!(read("mqtt_broker_cluster_nodes 3\n"), None);
    }

    #[test]
    fn who_begins_again_is_named() {
        assert_eq!(changes(&[1, 2, 3], &[1, 2, 3]), Vec::<String>::new());
        let found = changes(&[1, 2, 3], &[1, 5, 3]);
        assert_eq!(found, ["node 2 has begun again: it was 2, and is 5"]);
    }
}
