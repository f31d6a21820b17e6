//! Connecting: to the server, to the one that Sentinels name, or to all that write in a cluster.

use std::sync::Once;

use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, RedisConnectionInfo, RedisError, TlsCertificates, Value,
};

use super::link::Link;
use super::slots::Slots;
use super::target::{Target, with_tls};
use crate::store::{RedisSettings, StoreError};

pub(super) fn connect(settings: &RedisSettings) -> Result<Link, StoreError> {
    choose_cryptography();
    let target = Target::new(settings)?;
    let address = target.address();
    let (servers, slots) = match &target {
        Target::Server(info) => {
            let server = one(info, settings).map_err(|error| unreachable(&address, &error))?;
            (vec![server], None)
        }
        Target::Sentinels {
            sentinels,
            service,
            server,
            certificates,
        } => {
            let server = by_sentinels(sentinels, service, (server, certificates.as_ref()), settings)?;
            (vec![server], None)
        }
        Target::Cluster { nodes, certificates } => {
            let (servers, slots) = cluster(nodes, certificates.as_ref(), settings)?;
            (servers, Some(slots))
        }
    };
    Ok(Link {
        servers,
        slots,
        address,
        is_lost: false,
    })
}

/// The error in words. The crate's have nothing of names and passwords.
pub(super) fn told(error: &RedisError) -> String {
    match error.is_timeout() {
        true => "it did not answer in time".to_owned(),
        false => error.to_string(),
    }
}

fn one(info: &ConnectionInfo, settings: &RedisSettings) -> Result<Connection, RedisError> {
    let client = Client::open(info.clone())?;
    let connection = client.get_connection_with_timeout(settings.timeout)?;
    connection.set_read_timeout(Some(settings.timeout))?;
    connection.set_write_timeout(Some(settings.timeout))?;
    Ok(connection)
}

/// Asks one Sentinel after the other where the server is.
fn by_sentinels(
    sentinels: &[ConnectionInfo],
    service: &str,
    server: (&RedisConnectionInfo, Option<&TlsCertificates>),
    settings: &RedisSettings,
) -> Result<Connection, StoreError> {
    let mut reasons = Vec::new();
    for sentinel in sentinels {
        let found = ask_sentinel(sentinel, service, settings)
            .and_then(|(host, port)| elsewhere(sentinel, server, host, port))
            .and_then(|info| master(&info, settings));
        match found {
            Ok(connection) => return Ok(connection),
            Err(reason) => reasons.push(format!("{}: {reason}", sentinel.addr())),
        }
    }
    let reasons = reasons.join("; ");
    Err(StoreError::Unavailable(format!(
        "no Sentinel has led to {service} ({reasons})"
    )))
}

fn ask_sentinel(sentinel: &ConnectionInfo, service: &str, settings: &RedisSettings) -> Result<(String, u16), String> {
    let mut connection = one(sentinel, settings).map_err(|error| told(&error))?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(service);
    let found: Option<(String, u16)> = command.query(&mut connection).map_err(|error| told(&error))?;
    found.ok_or_else(|| format!("it does not know {service:?}"))
}

/// Another server, with or without TLS as this one.
fn elsewhere(
    known: &ConnectionInfo,
    (server, certificates): (&RedisConnectionInfo, Option<&TlsCertificates>),
    host: String,
    port: u16,
) -> Result<ConnectionInfo, String> {
    let addr = match known.addr() {
        ConnectionAddr::TcpTls { .. } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    let info = known.clone().set_addr(addr).set_redis_settings(server.clone());
    with_tls(info, certificates).map_err(|error| error.to_string())
}

/// A Sentinel may still name a server that has become a replica.
fn master(info: &ConnectionInfo, settings: &RedisSettings) -> Result<Connection, String> {
    let mut connection = one(info, settings).map_err(|error| format!("{}: {}", info.addr(), told(&error)))?;
    let role: Value = redis::cmd("ROLE")
        .query(&mut connection)
        .map_err(|error| told(&error))?;
    match role {
        Value::Array(parts) if parts.first() == Some(&Value::BulkString(b"master".to_vec())) => Ok(connection),
        _ => Err(format!("{} is no master", info.addr())),
    }
}

/// Connects to all that write, as the first node says that can be asked.
fn cluster(
    nodes: &[ConnectionInfo],
    certificates: Option<&TlsCertificates>,
    settings: &RedisSettings,
) -> Result<(Vec<Connection>, Slots), StoreError> {
    let mut reasons = Vec::new();
    for node in nodes {
        match cluster_of(node, certificates, settings) {
            Ok(cluster) => return Ok(cluster),
            Err(reason) => reasons.push(format!("{}: {reason}", node.addr())),
        }
    }
    Err(StoreError::Unavailable(format!(
        "no node has led to the Redis Cluster ({})",
        reasons.join("; ")
    )))
}

fn cluster_of(
    node: &ConnectionInfo,
    certificates: Option<&TlsCertificates>,
    settings: &RedisSettings,
) -> Result<(Vec<Connection>, Slots), String> {
    let mut connection = one(node, settings).map_err(|error| told(&error))?;
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let answer: Value = command.query(&mut connection).map_err(|error| told(&error))?;
    let own = match node.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    let (slots, addresses) = Slots::read(answer, &own)?;
    let server = (node.redis_settings(), certificates);
    let servers = addresses.into_iter().map(|(host, port)| {
        let info = elsewhere(node, server, host, port)?;
        one(&info, settings).map_err(|error| format!("{}: {}", info.addr(), told(&error)))
    });
    Ok((servers.collect::<Result<_, _>>()?, slots))
}

/// An error in connecting: those that a repetition does not mend are about the settings.
fn unreachable(address: &str, error: &RedisError) -> StoreError {
    let said = format!("Redis at {address}: {}", told(error));
    match error.code() {
        Some("WRONGPASS" | "NOAUTH") => StoreError::Refused(said),
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => StoreError::Refused(said),
        _ => StoreError::Unavailable(said),
    }
}

/// For programs in which other crates bring another provider, too: rustls can't choose then.
fn choose_cryptography() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| {
        // An error says that the program has chosen itself.
        let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}
