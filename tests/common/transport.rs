//! What the tests of the protocol run over: everything in MQTT holds for every transport.

use super::stream::Stream;
use super::{DEADLINE, certificates};
use std::net::SocketAddr;

/// What lies between MQTT and the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Tls,
    WebSocket,
    SecureWebSocket,
}

impl Transport {
    /// What `CONF_TRANSPORT` says, TCP without it.
    pub fn chosen() -> Transport {
        match std::env::var("CONF_TRANSPORT").as_deref() {
            Err(_) | Ok("tcp") => Transport::Tcp,
            Ok("tls") => Transport::Tls,
            Ok("ws") => Transport::WebSocket,
            Ok("wss") => Transport::SecureWebSocket,
            Ok(other) => panic!("CONF_TRANSPORT={other} is not tcp, tls, ws or wss"),
        }
    }

    /// The scheme of the broker's announcement.
    pub fn scheme(self) -> &'static str {
        match self {
            Transport::Tcp => "mqtt",
            Transport::Tls => "mqtts",
            Transport::WebSocket => "ws",
            Transport::SecureWebSocket => "wss",
        }
    }

    /// Options with which a broker listens for it.
    pub fn options(self) -> Vec<String> {
        let (cert, key) = (certificates::path("server.pem"), certificates::path("server.key"));
        let tls = ["--tls-cert", &cert, "--tls-key", &key];
        let options: &[&[&str]] = match self {
            Transport::Tcp => &[],
            Transport::Tls => &[&tls, &["--tls-port", "0"]],
            Transport::WebSocket => &[&["--ws-port", "0"]],
            Transport::SecureWebSocket => &[&tls, &["--tls-port", "off", "--wss-port", "0"]],
        };
        options.concat().into_iter().map(str::to_owned).collect()
    }

    /// A connection that is ready for MQTT.
    pub fn connect(self, addr: SocketAddr) -> Stream {
        let stream = Stream::tcp(addr);
        let opened = match self {
            Transport::Tcp => Ok(stream),
            Transport::Tls => stream.tls(&certificates::any_client()),
            Transport::WebSocket => stream.websocket("/mqtt"),
            Transport::SecureWebSocket => stream
                .tls(&certificates::any_client())
                .and_then(|stream| stream.websocket("/mqtt")),
        };
        opened.unwrap_or_else(|error| panic!("no connection over {self:?} within {DEADLINE:?}: {error}"))
    }
}
