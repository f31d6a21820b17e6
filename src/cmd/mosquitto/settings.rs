//! Every setting of `mosquitto.conf`, of Mosquitto 2.0 and 2.1 and older ones that these still accept, and what becomes of
//! it.
//!
//! `docs/migration-mosquitto.md` has a row with the same text for each; a test holds that.

use crate::access::similar;

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is translated; where its value has no counterpart, a note says so.
    Translated,
    /// It may be left out: what it asks for is so anyway, or is not a matter of this broker.
    NotNeeded,
    /// There is nothing like it.
    Missing,
}

/// A setting of Mosquitto's.
#[derive(Debug)]
pub(super) struct Setting {
    /// With `*` at the end, all that begin like it.
    pub(super) name: &'static str,
    pub(super) fate: Fate,
    /// What takes its place, or why nothing does.
    pub(super) text: &'static str,
}

/// The setting of this name.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| match setting.name.strip_suffix('*') {
        Some(start) => name.len() > start.len() && name.starts_with(start),
        None => setting.name == name,
    })
}

/// Whether it belongs to a `connection`, which says what is to be said.
pub(super) fn is_of_a_bridge(setting: &Setting) -> bool {
    setting.text == BRIDGE && setting.name != "connection"
}

/// A name that may have been meant.
pub(super) fn similar(name: &str) -> Option<&'static str> {
    similar::nearest(name, SETTINGS.iter().map(|setting| setting.name))
}

const fn translated(name: &'static str, text: &'static str) -> Setting {
    Setting {
        name,
        fate: Fate::Translated,
        text,
    }
}

const fn not_needed(name: &'static str, text: &'static str) -> Setting {
    Setting {
        name,
        fate: Fate::NotNeeded,
        text,
    }
}

const fn missing(name: &'static str, text: &'static str) -> Setting {
    Setting {
        name,
        fate: Fate::Missing,
        text,
    }
}

const BRIDGE: &str = "there are no bridges: run one beside the broker, as a client of both, such as a second Mosquitto";
const TLS_LIBRARY: &str =
    "the TLS library chooses: TLS 1.2 and 1.3, with forward secrecy and authenticated encryption alone";
const ENGINE: &str = "keys are files; a listener with `tls_keyform engine` is left out";
const PSK: &str = "there is no TLS with pre-shared keys; such a listener is left out: use certificates";
const PERSISTENCE: &str = "`data-dir`: changes are kept before they are acknowledged; `mosquitto.db` is not read";
const AT_ONCE: &str = "with `data-dir` every change is kept at once, before it is acknowledged";
const PLUGIN: &str = "`mosquitto_password_file` and `mosquitto_acl_file` become `password-file` and `acl-file`; there are no \
    other plugins, and listeners that another one guards are left out: hooks of an embedding program are the counterpart";
const PLUGIN_OPTION: &str = "of the plugins for password and access files the path; of others it goes with its plugin";
const LOG_TIME: &str = "lines of the log have the time in UTC; `log-format = \"json\"` is for programs";

