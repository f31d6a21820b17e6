//! A `[[listener]]` of the configuration file: a listener with settings of its own.
//!
//! What its table does not say is as for the whole broker. What it does say holds for it, whatever the environment and
//! the command line say of the broker.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Command, FromArgMatches};

use super::listening::spec::{Kind, Spec};
use super::options::Options;

/// Settings of the whole broker that a listener may have otherwise, by their long names.
pub(super) const SETTINGS: [&str; 54] = [
    "host",
    "tls-cert",
    "tls-key",
    "tls-ca",
    "tls-client-auth",
    "tls-crl",
    "tls-username",
    "ws-path",
    "ws-origin",
    "trusted-proxies",
    "tcp-keepalive",
    "max-connections",
    "password-file",
    "acl-file",
    "anonymous",
    "acl-subscribe",
    "denied-publish",
    "client-id-prefix",
    "client-id-is-username",
    "password-cache",
    "jwt-key-file",
    "jwt-jwks-file",
    "jwt-algorithms",
    "jwt-issuer",
    "jwt-audience",
    "jwt-from",
    "jwt-username-claim",
    "jwt-leeway",
    "auth-http-url",
    "auth-http-ca",
    "auth-http-timeout",
    "auth-http-cache",
    "max-packet-size",
    "max-topic-levels",
    "max-topic-length",
    "max-qos",
    "topic-alias-maximum",
    "topic-alias-maximum-out",
    "max-client-id-length",
    "empty-client-id",
    "connect-timeout",
    "max-keep-alive",
    "session-expiry-cap",
    "max-subscriptions",
    "max-subscription-bytes",
    "write-timeout",
    "max-inflight",
    "receive-maximum",
    "retain",
    "max-connections-per-address",
    "connection-rate",
    "message-rate",
    "byte-rate",
    "max-throttled",
];

/// Settings that a listener alone has, with what they may be.
pub(super) const OWN: [(&str, &str); 5] = [
    ("name", "a text"),
    ("transport", "\"tcp\", \"tls\", \"ws\", \"wss\" or \"unix\""),
    ("port", "a port"),
    ("path", "the path of a Unix domain socket"),
    ("proxy-protocol", "true or false"),
];

/// What clients of the listener come over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Transport {
    #[default]
    Tcp,
    Tls,
    Ws,
    Wss,
    Unix,
}

impl Transport {
    pub(super) fn parse(text: &str) -> Option<Transport> {
        Some(match text {
            "tcp" => Transport::Tcp,
            "tls" => Transport::Tls,
            "ws" => Transport::Ws,
            "wss" => Transport::Wss,
            "unix" => Transport::Unix,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
            Transport::Unix => "unix",
        }
    }

    /// `None` for a Unix domain socket.
    fn kind(self) -> Option<(Kind, u16)> {
        Some(match self {
            Transport::Tcp => (Kind::Tcp, 1883),
            Transport::Tls => (Kind::Tls, 8883),
            Transport::Ws => (Kind::Ws, 8888),
            Transport::Wss => (Kind::Wss, 8889),
            Transport::Unix => return None,
        })
    }
}

/// A table as it stands in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct ListenerTable {
    /// Where it begins in the file.
    pub(super) line: usize,
    pub(super) name: Option<String>,
    pub(super) transport: Transport,
    pub(super) port: Option<u16>,
    pub(super) path: Option<PathBuf>,
    pub(super) proxy_protocol: Option<bool>,
    /// Names and options of the rest.
    pub(super) settings: Vec<(String, Vec<OsString>)>,
}

/// A listener with all of its settings.
#[derive(Debug)]
pub(super) struct ListenerOptions {
    pub(super) name: Arc<str>,
    pub(super) options: Box<Options>,
    /// What its table says, as the command line would.
    pub(super) own: Vec<String>,
}

