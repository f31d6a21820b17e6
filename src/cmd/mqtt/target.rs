//! Where a broker is, and how it is spoken to.

use std::fmt;
use std::path::PathBuf;

/// Where a broker is, and what lies between the socket and MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) place: Place,
    pub(crate) tls: bool,
    /// The path of the WebSocket.
    pub(crate) websocket: Option<String>,
}

/// The other end of the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// What a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) target: Target,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// The path of `mqtt:` and `mqtts:` is a topic.
    pub(crate) topic: Option<String>,
}

impl Target {
    pub(crate) fn tcp(host: impl Into<String>, port: u16) -> Target {
        Target {
            place: Place::Tcp {
                host: host.into(),
                port,
            },
            tls: false,
            websocket: None,
        }
    }

    fn scheme(&self) -> &'static str {
        match (&self.place, self.tls, &self.websocket) {
            (Place::Unix(_), ..) => "mqtt+unix",
            (_, false, None) => "mqtt",
            (_, true, None) => "mqtts",
            (_, false, Some(_)) => "ws",
            (_, true, Some(_)) => "wss",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.websocket.as_deref().unwrap_or_default();
        match &self.place {
            Place::Unix(path) => write!(f, "{}://{}", self.scheme(), path.display()),
            Place::Tcp { host, port } if host.contains(':') => write!(f, "{}://[{host}]:{port}{path}", self.scheme()),
            Place::Tcp { host, port } => write!(f, "{}://{host}:{port}{path}", self.scheme()),
        }
    }
}

/// Port of a scheme, which is also what this broker listens on.
pub(super) fn default_port(tls: bool, websocket: bool) -> u16 {
    match (tls, websocket) {
        (false, false) => 1883,
        (true, false) => 8883,
        (false, true) => 8888,
        (true, true) => 8889,
    }
}

impl Url {
    /// `mqtt://[user[:password]@]host[:port][/topic]`, the same with `mqtts`, `ws` and `wss` with the path of the
    /// WebSocket, and `mqtt+unix:///path`.
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("{text:?} is no URL, such as mqtt://localhost:1883"))?;
        let (tls, is_websocket) = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => (false, false),
            "mqtts" | "ssl" => (true, false),
            "ws" => (false, true),
            "wss" => (true, true),
            "mqtt+unix" => return Url::unix(rest),
            _ => return Err(format!("{scheme}: is none of mqtt, mqtts, ws, wss, mqtt+unix")),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, authority),
        };
        let (username, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            Some((name, "")) => (Some(decoded(name)?), None),
            Some((name, password)) => (Some(decoded(name)?), Some(decoded(password)?)),
            None => (None, None),
        };
        let (host, port) = split_address(address)?;
        let topic = decoded(path.trim_start_matches('/'))?;
        Ok(Url {
            target: Target {
                place: Place::Tcp {
                    host,
                    port: port.unwrap_or(default_port(tls, is_websocket)),
                },
                tls,
                websocket: is_websocket.then(|| if path.is_empty() { "/mqtt" } else { path }.to_owned()),
            },
            username,
            password,
            topic: Some(topic).filter(|topic| !topic.is_empty() && !is_websocket),
        })
    }

    fn unix(path: &str) -> Result<Url, String> {
        if !path.starts_with('/') {
            return Err("mqtt+unix: needs an absolute path, as in mqtt+unix:///run/broker/mqtt.sock".to_owned());
        }
        Ok(Url {
            target: Target {
                place: Place::Unix(decoded(path)?.into()),
                tls: false,
                websocket: None,
            },
            username: None,
            password: None,
            topic: None,
        })
    }
}

fn split_address(address: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or((!rest.is_empty()).then_some(rest))),
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err("the URL names no host".to_owned());
    }
    let port = port.map(|port| port.parse().map_err(|_| format!("{port:?} is no port")));
    Ok((host.to_owned(), port.transpose()?))
}

/// Without percent-encoding.
fn decoded(text: &str) -> Result<String, String> {
    let fault = || format!("{text:?}: what follows a % is not the code of a character");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let (code, tail) = tail.split_at_checked(2).ok_or_else(fault)?;
        let code = std::str::from_utf8(code).map_err(|_| fault())?;
        bytes.push(u8::from_str_radix(code, 16).map_err(|_| fault())?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| fault())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_every_scheme() {
        for (text, expected) in [
            ("mqtt://h", "mqtt://h:1883"),
            ("MQTTS://h:1/", "mqtts://h:1"),
            ("ws://h", "ws://h:8888/mqtt"),
            ("wss://[::1]/", "wss://[::1]:8889/"),
            ("wss://[::1]:7/a/b", "wss://[::1]:7/a/b"),
            ("mqtt+unix:///run/a%20b", "mqtt+unix:///run/a b"),
        ] {
            let url = Url::parse(text).expect("a URL");
            assert_eq!((url.target.to_string().as_str(), url.topic), (expected, None), "{text}");
        }
    }

    #[test]
    fn a_url_with_everything() {
        let url = Url::parse("mqtt://a%40b:p:%2F@h:2883/t/%23").expect("a URL");
        assert_eq!(url.target, Target::tcp("h", 2883));
        assert_eq!(url.username.as_deref(), Some("a@b"));
        assert_eq!(url.password.as_deref(), Some("p:/"));
        assert_eq!(url.topic.as_deref(), Some("t/#"));
        let url = Url::parse("mqtt://u@h").expect("a URL");
        assert_eq!((url.username.as_deref(), url.password), (Some("u"), None));
    }

    #[test]
    fn what_is_no_url() {
        for text in [
            "",
            "h:1883",
            "http://h",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://h:x",
            "mqtt://h:65536",
            "mqtt://[::1]x",
            "mqtt://h/%",
            "mqtt://h/%zz",
            "mqtt://h/%ff",
            "mqtt+unix://relative",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
