//! From an HTTP request to a WebSocket connection (RFC 6455, section 4).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, header};

use super::{WebSocket, WebSocketStream};
use crate::identity::{Peer, UpgradeRequest};
use crate::transport::{Refused, TrustedProxies};

/// Bytes of a request, headers included.
const LARGEST_REQUEST: usize = 8 * 1024;
/// Time that a client has to take an answer, and to close.
const FAREWELL_TIME: Duration = Duration::from_millis(500);
/// Subprotocols, the better one first [MQTT-6.0.0-4] [MQTT3-6.0.0-4]; the other is what clients of MQTT 3.1 ask for.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// An answer in place of a WebSocket connection.
struct Answer {
    status: &'static str,
    header: &'static str,
    text: &'static str,
}

const NO_UPGRADE: Answer = Answer {
    status: "426 Upgrade Required",
    header: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    text: "This is the WebSocket port of an MQTT broker: connect with an MQTT client.\n",
};
const BAD_REQUEST: Answer = Answer {
    status: "400 Bad Request",
    header: "",
    text: "This is the WebSocket port of an MQTT broker, and the request is no valid WebSocket handshake.\n",
};
const WRONG_METHOD: Answer = Answer {
    status: "405 Method Not Allowed",
    header: "Allow: GET\r\n",
    text: "This is the WebSocket port of an MQTT broker: connect with an MQTT client.\n",
};
const NOT_FOUND: Answer = Answer {
    status: "404 Not Found",
    header: "",
    text: "No MQTT broker answers on this path.\n",
};
const FORBIDDEN: Answer = Answer {
    status: "403 Forbidden",
    header: "",
    text: "Pages of this origin may not connect to this MQTT broker.\n",
};
const NO_SUBPROTOCOL: Answer = Answer {
    status: "400 Bad Request",
    header: "",
    text: "An MQTT client must offer the WebSocket subprotocol \"mqtt\".\n",
};
const TOO_LARGE: Answer = Answer {
    status: "431 Request Header Fields Too Large",
    header: "",
    text: "The request is too large.\n",
};

/// Reads the request and answers it. `peer` learns from it what the connection is told about its client.
pub(super) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    settings: &WebSocket,
    trusted: &TrustedProxies,
    peer: &mut Peer,
) -> Result<WebSocketStream<S>, Refused> {
    let answer = match read_request(&mut io).await? {
        Ok(request) => match respond(&request, settings) {
            Ok(response) => {
                io.write_all(&response).await?;
                io.flush().await?;
                learn(&request, settings, trusted, peer);
                return Ok(WebSocketStream::new(io));
            }
            Err(answer) => answer,
        },
        Err(answer) => answer,
    };
    let Answer { status, header, text } = answer;
    let size = text.len();
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {size}\r\n\
         {header}Connection: close\r\n\r\n{text}"
    );
    io.write_all(response.as_bytes()).await?;
    io.shutdown().await?;
    // What is not read would reset the connection before the answer is.
    let _ = tokio::time::timeout(FAREWELL_TIME, io.read(&mut [0; 1024])).await;
    Err(Refused(format!("WebSocket: answered {status}").into()))
}

async fn read_request(io: &mut (impl AsyncRead + Unpin)) -> Result<Result<Request, Answer>, Refused> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if bytes.len() >= LARGEST_REQUEST {
            return Ok(Err(TOO_LARGE));
        }
        if io.read_buf(&mut bytes).await? == 0 {
            return Err(Refused("WebSocket: the request has no end".into()));
        }
        return match Request::try_parse(&bytes) {
            Ok(None) => continue,
            Ok(Some((size, request))) if size == bytes.len() => Ok(Ok(request)),
            // A client must wait for the answer before it sends frames.
            Ok(Some(_)) => Ok(Err(BAD_REQUEST)),
            Err(error) => Ok(Err(explain(&error))),
        };
    }
}

/// The response that opens the connection, or why not.
fn respond(request: &Request, settings: &WebSocket) -> Result<Vec<u8>, Answer> {
    let mut response = create_response(request).map_err(|error| explain(&error))?;
    let path = request.uri().path();
    if path != "/" && path != &*settings.path {
        return Err(NOT_FOUND);
    }
    if !is_allowed_origin(request.headers(), &settings.origins) {
        return Err(FORBIDDEN);
    }
    if let Some(subprotocol) = subprotocol(request.headers())? {
        let value = HeaderValue::from_static(subprotocol);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(|_| BAD_REQUEST)?;
    Ok(bytes)
}

fn explain(error: &Error) -> Answer {
    match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => WRONG_METHOD,
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => NO_UPGRADE,
        _ => BAD_REQUEST,
    }
}

/// Clients that are no browsers send no origin.
fn is_allowed_origin(headers: &HeaderMap, origins: &[Box<str>]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    origins.is_empty()
        || origins
            .iter()
            .any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes()))
}

/// The subprotocol to choose; none if none is offered.
fn subprotocol(headers: &HeaderMap) -> Result<Option<&'static str>, Answer> {
    let mut offered = values(headers, header::SEC_WEBSOCKET_PROTOCOL.as_str()).peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    let offered: Vec<_> = offered.collect();
    let chosen = SUBPROTOCOLS.into_iter().find(|known| offered.contains(known));
    chosen.map(Some).ok_or(NO_SUBPROTOCOL)
}

/// The values of a header that is a list. One that is no text is empty: it must not hide those beside it, which a proxy
/// may have added.
fn values<'h>(headers: &'h HeaderMap, name: &'h str) -> impl DoubleEndedIterator<Item = &'h str> {
    let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let values = lines.flat_map(|line| line.split(|byte| *byte == b','));
    let values: Vec<&str> = values
        .map(|value| std::str::from_utf8(value).unwrap_or_default().trim())
        .collect();
    values.into_iter()
}

fn learn(request: &Request, settings: &WebSocket, trusted: &TrustedProxies, peer: &mut Peer) {
    if let Some(address) = forwarded_for(request.headers(), trusted, peer.address) {
        peer.address = Some(address);
    }
    if settings.keeps_request {
        let header = |(name, value): (&header::HeaderName, &HeaderValue)| {
            (name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into())
        };
        peer.upgrade = Some(std::sync::Arc::new(UpgradeRequest {
            path: request.uri().to_string().into(),
            headers: request.headers().iter().map(header).collect(),
        }));
    }
}

/// The last address that a trusted proxy does not vouch for as another proxy. Only a trusted proxy may say so.
fn forwarded_for(headers: &HeaderMap, trusted: &TrustedProxies, from: Option<SocketAddr>) -> Option<SocketAddr> {
    let mut nearest = from.filter(|from| trusted.contains(from.ip()))?;
    for hop in values(headers, "x-forwarded-for").rev() {
        let Some(address) = parse_hop(hop) else { break };
        nearest = address;
        if !trusted.contains(address.ip()) {
            break;
        }
    }
    Some(nearest)
}

/// An address, as proxies write it: with a port or without.
fn parse_hop(text: &str) -> Option<SocketAddr> {
    let without_port = |text: &str| {
        let ip: IpAddr = text.trim_matches(['[', ']']).parse().ok()?;
        Some(SocketAddr::new(ip, 0))
    };
    text.parse().ok().or_else(|| without_port(text))
}

#[cfg(test)]
mod tests;
