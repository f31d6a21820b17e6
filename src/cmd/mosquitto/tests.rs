use std::collections::BTreeSet;

use proptest::prelude::*;

use super::settings::{Fate, SETTINGS};
use super::*;

/// What a file with this text becomes.
fn translated(conf: &str) -> Result<Translation, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mosquitto.conf");
    std::fs::write(&path, conf).expect("written");
    translate(&path)
}

/// The lines that say something.
fn lines(conf: &str) -> Vec<String> {
    let toml = translated(conf).expect(conf).toml;
    let lines = toml.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(str::to_owned).collect()
}

fn assert_has(conf: &str, expected: &[&str]) {
    let lines = lines(conf);
    for line in expected {
        assert!(
            lines.iter().any(|found| found == line),
            "{conf}: no {line} in {lines:#?}"
        );
    }
}

/// A value that each setting may have.
fn example(name: &str) -> &'static str {
    match name {
        "listener" | "port" => "1883",
        "socket_domain" => "ipv4",
        "protocol" => "websockets",
        "log_dest" => "stderr",
        "log_type" => "all",
        "persistent_client_expiration" => "14d",
        "tls_keyform" => "pem",
        "tls_version" => "tlsv1.2",
        "include_dir" | "plugin_use" => unreachable!("it needs another file or line"),
        "plugin_load" => "name /a.so",
        _ if name.starts_with("allow_") || name.contains("_username") || name.contains("_as_") => "true",
        "require_certificate"
        | "retain_available"
        | "connection_messages"
        | "per_listener_settings"
        | "listener_allow_anonymous"
        | "proxy_protocol_v2_require_tls" => "true",
        "acl_file" | "password_file" | "cafile" | "certfile" | "keyfile" | "crlfile" | "bind_address"
        | "clientid_prefixes" | "websockets_origin" => "text",
        "message_size_limit" | "max_packet_size" => "1000",
        _ => "1",
    }
}

/// Every setting is taken; of those that are not translated something is said.
#[test]
fn every_setting_is_known() {
    for setting in SETTINGS {
        if ["include_dir", "plugin_use"].contains(&setting.name) {
            continue;
        }
        let name = setting.name.replace('*', "x");
        let conf = format!("{name} {}\n", example(setting.name));
        let translation = translated(&conf).unwrap_or_else(|error| panic!("{conf}: {error}"));
        let said = translation
            .notes
            .iter()
            .any(|note| note.to_string().contains(&format!("line 1: {name} ")));
        assert!(
            said || setting.fate == Fate::Translated,
            "{conf}: {:?}",
            translation.notes
        );
    }
    let names: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(names.len(), SETTINGS.len(), "a name stands twice");
}

/// The document has a row for each setting, with the same words, and no other.
#[test]
fn the_document_says_the_same() {
    let document = include_str!("../../../docs/migration-mosquitto.md");
    let (_, table) = document.split_once("<!-- settings -->\n").expect("the table is marked");
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    let expected: Vec<_> = SETTINGS
        .iter()
        .map(|setting| {
            let fate = match setting.fate {
                Fate::Translated => "",
                Fate::NotNeeded => "not needed: ",
                Fate::Missing => "none: ",
            };
            format!("| `{}` | {fate}{} |", setting.name, setting.text)
        })
        .collect();
    assert!(rows == expected, "the table should be:\n{}", expected.join("\n"));
}

#[test]
fn one_listener_becomes_flat_settings() {
    assert_has(
        "port 1999\nbind_address ::1\nallow_anonymous true",
        &["port = 1999", "host = \"::1\"", "anonymous = true"],
    );
    assert_has(
        "listener 8883\ncertfile a\nkeyfile b\ncafile c\ncrlfile d\nrequire_certificate true\nuse_identity_as_username true",
        &[
            "no-tcp = true",
            "tls-port = 8883",
            "tls-cert = \"a\"",
            "tls-key = \"b\"",
            "tls-ca = \"c\"",
            "tls-crl = \"d\"",
            "tls-client-auth = \"required\"",
            "tls-username = \"cn\"",
            "anonymous = false",
        ],
    );
    assert_has(
        "listener 9001\nprotocol websockets\ncertfile a\nkeyfile b\nwebsockets_origin o\npassword_file p",
        &[
            "no-tcp = true",
            "tls-port = \"off\"",
            "wss-port = 9001",
            "ws-origin = [\"o\"]",
            "password-file = \"p\"",
        ],
    );
    assert_has(
        "listener 0 /s\npassword_file p\nmax_qos 0",
        &["no-tcp = true", "unix-socket = \"/s\"", "max-qos = 0"],
    );
    assert_has(
        "listener 1883\npassword_file p\nenable_proxy_protocol 2",
        &[
            "proxy-protocol = [\"tcp\"]",
            "trusted-proxies = [\"0.0.0.0/0\", \"::/0\"]",
        ],
    );
}

