//! The options with which clients connect, which are those of Mosquitto's clients.

use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::target::{Url, default_port};
use super::{Hello, PacketProperties, Place, Target, Trust, tls};
use crate::packet::{QoS, Version};
use crate::topic;

const BROKER: &str = "Where the broker is";
const CLIENT: &str = "Who the client is";
const TLS: &str = "TLS";
const WILL: &str = "Will";

/// Options of a client.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectOptions {
    /// Where the broker is: mqtt://[user[:password]@]host[:port][/topic], or with mqtts, ws, wss, mqtt+unix
    #[arg(short = 'L', long, value_name = "URL", help_heading = BROKER)]
    #[arg(conflicts_with_all = ["host", "port", "unix", "ws", "tls", "ws_path"])]
    url: Option<String>,
    /// Host [default: localhost]
    #[arg(short = 'h', long, value_name = "HOST", help_heading = BROKER)]
    host: Option<String>,
    /// Port [default: 1883, 8883 with TLS, 8888 with --ws, 8889 with both]
    #[arg(short, long, value_name = "PORT", help_heading = BROKER)]
    port: Option<u16>,
    /// Unix domain socket
    #[arg(long, value_name = "PATH", help_heading = BROKER, conflicts_with_all = ["host", "port", "ws", "tls", "cafile"])]
    unix: Option<PathBuf>,
    /// Over WebSocket
    #[arg(long, help_heading = BROKER)]
    ws: bool,
    /// Path of the WebSocket
    #[arg(long, value_name = "PATH", default_value = "/mqtt", help_heading = BROKER)]
    ws_path: String,

    /// Client identifier [default: the broker chooses (MQTT 5.0), or one by chance]
    #[arg(short, long, value_name = "ID", help_heading = CLIENT)]
    id: Option<String>,
    /// Client identifier that ends with the number of the process
    #[arg(short = 'I', long, value_name = "PREFIX", help_heading = CLIENT, conflicts_with = "id")]
    id_prefix: Option<String>,
    /// User name
    #[arg(short, long, value_name = "NAME", help_heading = CLIENT)]
    username: Option<String>,
    /// Password; other users of this machine can see it, unless it is in the environment variable
    #[arg(
        short = 'P',
        long = "pw",
        value_name = "PASSWORD",
        env = "BROKER_PASSWORD",
        hide_env_values = true,
        help_heading = CLIENT
    )]
    password: Option<OsString>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE", help_heading = CLIENT)]
    password_file: Option<PathBuf>,
    /// Keep the session when the client goes, and go on with it: needs -i
    #[arg(short = 'c', long, help_heading = CLIENT)]
    disable_clean_session: bool,
    /// Seconds for which the session is kept (MQTT 5.0); -1: without end [default: 0, -1 with -c]
    #[arg(
        short = 'x',
        long,
        value_name = "SECONDS",
        value_parser = expiry,
        allow_hyphen_values = true,
        help_heading = CLIENT
    )]
    session_expiry_interval: Option<u32>,
    /// Keep alive
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60, help_heading = CLIENT)]
    keepalive: u16,
    /// Protocol version [default: 311, 5 with -x or -D]
    #[arg(short = 'V', long, value_name = "VERSION", help_heading = CLIENT)]
    protocol_version: Option<Protocol>,
    /// Property of a packet (MQTT 5.0), such as `publish content-type text/plain`; may be repeated
    #[arg(
        short = 'D',
        long = "property",
        value_names = ["PACKET", "PROPERTY", "VALUE"],
        num_args = 3..=4,
        action = clap::ArgAction::Append,
        help_heading = CLIENT
    )]
    properties: Vec<String>,

    /// Over TLS, trusting the authorities of this system unless --cafile is given
    #[arg(long, help_heading = TLS)]
    tls: bool,
    /// Over TLS, trusting the authorities in this file, in PEM
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    cafile: Option<PathBuf>,
    /// The client's certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "key", help_heading = TLS)]
    cert: Option<PathBuf>,
    /// The key of the client's certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = TLS)]
    key: Option<PathBuf>,
    /// Accept a certificate that is for another name than the host's
    #[arg(long, help_heading = TLS)]
    insecure: bool,

    /// Topic of a message that the broker publishes if this client goes without a word
    #[arg(long, value_name = "TOPIC", help_heading = WILL)]
    will_topic: Option<String>,
    /// Its payload [default: none]
    #[arg(long, value_name = "PAYLOAD", requires = "will_topic", help_heading = WILL)]
    will_payload: Option<OsString>,
    /// Its QoS: 0, 1 or 2
    #[arg(
        long,
        value_name = "QOS",
        default_value = "0",
        value_parser = qos,
        requires = "will_topic",
        help_heading = WILL
    )]
    will_qos: QoS,
    /// It is retained
    #[arg(long, requires = "will_topic", help_heading = WILL)]
    will_retain: bool,

    /// Say nothing of errors; the exit code tells
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    #[value(name = "31", alias = "mqttv31", alias = "3.1")]
    V31,
    #[value(name = "311", alias = "mqttv311", alias = "3.1.1")]
    V311,
    #[value(name = "5", alias = "mqttv5", alias = "5.0")]
    V5,
}

