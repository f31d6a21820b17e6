use super::*;

fn request(path: &str, headers: &[(&str, &str)]) -> Request {
    let mut text = format!("GET {path} HTTP/1.1\r\n");
    for (name, value) in [
        ("Host", "broker"),
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    .iter()
    .chain(headers)
    {
        text += &format!("{name}: {value}\r\n");
    }
    let (_, request) = Request::try_parse(format!("{text}\r\n").as_bytes())
        .expect("valid")
        .expect("complete");
    request
}

fn answer(path: &str, headers: &[(&str, &str)], settings: &WebSocket) -> String {
    match respond(&request(path, headers), settings) {
        Ok(bytes) => String::from_utf8(bytes).expect("text").to_ascii_lowercase(),
        Err(answer) => answer.status.to_owned(),
    }
}

/// [MQTT-6.0.0-4] [MQTT3-6.0.0-4]
#[test]
fn mqtt_is_the_subprotocol() {
    let chosen = |offered: &[(&str, &str)]| {
        let answer = answer("/mqtt", offered, &WebSocket::default());
        answer
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-protocol: ").map(str::to_owned))
            .unwrap_or(answer)
    };
    let name = "Sec-WebSocket-Protocol";
    assert_eq!(chosen(&[(name, "mqtt")]), "mqtt");
    assert_eq!(chosen(&[(name, "mqttv3.1")]), "mqttv3.1");
    assert_eq!(chosen(&[(name, "mqttv3.1, x"), (name, "mqtt")]), "mqtt");
    assert_eq!(chosen(&[(name, "chat, MQTT")]), "400 Bad Request");
    assert!(chosen(&[]).starts_with("http/1.1 101"));
}

#[test]
fn paths_and_origins() {
    let mut settings = WebSocket::default();
    assert!(answer("/mqtt?token=a", &[], &settings).starts_with("http/1.1 101"));
    assert!(answer("/", &[], &settings).starts_with("http/1.1 101"));
    assert_eq!(answer("/mqtt/", &[], &settings), "404 Not Found");
    assert!(answer("/", &[("Origin", "https://anywhere.test")], &settings).starts_with("http/1.1 101"));
    settings.origins = vec!["https://here.test".into()];
    assert!(answer("/", &[("Origin", "https://HERE.test")], &settings).starts_with("http/1.1 101"));
    assert!(answer("/", &[], &settings).starts_with("http/1.1 101"));
    assert_eq!(
        answer("/", &[("Origin", "https://anywhere.test")], &settings),
        "403 Forbidden"
    );
}

/// Only trusted proxies are believed, and no more than they have seen themselves.
#[test]
fn the_address_before_the_proxies() {
    let trusted: TrustedProxies = "10.0.0.0/8,::1".parse().expect("valid");
    let found = |from: &str, lines: &[&str]| {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                "x-forwarded-for",
                HeaderValue::from_bytes(line.as_bytes()).expect("valid"),
            );
        }
        forwarded_for(&headers, &trusted, Some(from.parse().expect("an address"))).map(|found| found.to_string())
    };
    let proxy = "10.0.0.1:1";
    assert_eq!(found("192.0.2.1:1", &["203.0.113.9"]), None);
    assert_eq!(found(proxy, &["203.0.113.9"]).as_deref(), Some("203.0.113.9:0"));
    assert_eq!(
        found(proxy, &["1.2.3.4, 203.0.113.9, 10.1.1.1"]).as_deref(),
        Some("203.0.113.9:0")
    );
    assert_eq!(
        found(proxy, &["1.2.3.4", "203.0.113.9:77"]).as_deref(),
        Some("203.0.113.9:77")
    );
    assert_eq!(found("[::1]:1", &["2001:db8::1"]).as_deref(), Some("[2001:db8::1]:0"));
    assert_eq!(found(proxy, &["203.0.113.9, nonsense"]).as_deref(), Some(proxy));
    assert_eq!(
        found(proxy, &["n\u{f6}nsense, 203.0.113.9"]).as_deref(),
        Some("203.0.113.9:0")
    );
    assert_eq!(found(proxy, &[]).as_deref(), Some(proxy));
}
