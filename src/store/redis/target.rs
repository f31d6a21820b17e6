//! Where a URL points to: a server, Sentinels that know one, or a cluster.

use std::path::Path;

use redis::{
    ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates,
};

use crate::store::{RedisSettings, StoreError};

/// Where a URL points to.
#[derive(Clone)]
pub(super) enum Target {
    Server(ConnectionInfo),
    Sentinels {
        /// With what they ask for themselves: name and password of their own.
        sentinels: Vec<ConnectionInfo>,
        /// The name under which they know the server.
        service: String,
        /// For the server that they name.
        server: RedisConnectionInfo,
        certificates: Option<TlsCertificates>,
    },
    Cluster {
        nodes: Vec<ConnectionInfo>,
        certificates: Option<TlsCertificates>,
    },
}

impl Target {
    /// # Errors
    /// If the URL is none, or a file can't be read.
    pub(super) fn new(settings: &RedisSettings) -> Result<Target, StoreError> {
        let target = Target::of_url(settings)?;
        Ok(match settings.password()? {
            Some(password) => target.with_password(&password),
            None => target,
        })
    }

    fn of_url(settings: &RedisSettings) -> Result<Target, StoreError> {
        let (scheme, rest) = settings
            .url
            .split_once("://")
            .ok_or_else(|| bad_url("it has no scheme"))?;
        let certificates = certificates(settings, scheme.starts_with("rediss"))?;
        match scheme {
            "redis" | "rediss" | "unix" | "redis+unix" => {
                let info = connection_info(&settings.url)?;
                Ok(Target::Server(with_tls(info, certificates.as_ref())?))
            }
            "redis+sentinel" | "rediss+sentinel" => sentinels(&scheme[..scheme.len() - 9], rest, certificates),
            "redis+cluster" | "rediss+cluster" => {
                let (hosts, path) = parts(rest);
                if !path.is_empty() {
                    return Err(bad_url("Redis Cluster has no numbered databases"));
                }
                let nodes = each_host(&scheme[..scheme.len() - 8], hosts, certificates.as_ref(), 6379)?;
                Ok(Target::Cluster { nodes, certificates })
            }
            _ => Err(bad_url(
                "its scheme is not redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster or rediss+cluster",
            )),
        }
    }

    fn with_password(self, password: &str) -> Target {
        let set = |info: ConnectionInfo| {
            let settings = info.redis_settings().clone().set_password(password);
            info.set_redis_settings(settings)
        };
        match self {
            Target::Server(info) => Target::Server(set(info)),
            Target::Sentinels {
                sentinels,
                service,
                server,
                certificates,
            } => Target::Sentinels {
                sentinels,
                service,
                server: server.set_password(password),
                certificates,
            },
            Target::Cluster { nodes, certificates } => Target::Cluster {
                nodes: nodes.into_iter().map(set).collect(),
                certificates,
            },
        }
    }

    /// Where Redis is, without names and passwords.
    pub(super) fn address(&self) -> String {
        match self {
            Target::Server(info) => info.addr().to_string(),
            Target::Sentinels { sentinels, service, .. } => {
                format!("{service} of the Sentinels {}", addresses(sentinels))
            }
            Target::Cluster { nodes, .. } => format!("the cluster of {}", addresses(nodes)),
        }
    }
}

/// `[user:password@]host[:port],…/service[/database][?sentinel-user=…&sentinel-password=…]`
fn sentinels(scheme: &str, rest: &str, certificates: Option<TlsCertificates>) -> Result<Target, StoreError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, path) = parts(rest);
    let (service, database) = path.split_once('/').unwrap_or((path, "0"));
    if service.is_empty() {
        return Err(bad_url(
            "behind the Sentinels it needs the name under which they know the server, as in /mymaster",
        ));
    }
    let server = connection_info(&format!("{scheme}://{}localhost/{database}", user(hosts)))?;
    let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
    let mut own = RedisConnectionInfo::default();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        own = match name {
            "sentinel-user" => own.set_username(decoded(value)?),
            "sentinel-password" => own.set_password(decoded(value)?),
            _ => return Err(bad_url("it has an unknown parameter")),
        };
    }
    let sentinels = each_host(scheme, hosts, certificates.as_ref(), 26379)?;
    Ok(Target::Sentinels {
        sentinels: sentinels
            .into_iter()
            .map(|info| info.set_redis_settings(own.clone()))
            .collect(),
        service: decoded(service)?,
        server: server.redis_settings().clone(),
        certificates,
    })
}

/// Percent-encoding is left to the crate: the value is read as the password of a URL.
fn decoded(value: &str) -> Result<String, StoreError> {
    let info = connection_info(&format!("redis://:{value}@localhost"))?;
    Ok(info.redis_settings().password().unwrap_or_default().to_owned())
}

/// The hosts, with name and password, and what follows the slash behind them.
fn parts(rest: &str) -> (&str, &str) {
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    (hosts, path.trim_end_matches('/'))
}

fn user(hosts: &str) -> &str {
    hosts.rfind('@').map_or("", |at| &hosts[..=at])
}