impl ConnectOptions {
    /// All that is needed to connect, and the topic of the URL. `kind` is what an identifier begins with that is made
    /// up.
    pub(crate) fn hello(&self, kind: &str) -> Result<(Hello, Option<String>), String> {
        let url = self.url.as_deref().map(Url::parse).transpose()?;
        let properties = PacketProperties::parse(&self.properties)?;
        let version = self.version(&properties)?;
        let target = match &url {
            Some(url) => url.target.clone(),
            None => self.target(),
        };
        self.check(&target, version)?;
        let (of_url, password_of_url, topic) = match url {
            Some(url) => (url.username, url.password, url.topic),
            None => (None, None, None),
        };
        let username = self.username.clone().or(of_url);
        let password = self.password()?.or(password_of_url.map(String::into_bytes));
        if password.is_some() && username.is_none() {
            return Err("a password needs a user name: -u".to_owned());
        }
        for (name, length) in [
            ("-i", self.id.as_ref().map_or(0, String::len)),
            ("-u", username.as_ref().map_or(0, String::len)),
            ("the password", password.as_ref().map_or(0, Vec::len)),
            (
                "--will-payload",
                self.will_payload.as_ref().map_or(0, |will| will.len()),
            ),
        ] {
            if length > usize::from(u16::MAX) {
                return Err(format!("{name} has more than 65,535 bytes"));
            }
        }
        let hello = Hello {
            tls: self.tls_config(&target)?,
            target,
            version,
            client_id: self.client_id(kind, version),
            clean: !self.disable_clean_session,
            session_expiry_interval: self.session_expiry(),
            keep_alive: self.keepalive,
            username,
            password,
            will: self.will_topic.clone().map(|topic| {
                let payload = self.will_payload.clone().unwrap_or_default().into_vec();
                (topic, payload, self.will_qos, self.will_retain)
            }),
            properties,
        };
        Ok((hello, topic))
    }

    fn target(&self) -> Target {
        if let Some(path) = &self.unix {
            return Target {
                place: Place::Unix(path.clone()),
                tls: false,
                websocket: None,
            };
        }
        let tls = self.tls || self.cafile.is_some() || (self.port == Some(8883) && !self.ws);
        Target {
            place: Place::Tcp {
                host: self.host.clone().unwrap_or_else(|| "localhost".to_owned()),
                port: self.port.unwrap_or(default_port(tls, self.ws)),
            },
            tls,
            websocket: self.ws.then(|| self.ws_path.clone()),
        }
    }

