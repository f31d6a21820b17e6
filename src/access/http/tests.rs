use super::*;

fn client() -> ClientInfo {
    ClientInfo {
        client_id: "c1".into(),
        username: Some("ann".into()),
        version: Version::V311,
        peer: std::net::SocketAddr::from(([10, 0, 0, 1], 1)).into(),
        connected_at: crate::time::Millis::from_unix(0),
        keep_alive: 0,
        session_expiry: 0,
        proof: crate::identity::Proof::Nothing,
        rights: None,
    }
}

#[test]
fn what_is_asked() {
    let text = |password: Option<&[u8]>| {
        let question = Question::new(&client(), password);
        serde_json::from_slice::<Value>(&question.0).expect("JSON")
    };
    let expected = json!({
        "client_id": "c1", "username": "ann", "password": "secret", "address": "10.0.0.1", "protocol": "3.1.1",
        "transport": "tcp", "listener": null, "common_name": null,
    });
    assert_eq!(text(Some(b"secret")), expected);
    assert_eq!(text(None)["password"], Value::Null);
    let binary = text(Some(b"a\xFF\0"));
    assert_eq!(
        (&binary["password"], &binary["password_base64"]),
        (&json!("a\u{fffd}\0"), &json!("Yf8A"))
    );
}

#[test]
fn what_answers_mean() {
    let status = |status: u16| StatusCode::from_u16(status).expect("valid");
    let read_all = |received: Received| read(&received, &client()).map_err(|_| ());
    let read = |code: u16, body: &'static str| read_all(Received::Whole(status(code), body.into()));
    let allow = Ok(Answer::Allow(Allowed::default()));
    assert_eq!(read(200, r#"{"result": "allow"}"#), allow);
    assert_eq!(
        read(
            200,
            r#"{"result": "allow", "is_superuser": false, "acl": null, "expires_in": null}"#
        ),
        allow
    );
    assert_eq!(read(204, ""), allow);
    assert_eq!(read(200, r#"{"result": "deny", "acl": 7}"#), Ok(Answer::Deny));
    assert_eq!(read(200, r#"{"result": "ignore"}"#), Ok(Answer::Ignore));
    assert_eq!((read(401, ""), read(403, "x")), (Ok(Answer::Deny), Ok(Answer::Deny)));
    for (status, body) in [
        (200, ""),
        (200, "allow"),
        (200, "[]"),
        (200, "{}"),
        (200, r#"{"result": "Allow"}"#),
        (200, r#"{"result": true}"#),
        (200, r#"{"result": "allow", "is_superuser": "yes"}"#),
        (200, r#"{"result": "allow", "expires_in": 0}"#),
        (200, r#"{"result": "allow", "expires_in": "1"}"#),
        (200, r#"{"result": "allow", "acl": [{}]}"#),
        (201, r#"{"result": "allow"}"#),
        (302, r#"{"result": "allow"}"#),
        (400, ""),
        (404, ""),
        (429, r#"{"result": "allow"}"#),
    ] {
        assert_eq!(read(status, body), Ok(Answer::Deny), "{body}");
    }
    for code in [500, 503, 599] {
        read(code, r#"{"result": "allow"}"#).expect_err("it has failed");
        read_all(Received::TooLong(Some(status(code)))).expect_err("it has failed");
    }
    for code in [None, Some(status(200)), Some(status(204)), Some(status(404))] {
        assert_eq!(read_all(Received::TooLong(code)), Ok(Answer::Deny));
    }
    let rights = |body: &'static str| match read(200, body) {
        Ok(Answer::Allow(Allowed {
            rights: Some(rights), ..
        })) => rights,
        other => panic!("{other:?}"),
    };
    let some = rights(r#"{"result": "allow", "acl": {"sub": ["in/%u"]}}"#);
    assert!(some.allow_read("in/ann") && !some.allow_read("in/bob"));
    let all = rights(r#"{"result": "allow", "is_superuser": true, "acl": {"sub": ["in/%u"]}}"#);
    assert!(all.allow_read("$SYS/x") && all.allow_write("x") && all.allow_all("#"));
}

#[test]
fn urls() {
    let reason = |url: &str| Pool::new(url, None).err().map(|reason| reason.to_string());
    for good in ["http://127.0.0.1:8080/mqtt/auth?x=1", "http://[::1]:1", "http://auth"] {
        assert_eq!(reason(good), None, "{good}");
    }
    for (bad, expected) in [
        ("", "is no URL"),
        ("auth", "begins neither"),
        ("/auth", "names no host"),
        ("ftp://auth/", "begins neither"),
        ("http:///auth", "is no URL"),
        ("http://user:pw@auth/", "user name"),
        ("https://auth/", "needs a CA"),
    ] {
        assert!(
            reason(bad).is_some_and(|reason| reason.contains(expected)),
            "{bad}: {:?}",
            reason(bad)
        );
    }
    let ca = Path::new("/nowhere.pem");
    assert!(
        Pool::new("http://auth/", Some(ca))
            .expect_err("no TLS")
            .contains("https URLs only")
    );
    assert!(
        Pool::new("https://auth/", Some(ca))
            .expect_err("missing")
            .contains("/nowhere.pem")
    );
}

use std::path::Path;
