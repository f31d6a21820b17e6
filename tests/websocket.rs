//! WebSocket: how clients are let in, and frames that no client should send (section 6, RFC 6455). What MQTT does over
//! it is the matter of the other files, which run over every transport (`tests/over`).

mod common;
use common::websocket::{BINARY, CLOSE, CONTINUATION, LAST, PING, PONG, TEXT, frame};
use common::*;
use std::time::Instant;

const PROTOCOL_ERROR: u16 = 1002;

/// What a request for a WebSocket connection needs besides its path and the subprotocol.
const UPGRADE: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const MQTT: &str = "Sec-WebSocket-Protocol: mqtt\r\n";

fn start(more: &[&str]) -> Broker {
    Broker::start_on(&[&["-v", "--ws-port", "0"], more].concat())
}

/// Sends a request; the head of the answer, and the rest of the connection.
fn request(broker: &Broker, request: &str) -> (String, Stream) {
    let mut stream = Stream::tcp(broker.addr_of("ws"));
    stream.write_all(request.as_bytes()).expect("open");
    let head = stream.read_head().expect("an answer");
    (head, stream)
}

fn get(path: &str, headers: &[&str]) -> String {
    format!("GET {path} HTTP/1.1\r\n{}\r\n", headers.concat())
}

fn open(broker: &Broker) -> Stream {
    let stream = Stream::tcp(broker.addr_of("ws")).websocket("/mqtt");
    stream.expect("a WebSocket connection")
}

/// A client with a will, which tells how the broker saw the end.
fn mortal(broker: &Broker, version: Version) -> Client {
    broker.connect_on(
        open(broker),
        Connect::new(version, "mortal").will(Will::new("will", "gone")),
    )
}

/// Requests that lead to no connection are answered in words that a person understands.
#[test]
fn answers_in_words() {
    let broker = start(&["--ws-origin", "https://example.com,https://other.example"]);
    let mut bystander = Bystander::new(&broker);
    let large = format!("X-Large: {}\r\n", "x".repeat(9000));
    let cases = [
        (
            get("/mqtt", &["Host: localhost\r\n"]),
            426,
            "connect with an MQTT client",
        ),
        (get("/", &[]), 426, "connect with an MQTT client"),
        (
            get("/other", &[UPGRADE, MQTT]),
            404,
            "No MQTT broker answers on this path",
        ),
        (
            get("/mqtt/", &[UPGRADE, MQTT]),
            404,
            "No MQTT broker answers on this path",
        ),
        (
            get("/mqtt", &[UPGRADE, MQTT, "Origin: https://evil.example\r\n"]),
            403,
            "Pages of this origin",
        ),
        (
            get("/mqtt", &[UPGRADE, "Sec-WebSocket-Protocol: chat\r\n"]),
            400,
            "must offer the WebSocket subprotocol",
        ),
        (
            get("/mqtt", &[UPGRADE, MQTT]).replace("GET", "POST"),
            405,
            "connect with an MQTT client",
        ),
        (get("/mqtt", &[UPGRADE, MQTT, &large]), 431, "too large"),
        (
            get("/mqtt", &[&UPGRADE.replace("Key", "Cow"), MQTT]),
            400,
            "no valid WebSocket handshake",
        ),
        // Frames must wait for the answer.
        (
            get("/mqtt", &[UPGRADE, MQTT]) + "x",
            400,
            "no valid WebSocket handshake",
        ),
    ];
    for (text, status, explanation) in cases {
        let (head, mut stream) = request(&broker, &text);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {head}");
        let size: usize = header(&head, "content-length")
            .expect("a size")
            .parse()
            .expect("a size");
        let mut body = vec![0; 4096];
        let mut read = 0;
        while let count @ 1.. = stream.read(&mut body[read..], DEADLINE).expect("an end") {
            read += count;
        }
        drop(stream);
        let body = String::from_utf8_lossy(&body[..read]);
        assert!(body.len() == size && body.contains(explanation), "{status}: {body}");
        broker.expect_log(&format!("WebSocket: answered {status} "));
        bystander.is_served();
    }
    let (head, _) = request(&broker, &get("/mqtt", &[]));
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "sec-websocket-version"), Some("13"));
}

