//! What each setting of a `mosquitto.conf` means.

use std::rc::Rc;

use super::conf::Line;
use super::model::{Listener, Model, Opening, Plugin};
use super::settings::{self, Fate};
use super::values::{self, Value};

/// Bytes of a packet: what this broker takes.
const SMALLEST_PACKET: u64 = 64;
const LARGEST_PACKET: u64 = 268_435_460;
/// Bytes of memory that this broker takes at least.
const LEAST_MEMORY: u64 = 16 * 1024 * 1024;
/// What a packet has beside its payload, at most, if it has no properties.
const ROOM_FOR_TOPIC: u64 = 65_536;

impl Model {
    /// Takes a line.
    pub(super) fn take(&mut self, line: &Line) -> Result<(), String> {
        let Some(setting) = settings::find(&line.name) else {
            return Err(unknown(&line.name));
        };
        match setting.fate {
            Fate::Translated => self
                .translate(line)
                .map_err(|reason| format!("{}: {reason}", line.name)),
            Fate::NotNeeded => {
                self.note(line, "is not needed", setting.text);
                Ok(())
            }
            Fate::Missing if settings::is_of_a_bridge(setting) => {
                self.note(line, "goes with the bridge", "none of it is translated");
                Ok(())
            }
            Fate::Missing => {
                self.note(line, "has no counterpart", setting.text);
                self.obstruct(line)
            }
        }
    }

    /// What has no counterpart and keeps clients out or apart: without it the listener must not be opened.
    fn obstruct(&mut self, line: &Line) -> Result<(), String> {
        let word = || values::flag(&line.value).map_err(|reason| format!("{}: {reason}", line.name));
        let is_guard = match &*line.name {
            "bind_interface" | "mount_point" | "psk_hint" => true,
            "use_subject_as_username" | "proxy_protocol_v2_require_tls" => word()?,
            _ => false,
        };
        if line.name == "capath" {
            self.here(line).has_authorities_elsewhere = true;
        } else if is_guard {
            let reason = format!("{} has no counterpart", line.name);
            self.here(line).obstacles.push(reason);
        }
        Ok(())
    }

    fn translate(&mut self, line: &Line) -> Result<(), String> {
        let value = &*line.value;
        match &*line.name {
            "listener" => self.listener(line),
            "per_listener_settings" => {
                // Once on, it stays so.
                self.per_listener |= values::flag(value)?;
                Ok(())
            }
            "acl_file" | "password_file" | "allow_anonymous" => self.access_setting(line),
            "plugin" | "auth_plugin" | "global_plugin" | "plugin_load" | "plugin_use" => self.plugin(line),
            name if name.starts_with("plugin_opt_") || name.starts_with("auth_opt_") => {
                self.plugin_option(line);
                Ok(())
            }
            "log_dest" | "log_type" | "connection_messages" => self.log_setting(line),
            "persistence" | "retained_persistence" => {
                self.persistence.0 = values::flag(value)?;
                Ok(())
            }
            "persistence_location" => {
                self.persistence.1 = Some(values::text(value)?);
                Ok(())
            }
            "allow_zero_length_clientid" | "clientid_prefixes" | "use_username_as_clientid" => self.client_ids(line),
            "global_max_connections"
            | "max_inflight_messages"
            | "max_keepalive"
            | "max_packet_size"
            | "max_queued_bytes"
            | "max_queued_messages"
            | "memory_limit"
            | "message_size_limit"
            | "persistent_client_expiration"
            | "retain_available"
            | "sys_interval" => self.general_setting(line),
            _ => self.listener_setting(line),
        }
    }

    fn listener(&mut self, line: &Line) -> Result<(), String> {
        let port = values::number_within(&line.value, 0, 65_535)?;
        let second = line.value.split([' ', '\t']).filter(|word| !word.is_empty()).nth(1);
        let second = second.filter(|word| !word.starts_with('#')).map(str::to_owned);
        let mut listener = Listener {
            place: Some(line.place.clone()),
            opening: Opening::Asked,
            port: port as u16,
            ..Listener::default()
        };
        match (port, second) {
            (0, None) => return Err("port 0 stands before the path of a Unix socket".to_owned()),
            (0, path) => listener.unix_socket = path,
            (_, host) => listener.host = host,
        }
        self.listeners.push(listener);
        self.current
            .insert(Rc::clone(&line.place.path), self.listeners.len() - 1);
        Ok(())
    }

    fn access_setting(&mut self, line: &Line) -> Result<(), String> {
        let access = self.access(line);
        match &*line.name {
            "acl_file" => access.acl_file = Some(values::text(&line.value)?),
            "password_file" => access.password_file = Some(values::text(&line.value)?),
            _ => access.anonymous = Some(values::flag(&line.value)?),
        }
        Ok(())
    }

