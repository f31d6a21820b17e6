//! `broker healthcheck`: asks a broker whether it is there.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::listening::spec::{At, Kind, Spec};
use super::options::{Fault, Options, Parsed};
use super::values::seconds;
use crate::cmd::healthcheck;
use crate::cmd::mqtt::{Place, Target, Url};

/// Tells whether a broker answers, by the exit code: 0 or 1, and one line that says why.
///
/// It opens an MQTT connection; any answer of a broker is a sign of health, also one that refuses the connection.
/// Without a URL, host or port it asks the broker that the environment and the configuration file describe, as in a
/// container.
#[derive(Clone, Debug, Args)]
pub(super) struct Healthcheck {
    /// What to connect to, such as mqtts://localhost:8883; with mqtt, mqtts, ws, wss, mqtt+unix
    #[arg(conflicts_with_all = ["host", "port", "http"])]
    url: Option<String>,
    /// Host to connect to [default: 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Port to connect to, without TLS [default: 1883]
    #[arg(long, short, value_name = "PORT")]
    port: Option<u16>,
    /// Ask over HTTP instead, whether the broker is ready; the URL is that of its HTTP listener unless another is given
    #[arg(
        long,
        value_name = "URL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        conflicts_with_all = ["host", "port"]
    )]
    http: Option<String>,
    /// Time for the answer
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    timeout: Duration,
}

/// Does what the command says. `Ok` has been printed.
pub(super) fn run(options: &Healthcheck) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("can't start: {error}"))?;
    let asked = match options.what()? {
        What::Mqtt(target) => {
            let connected = runtime.block_on(healthcheck::connect(&target, options.timeout));
            connected.map(|()| format!("{target} answers"))
        }
        What::Http { authority, path } => {
            let asked = runtime.block_on(healthcheck::get(&authority, &path, options.timeout));
            asked.map(|()| format!("http://{authority}{path} answers"))
        }
    };
    let text = asked.map_err(|reason| format!("not healthy: {reason}"))?;
    println!("{text}");
    Ok(())
}

/// What is asked.
enum What {
    Mqtt(Target),
    Http { authority: String, path: String },
}

impl Healthcheck {
    fn what(&self) -> Result<What, String> {
        match (&self.http, &self.url) {
            (Some(url), _) if !url.is_empty() => return http(url),
            (None, Some(url)) => return Ok(What::Mqtt(Url::parse(url)?.target)),
            (None, None) if self.host.is_some() || self.port.is_some() => {
                let host = self.host.as_deref().unwrap_or("127.0.0.1");
                return Ok(What::Mqtt(Target::tcp(
                    host.trim_matches(['[', ']']),
                    self.port.unwrap_or(1883),
                )));
            }
            _ => {}
        }
        let options = configured()?;
        let of_http = options.listening.http_address().map(|address| What::Http {
            authority: reachable(address).to_string(),
            path: "/readyz".to_owned(),
        });
        if self.http.is_some() {
            return of_http.ok_or_else(|| "there is no HTTP listener to ask: BROKER_HTTP_PORT".to_owned());
        }
        let target = plainest(&options.specs()?).map(What::Mqtt);
        target.or(of_http).ok_or_else(|| {
            "there is no listener that could be asked: all have port 0, or expect the header of a proxy".to_owned()
        })
    }
}

/// The options of a broker that is started with this environment.
fn configured() -> Result<Options, String> {
    let parsed = Parsed::new(vec![OsString::from("broker")]).map_err(|fault| match fault {
        Fault::Parser(error) => super::config_file::reason(&error),
        Fault::File(reason) => reason,
    })?;
    Ok(parsed.options)
}

/// The listener with the least between the socket and MQTT. Those that expect the header of a proxy are left out.
fn plainest(specs: &[Spec]) -> Option<Target> {
    let rank = |spec: &&Spec| match (&spec.at, spec.kind) {
        (At::Unix(_), _) => 4,
        (_, Kind::Tcp) => 0,
        (_, Kind::Ws) => 1,
        (_, Kind::Tls) => 2,
        (_, Kind::Wss) => 3,
    };
    let usable = specs.iter().filter(|spec| !spec.is_proxied && !spec.has_chosen_port());
    let spec = usable.min_by_key(rank)?;
    let websocket = spec.websocket.as_ref().map(|websocket| websocket.path.to_string());
    Some(match &spec.at {
        At::Unix(path) => Target {
            place: Place::Unix(path.clone()),
            tls: false,
            websocket: None,
        },
        At::Tcp { address, .. } => {
            let address = reachable(*address);
            Target {
                tls: spec.kind.has_tls(),
                websocket,
                ..Target::tcp(address.ip().to_string(), address.port())
            }
        }
    })
}

/// The loopback interface where all interfaces are meant. Who listens on those of IPv6 has those of IPv4 as well.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        false => address,
    }
}

fn http(url: &str) -> Result<What, String> {
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| format!("--http={url}: is no URL that begins with http://"))?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/readyz"),
    };
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("--http={url}: is no URL"));
    }
    Ok(What::Http {
        authority: if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        },
        path: path.to_owned(),
    })
}