fn each_host(
    scheme: &str,
    hosts: &str,
    certificates: Option<&TlsCertificates>,
    default_port: u16,
) -> Result<Vec<ConnectionInfo>, StoreError> {
    let user = user(hosts);
    let hosts = &hosts[user.len()..];
    let one = |host: &str| {
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'));
        let port = if has_port {
            String::new()
        } else {
            format!(":{default_port}")
        };
        with_tls(
            connection_info(&format!("{scheme}://{user}{host}{port}"))?,
            certificates,
        )
    };
    hosts.split(',').map(one).collect()
}

/// The crate's messages have nothing of the URL but a wrong protocol.
fn connection_info(url: &str) -> Result<ConnectionInfo, StoreError> {
    if url.contains('#') {
        return Err(bad_url(
            "a # in it must be written as %23, and certificates are always checked",
        ));
    }
    url.into_connection_info().map_err(|error| bad_url(&error.to_string()))
}

fn bad_url(why: &str) -> StoreError {
    StoreError::Refused(format!("the URL of Redis can't be used: {why}"))
}

pub(super) fn with_tls(
    info: ConnectionInfo,
    certificates: Option<&TlsCertificates>,
) -> Result<ConnectionInfo, StoreError> {
    match (info.addr(), certificates) {
        (ConnectionAddr::TcpTls { .. }, Some(certificates)) => {
            let client = redis::Client::build_with_tls(info, certificates.clone());
            let client =
                client.map_err(|error| StoreError::Refused(format!("TLS to Redis can't be set up: {error}")))?;
            Ok(client.get_connection_info().clone())
        }
        _ => Ok(info),
    }
}

fn certificates(settings: &RedisSettings, is_tls: bool) -> Result<Option<TlsCertificates>, StoreError> {
    if !is_tls {
        return match settings.ca.is_some() || settings.certificate.is_some() {
            true => Err(StoreError::Refused(
                "certificates for Redis need a URL with rediss: without it nothing is encrypted".to_owned(),
            )),
            false => Ok(None),
        };
    }
    let root_cert = settings.ca.as_deref().map(read).transpose()?;
    let client = settings.certificate.as_ref();
    let client_tls = client
        .map(|(certificate, key)| {
            Ok::<_, StoreError>(ClientTlsConfig {
                client_cert: read(certificate)?,
                client_key: read(key)?,
            })
        })
        .transpose()?;
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|error| StoreError::Refused(format!("{} can't be read: {error}", path.display())))
}

fn addresses(all: &[ConnectionInfo]) -> String {
    let all: Vec<_> = all.iter().map(|info| info.addr().to_string()).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, StoreError> {
        Target::new(&RedisSettings::new(url))
    }

    #[test]
    fn urls_point_to_servers() {
        for (url, address) in [
            ("redis://localhost", "localhost:6379"),
            ("redis://user:p%40ss@10.0.0.1:7000/2", "10.0.0.1:7000"),
            ("rediss://[::1]:7", "::1:7"),
            ("unix:///run/redis.sock?db=1&user=u&pass=p", "/run/redis.sock"),
            (
                "redis+sentinel://u:p@a,b:5/main/3",
                "main of the Sentinels a:26379, b:5",
            ),
            ("redis+cluster://u:p@a:1,[::1]", "the cluster of a:1, ::1:6379"),
        ] {
            let target = target(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(target.address(), address, "{url}");
        }
    }

    #[test]
    fn the_sentinels_have_names_of_their_own() {
        let url = "redis+sentinel://u:p%2Fq@a/main/3?sentinel-user=s&sentinel-password=t%26";
        let Ok(Target::Sentinels { sentinels, server, .. }) = target(url) else {
            panic!("not Sentinels");
        };
        assert_eq!(
            (server.username(), server.password(), server.db()),
            (Some("u"), Some("p/q"), 3)
        );
        let own = sentinels[0].redis_settings();
        assert_eq!((own.username(), own.password()), (Some("s"), Some("t&")));
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for url in [
            "localhost",
            "http://u:secret@h",
            "redis://u:secret@",
            "redis://u:secret@h/x",
            "redis://u:sec#secret@h",
            "redis+sentinel://u:secret@h",
            "redis+cluster://u:secret@h/1",
        ] {
            let error = target(url).map(|_| ()).expect_err(url);
            assert!(matches!(error, StoreError::Refused(_)), "{url}: {error:?}");
            assert!(!error.to_string().contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn certificates_are_for_tls() {
        let mut settings = RedisSettings::new("redis://localhost");
        settings.ca = Some("ca.pem".into());
        assert!(matches!(Target::new(&settings), Err(StoreError::Refused(_))));
        settings.url = "rediss://localhost".into();
        let error = Target::new(&settings).map(|_| ()).expect_err("there is no such file");
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }

    #[test]
    fn the_password_of_the_file_goes_before_that_of_the_url() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut settings = RedisSettings::new("redis://u:old@h");
        let path = directory.path().join("password");
        std::fs::write(&path, "new\n").expect("written");
        settings.password_file = Some(path);
        let Ok(Target::Server(info)) = Target::new(&settings) else {
            panic!("no server");
        };
        let server = info.redis_settings();
        assert_eq!((server.username(), server.password()), (Some("u"), Some("new")));
    }
}