/// The subprotocol that is chosen is mqtt, whatever else is offered [MQTT-6.0.0-4] [MQTT3-6.0.0-4]; a client that offers
/// others only is refused.
#[test]
fn the_subprotocol_is_mqtt() {
    let broker = start(&[]);
    let offers = [
        ("Sec-WebSocket-Protocol: mqtt\r\n", Some("mqtt")),
        ("Sec-WebSocket-Protocol: chat, mqttv3.1,mqtt\r\n", Some("mqtt")),
        (
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqtt\r\n",
            Some("mqtt"),
        ),
        ("Sec-WebSocket-Protocol: mqttv3.1\r\n", Some("mqttv3.1")),
        ("", None),
    ];
    for (offer, chosen) in offers {
        let (head, _) = request(&broker, &get("/mqtt", &[UPGRADE, offer]));
        assert!(head.starts_with("HTTP/1.1 101 "), "{offer}: {head}");
        assert_eq!(header(&head, "sec-websocket-protocol"), chosen, "{offer}");
    }
    let (head, _) = request(&broker, &get("/mqtt", &[UPGRADE, "Sec-WebSocket-Protocol: MQTT\r\n"]));
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

/// Clients that may connect: on the path that `--ws-path` says and on `/`, and from the origins of `--ws-origin` or from
/// none.
#[test]
fn paths_and_origins() {
    let broker = start(&["--ws-path", "/broker", "--ws-origin", "https://example.com"]);
    let cases = [
        ("/broker", "", 101),
        ("/broker?token=x", "", 101),
        ("/", "", 101),
        ("/mqtt", "", 404),
        ("/broker", "Origin: https://example.com\r\n", 101),
        ("/broker", "Origin: https://example.com:8443\r\n", 403),
        ("/broker", "Origin: http://example.com\r\n", 403),
        ("/broker", "Origin: null\r\n", 403),
    ];
    for (path, origin, status) in cases {
        let (head, _) = request(&broker, &get(path, &[UPGRADE, MQTT, origin]));
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path} {origin}: {head}"
        );
    }
    let addr = broker.addr_of("ws");
    broker.expect_announced(&format!("ws://{addr}/broker"));
}

/// HTTP on the plain port is cut, and the log says so.
#[test]
fn http_on_the_plain_port() {
    let broker = start(&[]);
    let mut bystander = Bystander::new(&broker);
    let mut client = broker.open(Version::V5);
    client.send_bytes(get("/mqtt", &[UPGRADE, MQTT]).as_bytes());
    client.expect_closed();
    broker.expect_log("HTTP on a port without WebSocket");
    bystander.is_served();
}

/// Plain MQTT on the WebSocket port is no request, and is answered as one that is bad. A client that does not close then
/// is not waited for.
#[test]
fn plain_mqtt_on_the_websocket_port() {
    let broker = start(&[]);
    let mut bystander = Bystander::new(&broker);
    let connect = Packet::from(Connect::v5("plain")).encode(Version::V5);
    let (head, _open) = request(&broker, &String::from_utf8_lossy(&connect));
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    broker.expect_log("WebSocket: answered 400 ");
    bystander.is_served();
}

/// A client that does not end its request is cut after the time for its CONNECT.
#[test]
fn requests_that_never_end() {
    let broker = start(&["--connect-timeout", "1"]);
    let mut bystander = Bystander::new(&broker);
    for beginning in ["", "GET /mqtt HTTP/1.1\r\nHost: localhost\r\n"] {
        let start = Instant::now();
        let mut stream = Stream::tcp(broker.addr_of("ws"));
        stream.write_all(beginning.as_bytes()).expect("open");
        bystander.is_served();
        assert_eq!(stream.read(&mut [0; 16], DEADLINE).expect("an end"), 0);
        assert_elapsed(start, 0.9, 8.0);
        broker.expect_log("its handshake took too long");
    }
    // Nor may a client stop behind its request, or within a frame.
    let start = Instant::now();
    let mut silent = Client::on(open(&broker), Version::V5);
    silent
        .stream()
        .write_below(&[LAST | BINARY, 0x80 | 100, 1, 2, 3, 4, 0x10])
        .expect("open");
    silent.expect_closed();
    assert_elapsed(start, 0.9, 8.0);
    bystander.is_served();
}