/// Without a listener Mosquitto serves its own machine.
#[test]
fn without_a_listener_it_stays_local() {
    for conf in ["", "max_connections 10\n", "persistence true\n"] {
        assert_has(conf, &["host = \"localhost\"", "port = 1883", "anonymous = true"]);
    }
}

#[test]
fn values_are_translated() {
    assert_has(
        "allow_anonymous true\nlistener 1883\nmax_inflight_messages 0\nmax_queued_messages 5\nmax_keepalive 60\n\
         max_packet_size 20\npersistent_client_expiration 2w\nretain_available 0\nsys_interval 0\nmax_connections 0x10\n\
         clientid_prefixes a\"b\nallow_zero_length_clientid false\nmax_topic_alias 0\nlog_type error\nmemory_limit 5000000000\n",
        &[
            "max-inflight = 65535",
            "max-queued-messages = 5",
            "max-keep-alive = 60",
            "max-packet-size = 64",
            "session-expiry-cap = 1209600",
            "retain = false",
            "sys-interval = 0",
            "max-connections = 16",
            "client-id-prefix = \"a\\\"b\"",
            "empty-client-id = false",
            "topic-alias-maximum = 0",
            "quiet = true",
            "max-memory = 5000000000",
        ],
    );
    assert_has(
        "message_size_limit 1000\nmax_packet_size 5000",
        &["max-packet-size = 5000"],
    );
    assert_has("log_type error\nlog_type all\nlog_type error", &["verbose = 2"]);
    assert_has("log_dest none\nlog_dest stderr", &["verbose = 0"]);
}

/// The store is beside Mosquitto's own, as the last word says.
#[test]
fn persistence_is_translated() {
    for (conf, dir) in [
        (
            "persistence true\npersistence_location /var/lib/mosquitto/\n",
            Some("/var/lib/mosquitto/broker"),
        ),
        ("retained_persistence true\nautosave_interval 60\n", Some("broker")),
        ("persistence_location /var/lib/mosquitto\n", None),
        ("persistence true\npersistence false\n", None),
    ] {
        let found: Vec<_> = lines(conf)
            .into_iter()
            .filter(|line| line.contains("data-dir ="))
            .collect();
        let expected: Vec<_> = dir.iter().map(|dir| format!("data-dir = \"{dir}\"")).collect();
        assert_eq!(found, expected, "{conf}");
    }
    let notes = translated("persistence true\n").expect("translated").notes;
    assert!(notes.iter().any(|note| note.text.contains("mosquitto.db is not read")));
}

/// Files as plugins have them, and plugins that do not matter here.
#[test]
fn plugins_for_files_are_translated() {
    let conf = "global_plugin /lib/mosquitto_password_file.so\nplugin_opt_password_file p\n\
                plugin_load acl /lib/mosquitto_acl_file.so\nplugin_opt_acl_file a\n\
                plugin /lib/mosquitto_persist_sqlite.so\nlistener 1883\nplugin_use acl\n";
    assert_has(
        conf,
        &[
            "password-file = \"p\"",
            "acl-file = \"a\"",
            "port = 1883",
            "anonymous = false",
        ],
    );
}

#[test]
fn several_listeners_become_tables() {
    let toml = |conf: &str| translated(conf).expect(conf).toml;
    let shared = toml("password_file p\nlistener 1883\nlistener 1884\nmax_qos 1\nlistener_allow_anonymous false\n");
    assert!(
        shared.contains("password-file = \"p\"\nanonymous = false\n\n[[listener]]\nname = \"tcp-1883\"\n"),
        "{shared}"
    );
    assert!(
        shared.contains("name = \"tcp-1884\"\ntransport = \"tcp\"\nport = 1884\nmax-qos = 1\n"),
        "{shared}"
    );
    let own = toml("per_listener_settings true\nlistener 1883\nallow_anonymous true\nlistener 1884\npassword_file p\n");
    assert!(own.contains("port = 1883\nanonymous = true\n\n[[listener]]"), "{own}");
    assert!(
        own.contains("port = 1884\npassword-file = \"p\"\nanonymous = false\n"),
        "{own}"
    );
    let left = toml("listener 1883\nallow_anonymous true\nlistener 1884\nmount_point a/\n");
    assert!(
        left.contains("port = 1883\nanonymous = true\n\n# Left out, see below:\n# [[listener]]\n"),
        "{left}"
    );
}