    fn plugin(&mut self, line: &Line) -> Result<(), String> {
        let value = values::text(&line.value)?;
        if line.name == "plugin_use" {
            let current = self.current(line);
            let loaded = self
                .plugins
                .iter_mut()
                .find(|plugin| plugin.name.as_ref() == Some(&value));
            let plugin = loaded.ok_or_else(|| "there is no plugin_load with this name before it".to_owned())?;
            plugin.listeners.push(current);
            return Ok(());
        }
        let (name, path) = match &*line.name {
            "plugin_load" => {
                let (name, path) = value.split_once(' ').ok_or("a name and a file".to_owned())?;
                (Some(name.to_owned()), path.trim().to_owned())
            }
            _ => (None, value),
        };
        let is_of_one = name.is_none() && line.name != "global_plugin" && self.per_listener;
        self.plugins.push(Plugin {
            place: line.place.clone(),
            is_global: name.is_none() && !is_of_one,
            name,
            path,
            file: None,
            listeners: is_of_one.then(|| self.current(line)).into_iter().collect(),
        });
        Ok(())
    }

    fn plugin_option(&mut self, line: &Line) {
        let option = line
            .name
            .trim_start_matches("plugin_opt_")
            .trim_start_matches("auth_opt_");
        if let Some(plugin) = self.plugins.last_mut()
            && matches!(option, "password_file" | "acl_file")
        {
            plugin.file = Some(line.value.clone());
        }
    }

    fn log_setting(&mut self, line: &Line) -> Result<(), String> {
        let word = line.value.split(' ').next().unwrap_or_default();
        match (&*line.name, word) {
            ("connection_messages", word) => {
                if values::flag(word)? {
                    self.verbose(1);
                }
            }
            (_, "none") => self.set("quiet", Value::Flag(true)),
            ("log_dest", "stderr") | ("log_type", "warning" | "notice" | "information" | "websockets" | "internal") => {
                self.forget_quiet();
            }
            ("log_dest", _) => self.note_value(line),
            (_, "error") if !self.has("verbose") && !self.has("quiet") => self.set("quiet", Value::Flag(true)),
            (_, "error") => {}
            (_, "all" | "debug") => self.verbose(2),
            (_, "subscribe" | "unsubscribe") => self.verbose(1),
            (_, word) => return Err(format!("{word:?} is no type of messages")),
        }
        Ok(())
    }

    /// Several lines add up.
    fn forget_quiet(&mut self) {
        self.settings.retain(|(name, _)| *name != "quiet");
        if !self.has("verbose") {
            self.set("verbose", Value::Number(0));
        }
    }

    fn verbose(&mut self, level: u64) {
        self.forget_quiet();
        let before = self.settings.iter().find_map(|(name, value)| match value {
            Value::Number(level) if *name == "verbose" => Some(*level),
            _ => None,
        });
        self.set("verbose", Value::Number(level.max(before.unwrap_or_default())));
    }

    fn client_ids(&mut self, line: &Line) -> Result<(), String> {
        match &*line.name {
            "allow_zero_length_clientid" => {
                let allowed = Value::Flag(values::flag(&line.value)?);
                match self.per_listener {
                    true => self.limit_here(line, "empty-client-id", allowed),
                    false => self.set("empty-client-id", allowed),
                }
            }
            "clientid_prefixes" => {
                let prefix = values::text(&line.value)?;
                if prefix.contains("%u") {
                    // There it is two letters, here the user name.
                    self.note_value(line);
                }
                self.set("client-id-prefix", Value::Text(prefix));
            }
            _ => {
                if values::flag(&line.value)? {
                    self.limit_here(line, "client-id-is-username", Value::Flag(true));
                    self.note_value(line);
                }
            }
        }
        Ok(())
    }

    fn general_setting(&mut self, line: &Line) -> Result<(), String> {
        let value = &*line.value;
        match &*line.name {
            "global_max_connections" => {
                if let Ok(count @ 1..) = u64::try_from(values::number(value)?) {
                    self.set("max-connections", Value::Number(count));
                }
            }
            "max_inflight_messages" => {
                let count = match values::number(value)? {
                    ..=0 => 65_535,
                    _ => values::number_within(value, 1, 65_535)?,
                };
                self.set("max-inflight", Value::Number(count));
            }
            "max_keepalive" => match values::number_within(value, 0, 65_535)? {
                0 | 65_535 => {}
                seconds => self.set("max-keep-alive", Value::Number(seconds)),
            },
            "max_packet_size" | "message_size_limit" => self.size(line)?,
            "memory_limit" => match values::bytes(value)? {
                0 => {}
                bytes => self.set("max-memory", Value::Number(bytes.max(LEAST_MEMORY))),
            },
            "max_queued_bytes" => self.bound(line, "max-queued-bytes")?,
            "max_queued_messages" => self.bound(line, "max-queued-messages")?,
            "persistent_client_expiration" => {
                let seconds = values::duration(value)?.min(u64::from(u32::MAX) - 1);
                self.set("session-expiry-cap", Value::Number(seconds));
            }
            "retain_available" => {
                let retain = values::flag(value)?;
                self.set("retain", Value::Flag(retain));
            }
            _ => {
                let seconds = values::number_within(value, 0, 65_535)?;
                self.set("sys-interval", Value::Number(seconds));
            }
        }
        Ok(())
    }