/// Any data frame that is not binary closes the connection [MQTT-6.0.0-1] [MQTT3-6.0.0-1], and so does whatever breaks
/// the rules of frames. The client is told by the status code of a Close frame, whatever it sends besides.
#[test]
fn broken_frames() {
    let broker = start(&[]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will", 0);
    let ping = [0xC0, 0];
    let header = |first: u8, size: u64| [&[first, 0xFF][..], &size.to_be_bytes(), &[1, 2, 3, 4]].concat();
    let cases: [(Vec<u8>, u16, &str); 14] = [
        (frame(LAST | TEXT, &ping), 1003, "a text frame"),
        (frame(TEXT, &ping), 1003, "a text frame"),
        (vec![LAST | BINARY, 2, 0xC0, 0], PROTOCOL_ERROR, "a frame is not masked"),
        (vec![LAST | PING, 0], PROTOCOL_ERROR, "a frame is not masked"),
        (frame(PING, b"x"), PROTOCOL_ERROR, "a fragmented control frame"),
        (frame(CLOSE, b""), PROTOCOL_ERROR, "a fragmented control frame"),
        (
            frame(LAST | PING, &[0; 126]),
            PROTOCOL_ERROR,
            "a control frame of more than 125 bytes",
        ),
        (
            frame(LAST | CONTINUATION, &ping),
            PROTOCOL_ERROR,
            "a continuation of no message",
        ),
        (
            [frame(BINARY, &[]), frame(LAST | BINARY, &ping)].concat(),
            PROTOCOL_ERROR,
            "begins within another",
        ),
        (frame(LAST | 3, &ping), PROTOCOL_ERROR, "an unknown kind of frame"),
        (frame(LAST | 11, &ping), PROTOCOL_ERROR, "an unknown kind of frame"),
        (
            frame(LAST | 0x40 | BINARY, &ping),
            PROTOCOL_ERROR,
            "a reserved bit is set",
        ),
        (
            header(LAST | BINARY, 268_435_461),
            1009,
            "a frame larger than any packet",
        ),
        (header(LAST | BINARY, u64::MAX), 1009, "a frame larger than any packet"),
    ];
    for (bytes, code, detail) in cases {
        for version in Version::ALL {
            let mut client = mortal(&broker, version);
            client.stream().write_below(&bytes).expect("open");
            // More of the same kind: what comes behind a fault is not looked at.
            let _ = client.stream().write_below(&[0xFF; 100]);
            client.expect_closed();
            assert_eq!(client.stream().framing().close_code(), Some(code), "{detail}");
            let _ = client.stream().write_below(&[0xFF; 100]);
            broker.expect_log(detail);
            watcher.expect_message("will", "gone");
            assert!(!broker.log().contains("panicked"), "{detail}");
        }
    }
}

/// Before the CONNECT it is the same [MQTT-6.0.0-1] [MQTT3-6.0.0-1].
#[test]
fn connect_in_a_text_frame() {
    let broker = start(&[]);
    let mut client = Client::on(open(&broker), Version::V5);
    let connect = Packet::from(Connect::v5("client")).encode(Version::V5);
    client
        .stream()
        .write_below(&frame(LAST | TEXT, &connect))
        .expect("open");
    client.expect_closed();
    assert_eq!(client.stream().framing().close_code(), Some(1003));
    broker.expect_log("a text frame, where MQTT needs binary ones");
}

/// The largest frame that a packet may need may be announced.
#[test]
fn large_frames() {
    let broker = start(&["--max-packet-size", "268435460"]);
    let mut client = broker.connect_on(open(&broker), Connect::v5("client"));
    client
        .stream()
        .write_below(&[&[LAST | BINARY, 0xFF][..], &268_435_460_u64.to_be_bytes(), &[0; 4]].concat())
        .expect("open");
    for _ in 0..3 {
        // The mask is zero.
        client.stream().write_below(&[0xC0, 0]).expect("open");
        client.expect(Packet::Pingresp);
    }
}

/// Packets need not be aligned with frames: several lie in one, and one in several, with a CONNECT that is cut as well
/// [MQTT-6.0.0-2] [MQTT3-6.0.0-2].
#[test]
fn frames_are_not_aligned_with_packets() {
    let broker = start(&[]);
    for version in Version::ALL {
        let connect = Packet::from(Connect::new(version, "client")).encode(version);
        let rest: Vec<u8> = [
            Packet::from(Subscribe::new(1).filter("t", 1)).encode(version),
            Packet::from(Publish::new("t", vec![b'x'; 200]).qos(1, 2)).encode(version),
            Packet::Pingreq.encode(version),
        ]
        .concat();
        let bytes = [connect, rest].concat();
        for size in [1, 2, 3, 7, 20, 50, 200, bytes.len()] {
            let mut client = Client::on(open(&broker), version);
            let frames: Vec<u8> = bytes.chunks(size).flat_map(|part| frame(LAST | BINARY, part)).collect();
            client.stream().write_below(&frames).expect("open");
            assert_eq!(client.recv_connack().code, 0);
            assert_eq!(client.recv_suback().codes, [1]);
            let mut seen: Vec<Packet> = (0..3).map(|_| client.recv()).collect();
            seen.sort_by_key(|packet| !matches!(packet, Packet::Publish(_)));
            let Packet::Publish(message) = &seen[0] else {
                panic!("{seen:?}")
            };
            assert_eq!(message.payload, vec![b'x'; 200]);
        }
    }
}

/// A Ping is answered by a Pong with its payload, within a message as well; an unsolicited Pong is not answered.
#[test]
fn pings_are_answered() {
    let broker = start(&[]);
    let mut client = broker.connect_on(open(&broker), Connect::v5("client"));
    client.ping();
    client.stream().framing().take_pongs();
    for payload in [vec![], b"hello".to_vec(), vec![7; 125]] {
        let frames = [
            frame(LAST | PONG, b"unasked"),
            frame(BINARY, &[0xC0]),
            client.stream().framing().ping_with(&payload),
            frame(LAST | CONTINUATION, &[0]),
        ];
        client.stream().write_below(&frames.concat()).expect("open");
        client.expect(Packet::Pingresp);
        // Pong and answer may overtake each other.
        client.ping();
        assert_eq!(client.stream().framing().take_pongs()[0], payload);
    }
}

/// A Ping before the CONNECT is answered too, and one that nothing follows.
#[test]
fn pings_before_connect() {
    let broker = start(&[]);
    let mut stream = open(&broker);
    let ping = stream.framing().ping_with(b"early");
    stream.write_below(&ping).expect("open");
    eventually("a Pong comes", || {
        // No payload comes, so that this ends at a time-out.
        let _ = stream.read(&mut [0], std::time::Duration::from_millis(50));
        stream.framing().take_pongs() == [b"early"]
    });
}

/// A Close is answered by a Close, and is the end of the connection but no DISCONNECT: the will is published
/// [MQTT-3.1.2-8] [MQTT3-3.1.2-8]. What comes behind it is not looked at.
#[test]
fn close_is_answered() {
    let broker = start(&[]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("#", 0);
    let publish = Packet::from(Publish::new("late", "x"));
    for version in Version::ALL {
        for payload in [vec![], 1000_u16.to_be_bytes().to_vec(), b"\x03\xE9going away".to_vec()] {
            let mut client = mortal(&broker, version);
            let late = frame(LAST | BINARY, &publish.encode(version));
            client
                .stream()
                .write_below(&[frame(LAST | CLOSE, &payload), late].concat())
                .expect("open");
            client.expect_closed();
            assert_eq!(client.stream().framing().close_code(), Some(1000));
            broker.expect_log("connection lost");
            watcher.expect_message("will", "gone");
        }
    }
}

/// After the DISCONNECT of either side the connection ends with a Close frame. SIGTERM: a client is told 0x8B, and a
/// request that is under way does not hold up the end.
#[test]
fn ends_with_a_close_frame() {
    let broker = start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect_on(open(&broker), Connect::new(version, "client"));
        client.disconnect();
        assert_eq!(client.stream().framing().close_code(), Some(1000));
    }
    let mut client = broker.connect_on(open(&broker), Connect::v5("client"));
    let _halfway = Stream::tcp(broker.addr_of("ws"));
    let start = Instant::now();
    broker.signal("TERM");
    client.expect_disconnect(code::SERVER_SHUTTING_DOWN);
    assert_eq!(client.stream().framing().close_code(), Some(1000));
    assert_eq!(broker.wait().code(), Some(0));
    assert_elapsed(start, 0.0, 4.0);
}

/// `X-Forwarded-For` is believed from trusted proxies only.
#[test]
fn the_address_behind_a_proxy() {
    let forwarded = "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n";
    for (trusted, seen) in [("127.0.0.0/8", "peer=203.0.113.7:0"), ("10.0.0.0/8", "peer=127.0.0.1:")] {
        let broker = start(&["--trusted-proxies", trusted]);
        let (head, mut stream) = request(&broker, &get("/mqtt", &[UPGRADE, MQTT, forwarded]));
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let connect = Packet::from(Connect::v5("proxied")).encode(Version::V5);
        stream.write_all(&frame(LAST | BINARY, &connect)).expect("open");
        broker.expect_log("connected client=\"proxied\"");
        broker.expect_log(seen);
    }
}