/// The order of Mosquitto, and what a file says of a listener ends with it.
#[test]
fn directories_are_read_in_their_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    for (name, seconds) in [
        ("b.conf", 5),
        ("B.conf", 4),
        ("a.conf", 3),
        ("A.conf", 2),
        ("01.conf", 1),
        ("c.txt", 9),
    ] {
        write(name, &format!("sys_interval {seconds}\n"));
    }
    write("z.conf", "listener 1884 127.0.0.1\n");
    let main = tempfile::tempdir().expect("a directory");
    let path = main.path().join("mosquitto.conf");
    let conf = format!(
        "allow_anonymous true\nlistener 1883\ninclude_dir {}\nmax_qos 1\n",
        directory.path().display()
    );
    std::fs::write(&path, conf).expect("written");
    let values: Vec<_> = conf::read(&path)
        .expect("read")
        .into_iter()
        .map(|line| line.value)
        .collect();
    assert_eq!(values, ["true", "1883", "1", "2", "3", "4", "5", "1884 127.0.0.1", "1"]);
    let toml = translate(&path).expect("translated").toml;
    assert!(
        toml.contains("port = 1883\nmax-qos = 1\n") && toml.contains("sys-interval = 5\n"),
        "{toml}"
    );
    write("x.conf", "include_dir /\n");
    assert!(
        translate(&path)
            .expect_err("nested")
            .contains("include_dir is for the main file alone")
    );
}

/// No password is repeated.
#[test]
fn secrets_are_not_printed() {
    let conf = "connection b\nremote_password hunter2\nbridge_psk c0ffee\nlocal_password hunter3\nauth_opt_db_password hunter4\n";
    let Translation { toml, notes } = translated(conf).expect("translated");
    let all = format!("{toml}{notes:?}");
    assert!(!all.contains("hunter") && !all.contains("c0ffee"), "{all}");
}

fn conf_text() -> impl Strategy<Value = String> {
    let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name.replace('*', "x")).collect();
    let value = prop_oneof![
        Just("true".to_owned()),
        "[0-9]{1,6}",
        "-[0-9]{1,3}",
        "\\PC{0,12}",
        "[a-z/\"\\\\#]{0,8}",
        Just("14d".to_owned()),
        Just("websockets".to_owned()),
    ];
    prop::collection::vec((prop::sample::select(names), value), 0..12).prop_map(|lines| {
        let lines = lines.into_iter().map(|(name, value)| format!("{name} {value}\n"));
        lines.collect()
    })
}

proptest! {
    /// What comes out is TOML with known settings, or an error of one line with the place.
    #[test]
    fn no_file_is_too_strange(conf in conf_text()) {
        match translated(&conf) {
            Ok(translation) => {
                let parsed = toml::de::DeTable::parse(&translation.toml);
                prop_assert!(parsed.is_ok(), "{conf}\n{}", translation.toml);
            }
            Err(error) => prop_assert!(!error.contains('\n') && error.contains(": "), "{error}"),
        }
    }

    #[test]
    fn no_text_is_too_strange(conf in "(port|listener|[a-z_]|[ \t\r\n]|\\PC){0,40}") {
        if let Err(error) = translated(&conf) {
            prop_assert!(!error.contains('\n'), "{error}");
        }
    }

    /// A file that is cut off opens no listener that the whole one does not have.
    #[test]
    fn half_a_file_opens_nothing_more(end in 0..GUARDED.len()) {
        if let Ok(half) = translated(&GUARDED[..end]) {
            let closed = half.toml.contains("no-tcp = true") || half.toml.contains("host = \"localhost\"");
            prop_assert!(closed || half.toml.contains("password-file = "), "{}", half.toml);
        }
    }
}

const GUARDED: &str = "listener 1883\npassword_file /etc/users\nacl_file /etc/acl\n";