    /// What would be without effect, or wrong.
    fn check(&self, target: &Target, version: Version) -> Result<(), String> {
        if !target.tls {
            let unused = [
                ("--cafile", self.cafile.is_some()),
                ("--cert", self.cert.is_some()),
                ("--insecure", self.insecure),
            ];
            if let Some((option, _)) = unused.iter().find(|(_, given)| *given) {
                return Err(format!("{option} is for TLS, and {target} is without"));
            }
        }
        if !self.ws_path.starts_with('/') || self.ws_path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("--ws-path must be a path, such as /mqtt".to_owned());
        }
        if self.disable_clean_session && self.id.as_ref().is_none_or(String::is_empty) && self.id_prefix.is_none() {
            return Err("-c needs a client identifier: -i".to_owned());
        }
        if let Some(will) = &self.will_topic {
            topic::check_name(will).map_err(|error| format!("--will-topic: {}", error.as_str()))?;
        }
        for (option, text) in [("-i", &self.id), ("-I", &self.id_prefix), ("-u", &self.username)] {
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                return Err(format!("{option} contains U+0000"));
            }
        }
        if version == Version::V31 && self.id.as_ref().is_some_and(String::is_empty) {
            return Err("MQTT 3.1 needs a client identifier".to_owned());
        }
        Ok(())
    }

    fn version(&self, properties: &PacketProperties) -> Result<Version, String> {
        let needs_v5 = self.session_expiry_interval.is_some() || *properties != PacketProperties::default();
        match self.protocol_version {
            Some(Protocol::V5) => Ok(Version::V5),
            Some(_) if needs_v5 => Err("-x and -D need MQTT 5.0: -V 5".to_owned()),
            None if needs_v5 => Ok(Version::V5),
            Some(Protocol::V31) => Ok(Version::V31),
            Some(Protocol::V311) | None => Ok(Version::V311),
        }
    }

    fn session_expiry(&self) -> u32 {
        let kept = if self.disable_clean_session { u32::MAX } else { 0 };
        self.session_expiry_interval.unwrap_or(kept)
    }

    fn client_id(&self, kind: &str, version: Version) -> String {
        let process = std::process::id();
        match (&self.id, &self.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => format!("{prefix}{process}"),
            (None, None) if version.is_v5() => String::new(),
            // Keyed with the system's randomness; at most 23 bytes, as every broker accepts.
            (None, None) => format!("{kind}-{:016x}", RandomState::new().hash_one(process)),
        }
    }

    /// The file wins over the variable; together with the option it is a contradiction that the parser can't see.
    fn password(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = &self.password_file else {
            return Ok(self.password.clone().map(OsString::into_vec));
        };
        let error = |reason: String| format!("--password-file {}: {reason}", path.display());
        let text = std::fs::read(path).map_err(|fault| error(fault.to_string()))?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(error("its first line is empty".to_owned()));
        }
        Ok(Some(line.to_vec()))
    }

    fn tls_config(
        &self,
        target: &Target,
    ) -> Result<Option<std::sync::Arc<tokio_rustls::rustls::ClientConfig>>, String> {
        if !target.tls {
            return Ok(None);
        }
        let trust = Trust::Authorities {
            file: self.cafile.clone(),
            check_name: !self.insecure,
        };
        let identity = self.cert.as_deref().zip(self.key.as_deref());
        tls::config(&trust, identity).map(Some)
    }
}

/// A QoS on the command line.
pub(crate) fn qos(text: &str) -> Result<QoS, String> {
    let value = text.parse().ok().and_then(QoS::from_u8);
    value.ok_or_else(|| "must be 0, 1 or 2".to_owned())
}

/// Seconds, with a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=1e9).contains(seconds));
    let seconds = seconds.ok_or_else(|| "must be seconds, such as 5 or 0.1".to_owned())?;
    Ok(Duration::from_secs_f64(seconds))
}

fn expiry(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "∞" => Ok(u32::MAX),
        text => text.parse().map_err(|_| "must be seconds, or -1".to_owned()),
    }
}
