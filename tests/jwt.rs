//! JSON Web Tokens in the place of passwords. Those in `tests/tokens` were made by PyJWT; others are made here.

mod common;
use common::*;

use std::fs;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

const BAD_PASSWORD: u8 = 0x86;
const NOT_AUTHORIZED: u8 = 0x87;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The path of a file that PyJWT's script has made.
fn made(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokens");
    directory.join(name).to_str().expect("UTF-8").to_owned()
}

fn made_tokens() -> Value {
    let text = fs::read_to_string(made("tokens.json")).expect("readable");
    serde_json::from_str(&text).expect("JSON")
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

fn part(json: &Value) -> String {
    BASE64URL_NOPAD.encode(json.to_string().as_bytes())
}

/// A token with HS256.
fn token_with(header: &Value, claims: &Value, secret: &str) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

fn token(claims: &Value) -> String {
    token_with(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

fn ann() -> Value {
    json!({"sub": "ann", "exp": now() + 600})
}

/// The claims of ann with one more, or another.
fn ann_with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = ann();
    claims[name] = value.into();
    claims
}

struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Keys {
        let keys = Keys(tempfile::tempdir().expect("a directory"));
        keys.write("secret", SECRET);
        keys
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn broker(&self, options: &[&str]) -> Broker {
        let secret = self.0.path().join("secret");
        Broker::start(&[&["--jwt-key-file", secret.to_str().expect("UTF-8")], options].concat())
    }
}

fn with(client_id: &str, token: &str) -> Connect {
    Connect::v5(client_id).password(token.as_bytes())
}

fn reload(broker: &Broker) {
    broker.signal("HUP");
    broker.expect_log("reloaded");
}

/// Tokens that PyJWT has made, with keys of all kinds: by key file, and by key set. The token names the user, and says what
/// it may do.
#[test]
fn tokens_of_others_are_understood() {
    let tokens = made_tokens();
    let text = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    let accepted = |broker: &Broker, name: &str| {
        let mut client = broker.connect(with("c", &text(name)));
        client.subscribe("of/ann", 1);
        client.publish("of/ann", "x", 1);
        client.expect_message("of/ann", "x");
        client.send(Publish::new("of/bob", "x").qos(1, 7));
        assert_eq!(client.recv_puback().reason, NOT_AUTHORIZED);
        client.disconnect();
    };
    let set = Broker::start(&["--jwt-jwks-file", &made("jwks.json")]);
    for name in ["RS256", "ES256", "ES384", "EdDSA"] {
        accepted(&set, name);
        let file = Broker::start(&["--jwt-key-file", &made(&format!("{name}.pem"))]);
        accepted(&file, name);
        for other in ["RS256", "ES256", "ES384", "EdDSA", "none"] {
            if other != name {
                file.expect_refused(with("c", &text(other)), BAD_PASSWORD);
            }
        }
    }
    // In the set the key is for RS256 only.
    set.expect_refused(with("c", &text("PS512")), BAD_PASSWORD);
    accepted(&Broker::start(&["--jwt-key-file", &made("RS256.pem")]), "PS512");
}

/// All versions, with a User Name or without: if there is one, it is that of the token.
#[test]
fn the_token_names_the_user() {
    let keys = Keys::new();
    let broker = keys.broker(&["--client-id-is-username"]);
    for version in Version::ALL {
        let wrong = if version.is_v5() { BAD_PASSWORD } else { 4 };
        broker
            .connect(Connect::new(version, "ann").credentials("ann", &token(&ann())))
            .disconnect();
        broker
            .connect(Connect::new(version, "ann").credentials("", &token(&ann())))
            .disconnect();
        broker.expect_refused(Connect::new(version, "ann").credentials("bob", &token(&ann())), wrong);
    }
    broker.expect_refused(with("bob", &token(&ann())), 0x85);
    let broker = keys.broker(&[
        "--jwt-from",
        "username",
        "--jwt-username-claim",
        "name",
        "--client-id-is-username",
    ]);
    let named = token(&ann_with("name", "carl"));
    broker.connect(Connect::v311("carl").username(&named)).disconnect();
    broker
        .connect(Connect::v311("carl").credentials(&named, "anything"))
        .disconnect();
    broker.expect_refused(Connect::v5("carl").username(&token(&ann())), BAD_PASSWORD);
    // Not looked for there.
    broker.expect_refused(Connect::v5("carl").credentials("carl", &named), BAD_PASSWORD);
    broker.expect_refused(with("carl", &named), NOT_AUTHORIZED);
}

/// Tokens that nobody should accept.
#[test]
fn bad_tokens_are_refused() {
    let keys = Keys::new();
    let header = |alg: &str| json!({"alg": alg, "typ": "JWT"});
    let good = token(&ann());
    let unsigned = |alg: &str| format!("{}.{}.", part(&header(alg)), part(&ann()));
    let (head, tail) = good.rsplit_once('.').expect("dots");
    let no_expiry = json!({"sub": "ann"});
    let bad = [
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("no signature", unsigned("HS256")),
        ("signed, but none", token_with(&header("none"), &ann(), SECRET)),
        ("another algorithm", token_with(&header("HS512"), &ann(), SECRET)),
        (
            "another secret",
            token_with(&header("HS256"), &ann(), "fedcba9876543210fedcba9876543210"),
        ),
        (
            "other claims",
            format!("{}.{}.{tail}", part(&header("HS256")), part(&ann_with("sub", "root"))),
        ),
        ("signature cut", head.to_owned() + "." + &tail[..20]),
        ("expired", token(&ann_with("exp", now() - 60))),
        ("no expiry", token(&no_expiry)),
        ("expiry in words", token(&ann_with("exp", "never"))),
        ("not yet", token(&ann_with("nbf", now() + 120))),
        ("issued in the future", token(&ann_with("iat", now() + 120))),
        ("for somebody", token(&ann_with("aud", "somebody"))),
        ("nobody", token(&ann_with("sub", Value::Null))),
        ("a number", token(&ann_with("sub", 7))),
        ("no topics", token(&ann_with("acl", "everything"))),
        ("no filter", token(&ann_with("acl", json!({"pub": ["a/#/b"]})))),
        (
            "critical",
            token_with(&json!({"alg": "HS256", "crit": ["x"], "x": 1}), &ann(), SECRET),
        ),
        ("giant", token(&ann_with("x", "x".repeat(9000)))),
        ("as long as it gets", token(&ann_with("x", "x".repeat(45_000)))),
        (
            "giant header",
            token_with(&json!({"alg": "HS256", "x": "x".repeat(9000)}), &ann(), SECRET),
        ),
        ("claims that are none", token(&json!("ann"))),
        ("no token", "sesame".to_owned()),
        ("dots", "open.sesame.1".to_owned()),
    ];
    // A few at a time: the address of this test must not have been wrong too often.
    for bad in bad.chunks(15) {
        let broker = keys.broker(&["-vv"]);
        for (name, token) in bad {
            let mut client = broker.try_connect(with("c", token).username("ann"));
            assert_eq!(client.connack.code, BAD_PASSWORD, "{name}");
            client.expect_closed();
            assert!(
                !broker.log().contains(&token[..token.len().min(40)]),
                "{name}: {}",
                broker.log()
            );
        }
        broker.connect(with("c", &good)).disconnect();
    }
}

/// A public key is no secret: not for who signs with it, and not for who configures it.
#[test]
fn a_public_key_is_never_a_secret() {
    let pem = fs::read_to_string(made("RS256.pem")).expect("readable");
    for options in [
        &["--jwt-key-file", &made("RS256.pem")][..],
        &["--jwt-jwks-file", &made("jwks.json")],
    ] {
        let broker = Broker::start(options);
        for secret in [pem.as_str(), pem.trim_end()] {
            for kid in [Value::Null, "RS256".into()] {
                let forged = token_with(&json!({"alg": "HS256", "kid": kid}), &ann(), secret);
                broker.expect_refused(with("c", &forged), BAD_PASSWORD);
            }
        }
    }
    let (code, said) = Broker::cannot_start(&["--jwt-key-file", &made("RS256.pem"), "--jwt-algorithms", "HS256"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no key in it fits"), "{said}");
}

/// `iss` and `aud`, where they are asked for.
#[test]
fn issuer_and_audience() {
    let keys = Keys::new();
    let broker = keys.broker(&[
        "--jwt-issuer",
        "issuer",
        "--jwt-audience",
        "broker",
        "--jwt-algorithms",
        "HS256",
    ]);
    let claims = |iss: Value, aud: Value| {
        let mut claims = ann_with("iss", iss);
        claims["aud"] = aud;
        token(&claims)
    };
    broker
        .connect(with("c", &claims("issuer".into(), "broker".into())))
        .disconnect();
    broker
        .connect(with("c", &claims("issuer".into(), json!(["x", "broker"]))))
        .disconnect();
    for (iss, aud) in [
        ("other", json!("broker")),
        ("issuer", json!("other")),
        ("issuer", Value::Null),
    ] {
        broker.expect_refused(with("c", &claims(iss.into(), aud)), BAD_PASSWORD);
    }
    broker.expect_refused(with("c", &token(&ann())), BAD_PASSWORD);
}

/// With the token the connection ends: 0x87, also of an idle client and of one that is busy; its will is published.
#[test]
fn the_connection_ends_with_the_token() {
    let keys = Keys::new();
    let broker = keys.broker(&["--jwt-leeway", "0"]);
    let mut watcher = broker.connect(with("watcher", &token(&ann())));
    watcher.subscribe("will", 0);
    let short = token(&ann_with("exp", now() + 2));
    let start = Instant::now();
    let mut idle = broker.connect(with("idle", &short).keep_alive(0).will(Will::new("will", "gone")));
    let mut old = broker.connect(Connect::v311("old").credentials("ann", &short));
    let mut busy = broker.connect(with("busy", &short));
    busy.publish("a", "x", 1);
    idle.expect_disconnect(NOT_AUTHORIZED);
    old.expect_closed();
    busy.expect_disconnect(NOT_AUTHORIZED);
    watcher.expect_message("will", "gone");
    assert_elapsed(start, 0.9, 6.0);
    broker.expect_refused(with("idle", &short), BAD_PASSWORD);
}

/// The rights of a token take the place of the access list; a token without has those of its user.
#[test]
fn rights_are_those_of_the_token() {
    let keys = Keys::new();
    let acl = keys.write("acl", "user ann\ntopic readwrite file/#\n");
    let broker = keys.broker(&["--acl-file", &acl, "--acl-subscribe", "deny"]);
    let mut plain = broker.connect(with("plain", &token(&ann())));
    assert_eq!(plain.try_subscribe("file/a", 0), 0);
    assert_eq!(plain.try_subscribe("of/ann", 0), NOT_AUTHORIZED);
    let rights = json!({"pub": ["of/%u", "file/a"], "sub": ["at/${clientid}/#"]});
    let mut own = broker.connect(with("own", &token(&ann_with("acl", rights))));
    assert_eq!(own.try_subscribe("at/own/+", 0), 0);
    for filter in ["file/a", "of/ann", "at/#", "#"] {
        assert_eq!(own.try_subscribe(filter, 0), NOT_AUTHORIZED, "{filter}");
    }
    own.send(Publish::new("of/bob", "x").qos(1, 1));
    assert_eq!(own.recv_puback().reason, NOT_AUTHORIZED);
    own.publish("file/a", "x", 1);
    plain.expect_message("file/a", "x");
    // Filtered, where that is asked for.
    let open = keys.broker(&[]);
    let mut own = open.connect(with("own", &token(&ann_with("acl", json!({"sub": ["a"]})))));
    own.subscribe("#", 1);
    let mut all = open.connect(with("all", &token(&ann())));
    for topic in ["b", "a"] {
        all.publish(topic, "x", 1);
        all.publish(topic, "x", 0);
    }
    own.expect_message("a", "x");
    own.expect_message("a", "x");
    own.assert_silent_until_ping();
    let mut none = open.connect(with("none", &token(&ann_with("acl", json!({})))));
    none.send(Publish::new("a", "x").qos(1, 1));
    assert_eq!(none.recv_puback().reason, NOT_AUTHORIZED);
}

/// Keys are changed while the broker runs: with the old key beside the new one nobody notices, without it those whom it
/// has let in go. A file that makes no sense changes nothing.
#[test]
fn keys_are_rotated() {
    let keys = Keys::new();
    let jwk =
        |kid: &str, secret: &str| json!({"kty": "oct", "kid": kid, "k": BASE64URL_NOPAD.encode(secret.as_bytes())});
    let sign = |kid: &str, secret: &str| token_with(&json!({"alg": "HS256", "kid": kid}), &ann(), secret);
    let new_secret = "fedcba9876543210fedcba9876543210";
    let set = |keys: &[Value]| json!({ "keys": keys }).to_string();
    let file = keys.write("jwks", &set(&[jwk("old", SECRET)]));
    let broker = Broker::start(&["--jwt-jwks-file", &file]);
    let (old_token, new_token) = (sign("old", SECRET), sign("new", new_secret));
    let mut old = broker.connect(with("old", &old_token));
    broker.expect_refused(with("new", &new_token), BAD_PASSWORD);
    keys.write("jwks", &set(&[jwk("old", SECRET), jwk("new", new_secret)]));
    reload(&broker);
    let mut new = broker.connect(with("new", &new_token));
    old.ping();
    for nonsense in ["", "{\"keys\": [", "{\"keys\": []}"] {
        keys.write("jwks", nonsense);
        broker.signal("HUP");
        broker.expect_log("not reloaded");
        old.ping();
        broker.connect(with("x", &new_token)).disconnect();
    }
    keys.write("jwks", &set(&[jwk("new", new_secret)]));
    reload(&broker);
    old.expect_disconnect(NOT_AUTHORIZED);
    new.ping();
    broker.expect_refused(with("old", &old_token), BAD_PASSWORD);
    // The name of a key is not what makes it.
    broker.expect_refused(with("x", &sign("new", SECRET)), BAD_PASSWORD);
}

/// What is no token goes on to the password file; what is one does not.
#[test]
fn passwords_may_be_used_beside_tokens() {
    let keys = Keys::new();
    let hash = mqtt_broker::hash_password(b"secret").expect("hashed");
    let users = keys.write("users", &format!("bob:{hash}\n"));
    let broker = keys.broker(&["--password-file", &users]);
    broker
        .connect(Connect::v311("b").credentials("bob", "secret"))
        .disconnect();
    broker.connect(with("a", &token(&ann()))).disconnect();
    broker.expect_refused(Connect::v5("b").credentials("bob", "wrong"), BAD_PASSWORD);
    broker.expect_refused(Connect::v5("b").credentials("ann", "secret"), BAD_PASSWORD);
    broker.expect_refused(
        Connect::v5("b").credentials("bob", &token(&ann_with("exp", 1))),
        BAD_PASSWORD,
    );
    // Nobody without a name, unless that is wanted.
    broker.expect_refused(Connect::v5("c"), NOT_AUTHORIZED);
    let open = keys.broker(&["--anonymous", "on"]);
    open.connect(Connect::v5("c")).disconnect();
    open.expect_refused(Connect::v5("c").credentials("ann", "x"), BAD_PASSWORD);
}

/// A listener may have keys, or an endpoint, of its own, whose rights are those of its clients alone.
#[test]
fn a_listener_may_have_its_own() {
    let keys = Keys::new();
    let endpoint = endpoint::Endpoint::start(|_| endpoint::Reply::allow());
    let config = format!(
        "jwt-jwks-file = {:?}\njwt-algorithms = \"ES256\"\n[[listener]]\nport = 0\nname = \"own\"\njwt-algorithms = \"EdDSA\"\n\
         [[listener]]\ntransport = \"ws\"\nport = 0\nname = \"web\"\nauth-http-url = {:?}\n",
        made("jwks.json"),
        endpoint.url(),
    );
    let config = keys.write("broker.toml", &config);
    let broker = Broker::start_on(&["--config", &config, "--no-tcp"]);
    let tokens = made_tokens();
    let text = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    let own = |connect: Connect| {
        let mut client = Client::open(broker.addr_of("mqtt"), Version::V5);
        client.send(connect);
        client.recv_connack().code
    };
    assert_eq!(own(with("c", &text("EdDSA"))), 0);
    assert_eq!(own(with("c", &text("ES256"))), BAD_PASSWORD);
    assert_eq!(own(Connect::v5("c").credentials("ann", "x")), BAD_PASSWORD);
    let web = || {
        Stream::tcp(broker.addr_of("ws"))
            .websocket("/mqtt")
            .expect("a WebSocket")
    };
    broker
        .connect_on(web(), Connect::v5("c").credentials("ann", "x"))
        .disconnect();
    broker.connect_on(web(), with("c", &text("ES256"))).disconnect();
    assert_eq!(endpoint.questions()[0]["listener"], "web");
}

#[test]
fn settings_that_make_no_sense_stop_the_start() {
    let keys = Keys::new();
    let (short, users) = (
        keys.write("short", "too short"),
        keys.write("pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n"),
    );
    for (options, code, reason) in [
        (&["--jwt-key-file", "/nowhere"][..], 1, "/nowhere"),
        (&["--jwt-key-file", &short], 1, "at least 32 bytes"),
        (&["--jwt-key-file", &users], 1, "damaged"),
        (&["--jwt-jwks-file", &short], 1, "not JSON"),
        (&["--jwt-key-file", &made("jwks.json")], 1, "--jwt-jwks-file"),
        (
            &["--jwt-key-file", &short, "--jwt-jwks-file", &short],
            2,
            "cannot be used with",
        ),
        (
            &["--jwt-key-file", &short, "--jwt-algorithms", "none"],
            2,
            "the algorithms are",
        ),
        (&["--jwt-issuer", "x"], 2, "--jwt-key-file"),
        (&["--jwt-leeway", "5"], 2, "--jwt-key-file"),
    ] {
        let (found, said) = Broker::cannot_start(options);
        assert_eq!(found, Some(code), "{options:?}: {said}");
        assert!(said.contains(reason), "{options:?}: {said}");
    }
}
