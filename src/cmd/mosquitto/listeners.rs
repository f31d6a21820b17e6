//! Listeners of Mosquitto in our terms.

use super::conf::Place;
use super::model::{AccessFiles, Listener, Model, Opening, Work};
use super::values::Value;

/// Keys of a table, with their values.
pub(super) type Table = Vec<(&'static str, Value)>;

/// A listener that can be written, or why it can't be opened.
#[derive(Debug)]
pub(super) struct Translated {
    /// As a `[[listener]]` table.
    pub(super) table: Table,
    /// Empty if it can be opened.
    pub(super) obstacles: Vec<String>,
    pub(super) access: AccessFiles,
    pub(super) place: Option<Place>,
}

/// All that Mosquitto would open, in its order.
pub(super) fn translated(model: &Model) -> Vec<Translated> {
    let opened = |(_, listener): &(usize, &Listener)| listener.opening == Opening::Asked;
    let mut found: Vec<_> = model.listeners.iter().enumerate().filter(opened).collect();
    if found.is_empty() {
        // It serves its own machine then.
        found = model.listeners.iter().enumerate().take(1).collect();
    }
    found
        .into_iter()
        .map(|(index, listener)| translate(model, index, listener))
        .collect()
}

fn translate(model: &Model, index: usize, listener: &Listener) -> Translated {
    let (mut access, mut obstacles) = access(model, index, listener);
    obstacles.extend(certificate_obstacles(listener, &access));
    access.anonymous = Some(is_anonymous(listener, &access));
    let mut table = Table::new();
    table.push(("transport", Value::from(transport(listener))));
    match (&listener.unix_socket, host(listener)) {
        (Some(path), _) => table.push(("path", Value::Text(path.clone()))),
        (None, host) => {
            table.extend(host.map(|host| ("host", Value::Text(host))));
            table.push(("port", Value::Number(listener.port.into())));
        }
    }
    table.extend(tls(listener));
    if listener.websocket && !listener.origins.is_empty() {
        table.push(("ws-origin", Value::Texts(listener.origins.clone())));
    }
    if listener.proxy_protocol {
        table.push(("proxy-protocol", Value::Flag(true)));
        let everybody = ["0.0.0.0/0", "::/0"].map(str::to_owned);
        table.push(("trusted-proxies", Value::Texts(everybody.to_vec())));
    }
    table.extend(listener.limits.iter().cloned());
    Translated {
        table,
        obstacles,
        access,
        place: listener.place.clone(),
    }
}

fn transport(listener: &Listener) -> &'static str {
    match (listener.websocket, &listener.certificate) {
        _ if listener.unix_socket.is_some() => "unix",
        (false, None) => "tcp",
        (false, Some(_)) => "tls",
        (true, None) => "ws",
        (true, Some(_)) => "wss",
    }
}

fn host(listener: &Listener) -> Option<String> {
    match (&listener.host, listener.ipv) {
        (Some(host), _) => Some(host.clone()),
        (None, _) if listener.opening != Opening::Asked => Some("localhost".to_owned()),
        (None, Some(4)) => Some("0.0.0.0".to_owned()),
        (None, Some(_)) => Some("::".to_owned()),
        (None, None) => None,
    }
}

fn tls(listener: &Listener) -> Table {
    let text = |value: &String| Value::Text(value.clone());
    let mut table = Table::new();
    if let (Some(certificate), Some(key)) = (&listener.certificate, &listener.key) {
        table.push(("tls-cert", text(certificate)));
        table.push(("tls-key", text(key)));
        if listener.requires_certificate {
            table.extend(listener.authorities.as_ref().map(|file| ("tls-ca", text(file))));
            table.extend(listener.revoked.as_ref().map(|file| ("tls-crl", text(file))));
            table.push(("tls-client-auth", Value::from("required")));
        }
    }
    if listener.is_named_by_certificate {
        table.push(("tls-username", Value::from("cn")));
    }
    table
}

/// Who may do what at this listener, and what else guards it.
fn access(model: &Model, index: usize, listener: &Listener) -> (AccessFiles, Vec<String>) {
    let mut obstacles = listener.obstacles.clone();
    let mut access = match model.per_listener {
        true => listener.access.clone(),
        false => AccessFiles {
            anonymous: listener.access.anonymous.or(model.access.anonymous),
            ..model.access.clone()
        },
    };
    let plugins = model.plugins.iter();
    for plugin in plugins.filter(|plugin| plugin.is_global || plugin.listeners.contains(&index)) {
        match plugin.work() {
            Work::Passwords(Some(file)) if access.password_file.is_none() => access.password_file = Some(file.clone()),
            Work::Acl(Some(file)) if access.acl_file.is_none() => access.acl_file = Some(file.clone()),
            Work::Other => {}
            Work::Passwords(_) | Work::Acl(_) | Work::Unknown => {
                obstacles.push(format!(
                    "the plugin of {} guards it: give a password-file and an acl-file",
                    plugin.place
                ));
            }
        }
    }
    (access, obstacles)
}

/// What would let in clients that Mosquitto does not, or nobody.
fn certificate_obstacles(listener: &Listener, access: &AccessFiles) -> Vec<String> {
    let mut obstacles = Vec::new();
    let is_tls = listener.certificate.is_some();
    // The proxy has asked for it, and tells the name.
    let is_proxied = listener.proxy_protocol && listener.is_named_by_certificate;
    if listener.certificate.is_some() != listener.key.is_some() {
        obstacles.push("certfile and keyfile go together".to_owned());
    }
    if listener.requires_certificate {
        if listener.has_authorities_elsewhere {
            obstacles.push("capath has no counterpart".to_owned());
        } else if is_tls && listener.authorities.is_none() {
            obstacles.push("it requires certificates without a cafile".to_owned());
        } else if !is_tls && !is_proxied {
            obstacles.push("it requires certificates without TLS".to_owned());
        }
    } else if listener.is_named_by_certificate {
        obstacles.push("use_identity_as_username without require_certificate lets nobody in".to_owned());
    }
    if listener.unix_socket.is_some() && (is_tls || listener.websocket || listener.proxy_protocol) {
        obstacles.push("a Unix socket takes MQTT without TLS, WebSocket and PROXY headers".to_owned());
    }
    if is_nobody(listener, access) {
        obstacles
            .push("nobody may connect to it: there is no password_file, and allow_anonymous is not true".to_owned());
    }
    obstacles
}

/// Without a password file any user name is taken here.
fn is_nobody(listener: &Listener, access: &AccessFiles) -> bool {
    !listener.is_named_by_certificate && access.password_file.is_none() && !is_anonymous(listener, access)
}

fn is_anonymous(listener: &Listener, access: &AccessFiles) -> bool {
    let is_local = listener.opening != Opening::Asked;
    // Where certificates are names, nobody is without one.
    !listener.is_named_by_certificate && access.anonymous.unwrap_or(is_local)
}