impl ListenerTable {
    /// Its settings, on top of those of the broker in `arguments`.
    pub(super) fn resolve(&self, command: &Command, arguments: &[OsString]) -> Result<ListenerOptions, String> {
        self.check()?;
        let own = self.settings.iter().flat_map(|(_, options)| options.iter().cloned());
        let own: Vec<_> = own.collect();
        let all = arguments.iter().cloned().chain(own);
        let mut options = parse(command, all)?;
        if self.has("ws-origin") {
            // Those of the broker are not added to the listener's own.
            let of_list = |(name, _): &&(String, _)| name == "ws-origin";
            let origin = self.settings.iter().filter(of_list);
            let origin = origin.flat_map(|(_, options)| options.iter().cloned());
            let alone = parse(command, std::iter::once("broker".into()).chain(origin))?;
            options.listening.take_origins(alone.listening);
        }
        self.place(&mut options)?;
        let shown = self.settings.iter().flat_map(|(_, options)| options);
        let own = shown.map(|option| option.to_string_lossy().into_owned()).collect();
        let name = self.name.clone().unwrap_or_else(|| self.default_name());
        Ok(ListenerOptions {
            name: name.into(),
            options: Box::new(options),
            own,
        })
    }

    /// What would be silently without effect.
    fn check(&self) -> Result<(), String> {
        let transport = self.transport.name();
        let only_for = |setting: &str, transports: &str| {
            Err(format!(
                "{setting:?} is for transport {transports}, and this listener's is \"{transport}\""
            ))
        };
        let is_unix = self.transport == Transport::Unix;
        let (has_tls, has_websocket) = self
            .transport
            .kind()
            .map_or((false, false), |(kind, _)| (kind.has_tls(), kind.has_websocket()));
        if is_unix != self.path.is_some() {
            return match is_unix {
                true => Err("a listener with transport \"unix\" needs a \"path\"".to_owned()),
                false => only_for("path", "\"unix\""),
            };
        }
        if is_unix && self.port.is_some() {
            return only_for("port", "\"tcp\", \"tls\", \"ws\" and \"wss\"");
        }
        for (name, _) in &self.settings {
            let is_proxied = self.proxy_protocol == Some(true) && name == "tls-username";
            if name.starts_with("tls-") && !has_tls && !is_proxied {
                return only_for(name, "\"tls\" and \"wss\"");
            }
            if name.starts_with("ws-") && !has_websocket {
                return only_for(name, "\"ws\" and \"wss\"");
            }
            let is_of_tcp = ["host", "trusted-proxies", "tcp-keepalive"].contains(&name.as_str());
            if is_unix && is_of_tcp {
                return only_for(name, "\"tcp\", \"tls\", \"ws\" and \"wss\"");
            }
        }
        Ok(())
    }

    /// Makes it the only listener of its options.
    fn place(&self, options: &mut Options) -> Result<(), String> {
        let listening = &mut options.listening;
        match (self.transport.kind(), &self.path) {
            (Some((kind, default)), _) => {
                listening.only_port(kind, self.port.unwrap_or(default));
                match self.proxy_protocol {
                    Some(expects) => listening.expect_proxies(kind, expects),
                    None => listening.keep_proxies(Some(kind)),
                }
                if kind.has_tls() && !listening.has_certificate() {
                    return Err("a listener with TLS needs \"tls-cert\" and \"tls-key\"".to_owned());
                }
                if self.proxy_protocol == Some(true) && !listening.trusts_proxies() {
                    return Err("\"proxy-protocol\" needs \"trusted-proxies\"".to_owned());
                }
            }
            (None, Some(path)) => {
                listening.only_unix(path.clone());
                listening.keep_proxies(None);
            }
            (None, None) => {}
        }
        if self.has("tls-username") {
            listening.check_names()?;
        }
        Ok(())
    }

    fn has(&self, setting: &str) -> bool {
        self.settings.iter().any(|(name, _)| name == setting)
    }

    fn default_name(&self) -> String {
        let transport = self.transport.name();
        match (self.transport.kind(), &self.path) {
            (None, Some(path)) => format!("{transport}:{}", path.display()),
            (kind, _) => {
                let port = self.port.or(kind.map(|(_, default)| default)).unwrap_or_default();
                format!("{transport}:{port}")
            }
        }
    }
}

fn parse(command: &Command, arguments: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let command = command.clone().args_override_self(true);
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Options::from_arg_matches(&matches));
    parsed.map_err(|error| super::config_file::reason(&error))
}

impl ListenerOptions {
    /// What it listens on.
    pub(super) fn specs(&self) -> Result<Vec<Spec>, String> {
        let specs = self
            .options
            .listening
            .specs(Some(&self.name), self.options.access.anonymous());
        specs.map_err(|error| format!("listener {:?}: {error}", self.name))
    }
}
