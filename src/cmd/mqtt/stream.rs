//! A connection over any transport, as a stream of MQTT's bytes.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Place, Target};
use crate::transport::WebSocketStream;

/// Bytes of the head of an HTTP answer.
const LARGEST_HEAD: usize = 16 * 1024;

/// A stream of MQTT's bytes.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Connects, and goes through all layers.
pub(crate) async fn open(target: &Target, tls: Option<Arc<ClientConfig>>) -> Result<Box<dyn Stream>, String> {
    let error = |error: io::Error| format!("{target}: {error}");
    let (host, port) = match &target.place {
        Place::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await.map_err(error)?)),
        Place::Tcp { host, port } => (host.as_str(), *port),
    };
    let socket = connect(host, port).await.map_err(error)?;
    let _ = socket.set_nodelay(true);
    let Some(config) = tls else {
        return layered(socket, target).await.map_err(error);
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|fault| format!("{target}: {fault}"))?;
    let stream = TlsConnector::from(config).connect(name, socket).await;
    layered(stream.map_err(error)?, target).await.map_err(error)
}

/// Tries one address of the host after the other.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    TcpStream::connect(&addresses[..]).await
}

async fn layered(mut stream: impl Stream + 'static, target: &Target) -> io::Result<Box<dyn Stream>> {
    let (Some(path), Place::Tcp { host, port }) = (&target.websocket, &target.place) else {
        return Ok(Box::new(stream));
    };
    let host = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    upgrade(&mut stream, path, &host).await?;
    Ok(Box::new(WebSocketStream::of_client(stream)))
}

/// Asks for a WebSocket (RFC 6455, section 4.1), with MQTT in it [MQTT-6.0.0-3].
async fn upgrade(stream: &mut impl Stream, path: &str, host: &str) -> io::Result<()> {
    let key = generate_key();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let head = read_head(stream).await?;
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("101") {
        return Err(io::Error::other(format!("no WebSocket there: the answer is {first:?}")));
    }
    let has = |name: &str, value: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        fields.any(|(field, found)| field.eq_ignore_ascii_case(name) && found.trim() == value)
    };
    if !has("Sec-WebSocket-Accept", &derive_accept_key(key.as_bytes())) {
        return Err(io::Error::other("the answer is not for this request for a WebSocket"));
    }
    if !has("Sec-WebSocket-Protocol", "mqtt") {
        return Err(io::Error::other("the WebSocket there is not for MQTT"));
    }
    Ok(())
}

/// Reads no further than the head: what follows are frames.
async fn read_head(stream: &mut impl Stream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LARGEST_HEAD {
            return Err(io::Error::other(
                "the answer to the request for a WebSocket does not end",
            ));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