/// All of them.
pub(super) const SETTINGS: &[Setting] = &[
    missing(
        "accept_protocol_versions",
        "every listener takes MQTT 3.1, 3.1.1 and 5.0",
    ),
    translated("acl_file", "`acl-file`, the same file"),
    missing("address", BRIDGE),
    missing("addresses", BRIDGE),
    translated("allow_anonymous", "`anonymous`"),
    missing(
        "allow_duplicate_messages",
        "as `false`: a client gets one copy, whatever subscriptions match",
    ),
    translated("allow_zero_length_clientid", "`empty-client-id`"),
    translated("auth_opt_*", PLUGIN_OPTION),
    translated("auth_plugin", PLUGIN),
    not_needed("auth_plugin_deny_special_chars", "it goes with its plugin"),
    not_needed("auto_id_prefix", "assigned Client Identifiers begin with `auto-`"),
    not_needed("autosave_interval", AT_ONCE),
    not_needed("autosave_on_changes", AT_ONCE),
    translated("bind_address", "`host`"),
    missing(
        "bind_interface",
        "a listener with it is left out: give the address of the interface as `host`",
    ),
    missing("bridge_alpn", BRIDGE),
    missing("bridge_attempt_unsubscribe", BRIDGE),
    missing("bridge_bind_address", BRIDGE),
    missing("bridge_cafile", BRIDGE),
    missing("bridge_capath", BRIDGE),
    missing("bridge_certfile", BRIDGE),
    missing("bridge_ciphers", BRIDGE),
    missing("bridge_ciphers_tls1.3", BRIDGE),
    missing("bridge_identity", BRIDGE),
    missing("bridge_insecure", BRIDGE),
    missing("bridge_keyfile", BRIDGE),
    missing("bridge_max_packet_size", BRIDGE),
    missing("bridge_max_topic_alias", BRIDGE),
    missing("bridge_outgoing_retain", BRIDGE),
    missing("bridge_protocol_version", BRIDGE),
    missing("bridge_psk", BRIDGE),
    missing("bridge_receive_maximum", BRIDGE),
    missing("bridge_reload_type", BRIDGE),
    missing("bridge_require_ocsp", BRIDGE),
    missing("bridge_session_expiry_interval", BRIDGE),
    missing("bridge_tcp_keepalive", BRIDGE),
    missing("bridge_tcp_user_timeout", BRIDGE),
    missing("bridge_tls_use_os_certs", BRIDGE),
    missing("bridge_tls_version", BRIDGE),
    translated(
        "cafile",
        "`tls-ca`, with `require_certificate`; without it Mosquitto asks for no certificate, and neither does the new file",
    ),
    missing(
        "capath",
        "a listener that requires certificates by it is left out: put the files of the directory into one for `tls-ca`",
    ),
    translated("certfile", "`tls-cert`"),
    missing(
        "check_retain_source",
        "a retained message stays when its publisher loses the right; who receives it is checked",
    ),
    not_needed("ciphers", TLS_LIBRARY),
    not_needed("ciphers_tls1.3", TLS_LIBRARY),
    missing("cleansession", BRIDGE),
    missing("clientid", BRIDGE),
    translated("clientid_prefixes", "`client-id-prefix`"),
    missing("connection", BRIDGE),
    translated(
        "connection_messages",
        "`true`: `verbose = 1`; otherwise connections are not in the log",
    ),
    translated("crlfile", "`tls-crl`, with `require_certificate`"),
    not_needed("dhparamfile", TLS_LIBRARY),
    missing(
        "disable_client_cert_date_checks",
        "a certificate whose time is over is refused",
    ),
    missing(
        "enable_control_api",
        "there are no `$CONTROL` topics: SIGHUP reloads the files, the HTTP listener tells what goes on",
    ),
    translated(
        "enable_proxy_protocol",
        "`proxy-protocol` and `trusted-proxies`: Mosquitto believes everybody, so name your proxies there",
    ),
    missing(
        "global_max_clients",
        "`max-connections` counts connections; sessions end by `session-expiry-cap`",
    ),
    translated("global_max_connections", "`max-connections`"),
    translated("global_plugin", PLUGIN),
    missing("http_dir", "no files are served; WebSocket works behind any web server"),
    missing("idle_timeout", BRIDGE),
    translated(
        "include_dir",
        "the files are read in Mosquitto's order; the result is one file",
    ),
    missing("keepalive_interval", BRIDGE),
    translated("keyfile", "`tls-key`"),
    translated(
        "listener",
        "`port` or its like for TLS and WebSocket, `host`, `unix-socket`; several become `[[listener]]` tables",
    ),
    translated("listener_allow_anonymous", "`anonymous` of the listener"),
    not_needed(
        "listener_auto_id_prefix",
        "assigned Client Identifiers begin with `auto-`",
    ),
    missing("local_cleansession", BRIDGE),
    missing("local_clientid", BRIDGE),
    missing("local_password", BRIDGE),
    missing("local_username", BRIDGE),
    translated(
        "log_dest",
        "the log goes to standard error, from where systemd or a container takes it; `none`: `quiet = true`",
    ),
    not_needed("log_facility", "the log goes to standard error"),
    not_needed("log_timestamp", LOG_TIME),
    not_needed("log_timestamp_format", LOG_TIME),
    translated(
        "log_type",
        "`all`, `debug`: `verbose = 2`; `subscribe`, `unsubscribe`: `verbose = 1`; `error` alone, `none`: `quiet = true`",
    ),
    translated("max_connections", "`max-connections`"),
    missing(
        "max_inflight_bytes",
        "`max-inflight` counts messages; `max-queued-bytes` counts those in flight as well",
    ),
    translated("max_inflight_messages", "`max-inflight` (default 65535, there 20)"),
    translated("max_keepalive", "`max-keep-alive`"),
    translated(
        "max_packet_size",
        "`max-packet-size`; without it 2000000, the default of Mosquitto 2.1 (2.0 has no limit)",
    ),
    translated("max_qos", "`max-qos`"),
    translated(
        "max_queued_bytes",
        "`max-queued-bytes` (default 64M, there no bound); messages in flight and QoS 0 count",
    ),
    translated(
        "max_queued_messages",
        "`max-queued-messages` (default 1000000, there 1000)",
    ),
    translated("max_topic_alias", "`topic-alias-maximum` (default 32, there 10)"),
    translated(
        "max_topic_alias_broker",
        "`topic-alias-maximum-out` (default 32, there 10)",
    ),
    translated("maximum_qos", "`max-qos`"),
    translated("memory_limit", "`max-memory`, of the whole process, at least 16M"),
    translated(
        "message_size_limit",
        "`max-packet-size`, with 65536 bytes for topic and properties; larger packets end the connection",
    ),
    missing(
        "mount_point",
        "there are no mount points; a listener with one is left out: `pattern` lines of an access list keep clients apart",
    ),
    missing("notification_topic", BRIDGE),
    missing("notifications", BRIDGE),
    missing("notifications_local_only", BRIDGE),
    not_needed("packet_buffer_size", "buffers grow with what they hold"),
    missing("password", BRIDGE),
    translated("password_file", "`password-file`, the same file"),
    translated("per_listener_settings", "`[[listener]]` tables with their own files"),
    translated("persistence", PERSISTENCE),
    not_needed("persistence_file", "the store has files of its own"),
    translated(
        "persistence_location",
        "`data-dir`, the directory `broker` below it, with `persistence`",
    ),
    translated(
        "persistent_client_expiration",
        "`session-expiry-cap`, in seconds; it also limits what MQTT 5.0 clients ask for",
    ),
    not_needed("pid_file", "systemd and containers know the process without one"),
    translated("plugin", PLUGIN),
    translated("plugin_load", PLUGIN),
    translated("plugin_opt_*", PLUGIN_OPTION),
    translated("plugin_use", PLUGIN),
    translated("port", "`port` or its like for TLS and WebSocket"),
    translated(
        "protocol",
        "`websockets`: `ws-port`, `wss-port`, or `transport` of the listener; `http_api`: none, see `http-port`",
    ),
    missing(
        "proxy_protocol_v2_require_tls",
        "a listener with it is left out: let the proxy refuse what comes without TLS",
    ),
    missing("psk_file", PSK),
    missing("psk_hint", PSK),
    missing("queue_qos0_messages", "QoS 0 does not wait for clients that are away"),
    missing("remote_clientid", BRIDGE),
    missing("remote_password", BRIDGE),
    missing("remote_username", BRIDGE),
    translated("require_certificate", "`tls-client-auth`"),
    missing("restart_timeout", BRIDGE),
    translated("retain_available", "`retain`"),
    missing(
        "retain_expiry_interval",
        "publishers of MQTT 5.0 can give a Message Expiry Interval; `max-retained-messages` bounds the rest",
    ),
    translated("retained_persistence", PERSISTENCE),
    not_needed("retry_interval", "Mosquitto does not heed it either"),
    missing("round_robin", BRIDGE),
    not_needed("set_tcp_nodelay", "always so"),
    translated(
        "socket_domain",
        "`ipv4`: `host = \"0.0.0.0\"`; `ipv6`: `host = \"::\"`, which takes IPv4 as well",
    ),
    missing("start_type", BRIDGE),
    translated("sys_interval", "`sys-interval`"),
    missing("threshold", BRIDGE),
    missing("tls_engine", ENGINE),
    missing("tls_engine_kpass_sha1", ENGINE),
    translated(
        "tls_keyform",
        "`pem` is so; a listener with `engine` is left out: keys are files",
    ),
    translated(
        "tls_version",
        "TLS 1.2 and 1.3 are spoken: `tlsv1.2` is so; that only 1.3 is spoken can't be said, nor can 1.1",
    ),
    missing("topic", BRIDGE),
    missing("try_private", BRIDGE),
    missing("upgrade_outgoing_qos", "as `false`: MQTT forbids it"),
    translated("use_identity_as_username", "`tls-username = \"cn\"`"),
    missing(
        "use_subject_as_username",
        "a listener with it is left out: `tls-username` takes the common name or an alternative name",
    ),
    translated(
        "use_username_as_clientid",
        "`client-id-is-username`: the identifier must be the name, and is not replaced by it",
    ),
    not_needed(
        "user",
        "the broker keeps the user that starts it: give it one, such as `User=` of systemd",
    ),
    missing("username", BRIDGE),
    not_needed("websockets_headers_size", "buffers grow with what they hold"),
    not_needed("websockets_log_level", "`verbose` shows what goes on"),
    translated("websockets_origin", "`ws-origin`"),
];
