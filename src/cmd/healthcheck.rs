//! Whether a broker answers, for supervisors of containers.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::mqtt::{Client, Failure, Hello, PacketProperties, Target, Trust, tls_config};
use crate::packet::Version;
use crate::reason::ReasonCode;

/// Opens a connection to the broker. Any CONNACK is a sign of health, also one that refuses; and so is a listener that
/// wants a certificate of the client.
///
/// # Errors
/// In words, if there is no answer.
pub(crate) async fn connect(target: &Target, time: Duration) -> Result<(), String> {
    let hello = Hello {
        tls: if target.tls {
            // Nothing secret is sent, and nothing that comes is believed.
            Some(tls_config(&Trust::Everybody, None)?)
        } else {
            None
        },
        target: target.clone(),
        version: Version::V311,
        client_id: format!("healthcheck-{}", std::process::id()),
        clean: true,
        session_expiry_interval: 0,
        keep_alive: 10,
        username: None,
        password: None,
        will: None,
        properties: PacketProperties::default(),
    };
    match within(time, Client::connect(&hello)).await? {
        Ok(client) => {
            let _ = client.leave(ReasonCode::Success, &[]).await;
            Ok(())
        }
        Err(failure) if is_answer(&failure) => Ok(()),
        Err(failure) => Err(failure.text),
    }
}

fn is_answer(failure: &Failure) -> bool {
    failure.refused || failure.text.contains("CertificateRequired")
}

/// Asks over HTTP; 200 is a sign of health. `authority` is what the URL has between `http://` and the path.
///
/// # Errors
/// In words, if there is no answer, or another.
pub(crate) async fn get(authority: &str, path: &str, time: Duration) -> Result<(), String> {
    let url = format!("http://{authority}{path}");
    let asked = within(time, ask(authority, path)).await?;
    let answer = asked.map_err(|error| format!("{url}: {error}"))?;
    let head = answer.lines().next().unwrap_or_default();
    match head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)) {
        Some("200") => Ok(()),
        Some(status) => Err(format!("{url}: the answer is {status}")),
        None => Err(format!("{url}: what answers does not speak HTTP")),
    }
}

/// Bytes of the answer that are looked at.
const ANSWER: u64 = 4096;

async fn ask(authority: &str, path: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(authority).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn within<T>(time: Duration, asking: impl Future<Output = T>) -> Result<T, String> {
    let asked = tokio::time::timeout(time, asking).await;
    asked.map_err(|_| format!("no answer within {} seconds", time.as_secs_f64()))
}