    fn size(&mut self, line: &Line) -> Result<(), String> {
        if line.name == "max_packet_size" {
            let size = values::number_within(&line.value, 20, i64::from(i32::MAX))?;
            self.packet_size(size.clamp(SMALLEST_PACKET, LARGEST_PACKET));
            return Ok(());
        }
        let limit = values::number_within(&line.value, 0, 268_435_455)?;
        if limit > 0 {
            self.packet_size((limit + ROOM_FOR_TOPIC).min(LARGEST_PACKET));
            self.note_value(line);
        }
        Ok(())
    }

    /// What has no bound there has ours.
    fn bound(&mut self, line: &Line, name: &'static str) -> Result<(), String> {
        match u64::try_from(values::number(&line.value)?) {
            Ok(0) | Err(_) => self.note_value(line),
            Ok(count) => self.set(name, Value::Number(count)),
        }
        Ok(())
    }

    /// The smaller of what two settings say.
    fn packet_size(&mut self, size: u64) {
        let before = self.settings.iter().find_map(|(name, value)| match value {
            Value::Number(size) if *name == "max-packet-size" => Some(*size),
            _ => None,
        });
        self.set("max-packet-size", Value::Number(size.min(before.unwrap_or(size))));
        self.has_packet_size = true;
    }

    fn listener_setting(&mut self, line: &Line) -> Result<(), String> {
        let value = &*line.value;
        let mut is_untranslated = false;
        match &*line.name {
            // They are about the default listener, wherever they stand.
            "port" | "bind_address" => self.default_listener(line)?,
            "cafile" => self.here(line).authorities = Some(values::text(value)?),
            "certfile" => self.here(line).certificate = Some(values::text(value)?),
            "keyfile" => self.here(line).key = Some(values::text(value)?),
            "crlfile" => self.here(line).revoked = Some(values::text(value)?),
            "require_certificate" => self.here(line).requires_certificate = values::flag(value)?,
            "use_identity_as_username" => {
                self.here(line).is_named_by_certificate = values::flag(value)?;
            }
            "listener_allow_anonymous" => self.here(line).access.anonymous = Some(values::flag(value)?),
            "websockets_origin" => {
                let origin = values::text(value)?;
                self.here(line).origins.push(origin);
            }
            "enable_proxy_protocol" => {
                values::number_within(value, 1, 2)?;
                self.here(line).proxy_protocol = true;
            }
            "socket_domain" => {
                let version = match value.split(' ').next() {
                    Some("ipv4") => 4,
                    Some("ipv6") => 6,
                    _ => return Err("it is ipv4 or ipv6".to_owned()),
                };
                self.here(line).ipv = Some(version);
            }
            "protocol" => match value.split(' ').next() {
                Some("mqtt") => self.here(line).websocket = false,
                Some("websockets") => self.here(line).websocket = true,
                Some("http_api") => {
                    let obstacle = "it is for HTTP: see `http-port`".to_owned();
                    self.here(line).obstacles.push(obstacle);
                }
                _ => return Err("it is mqtt, websockets or http_api".to_owned()),
            },
            "tls_keyform" if value == "engine" => {
                let obstacle = "tls_keyform engine has no counterpart".to_owned();
                self.here(line).obstacles.push(obstacle);
            }
            "tls_keyform" => {}
            "tls_version" => is_untranslated = value != "tlsv1.2",
            _ => self.limit(line)?,
        }
        if is_untranslated {
            self.note_value(line);
        }
        Ok(())
    }

    fn default_listener(&mut self, line: &Line) -> Result<(), String> {
        let listener = &mut self.listeners[0];
        match &*line.name {
            "port" => listener.port = values::number_within(&line.value, 1, 65_535)? as u16,
            _ => listener.host = Some(values::text(&line.value)?),
        }
        if listener.opening != Opening::Asked {
            listener.place = Some(line.place.clone());
        }
        listener.opening = Opening::Asked;
        self.current.insert(Rc::clone(&line.place.path), 0);
        Ok(())
    }

    fn limit(&mut self, line: &Line) -> Result<(), String> {
        let value = &*line.value;
        let alias = || values::number_within(value, 0, 65_535).map(Value::Number);
        let (name, value) = match &*line.name {
            "max_connections" => match values::number(value)? {
                ..=0 => return Ok(()),
                count => ("max-connections", Value::Number(count.unsigned_abs())),
            },
            "max_qos" | "maximum_qos" => ("max-qos", Value::Number(values::number_within(value, 0, 2)?)),
            "max_topic_alias" => ("topic-alias-maximum", alias()?),
            "max_topic_alias_broker" => ("topic-alias-maximum-out", alias()?),
            // The table and this function know the same names, which a test holds.
            name => return Err(format!("{name} is not translated")),
        };
        self.limit_here(line, name, value);
        Ok(())
    }
}

fn unknown(name: &str) -> String {
    let shown: String = name.chars().take(64).collect();
    match settings::similar(name) {
        Some(similar) => format!("Mosquitto has no setting {shown:?}; is it {similar:?} that is meant?"),
        None => format!("Mosquitto has no setting {shown:?}"),
    }
}
