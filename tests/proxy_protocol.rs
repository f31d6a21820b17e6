//! The PROXY protocol: who may say where a client comes from, and headers that no proxy sends.

mod common;
use common::*;
use std::time::Instant;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The listeners and the schemes of their announcements.
const KINDS: &str = "tcp,tls,ws,wss";

/// A broker whose listeners all expect a PROXY header of these proxies; and a bystander, who is served all the time.
struct Proxied {
    broker: Broker,
    bystander: Bystander,
}

impl Proxied {
    fn start(trusted: &str, more: &[&str]) -> Proxied {
        let (cert, key) = (certificates::path("server.pem"), certificates::path("server.key"));
        let options = [
            "-v",
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
            "--tls-port",
            "0",
            "--ws-port",
            "0",
            "--wss-port",
            "0",
            "--proxy-protocol",
            KINDS,
            "--trusted-proxies",
            trusted,
        ];
        let broker = Broker::start_on(&[&options, more].concat());
        let mut stream = Stream::tcp(broker.addr());
        stream.write_all(b"PROXY UNKNOWN\r\n").expect("open");
        let mut client = broker.connect_on(stream, Connect::v5("bystander"));
        client.subscribe("bystander", 1);
        Proxied {
            broker,
            bystander: Bystander(client),
        }
    }

    /// A connection with this header, to be continued as the scheme has it.
    fn open(&self, scheme: &str, header: &[u8]) -> Stream {
        let mut stream = Stream::tcp(self.broker.addr_of(scheme));
        stream.write_all(header).expect("open");
        let tls = certificates::any_client();
        let opened = match scheme {
            "mqtts" => stream.tls(&tls),
            "ws" => stream.websocket("/mqtt"),
            "wss" => stream.tls(&tls).and_then(|stream| stream.websocket("/mqtt")),
            _ => Ok(stream),
        };
        opened.expect("the header is accepted")
    }

    /// Expects that a connection that begins with this is cut without a word, and why.
    fn expect_refused(&mut self, scheme: &str, bytes: &[u8], ends: bool, why: &str) {
        let mut stream = Stream::tcp(self.broker.addr_of(scheme));
        stream.write_all(bytes).expect("open");
        if ends {
            stream.end_writing().expect("open");
        }
        // A reset, if the broker has not read all.
        let end = stream.read(&mut [0; 16], DEADLINE).unwrap_or_else(|error| {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{why}");
            0
        });
        assert_eq!(end, 0, "{why}: an answer");
        self.broker.expect_log("connection refused");
        self.broker.expect_log(why);
        self.bystander.is_served();
    }
}

fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let size = u16::try_from(rest.len()).expect("a small header");
    [SIGNATURE, &[command, family], &size.to_be_bytes(), rest].concat()
}

/// From 192.0.2.7, port 4660, to 192.0.2.1, port 1883.
const ADDRESSES: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x34, 7, 0x5B];

/// A trusted proxy tells the client's address, in front of every transport, in version 1 and 2; what follows the header
/// at once is the client's.
#[test]
fn the_address_of_the_client() {
    let proxied = Proxied::start("10.0.0.0/8, 127.0.0.1", &[]);
    let v6 = [
        &[0x20, 1, 0xD, 0xB8][..],
        &[0; 11],
        &[7],
        &[0; 16],
        &[0x12, 0x34, 7, 0x5B],
    ]
    .concat();
    let headers: [(Vec<u8>, &str); 7] = [
        (
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 1883\r\n".to_vec(),
            "192.0.2.7:4660",
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 1883\r\n".to_vec(),
            "[2001:db8::7]:4660",
        ),
        (version_2(0x21, 0x11, &ADDRESSES), "192.0.2.7:4660"),
        (version_2(0x21, 0x21, &v6), "[2001:db8::7]:4660"),
        // With a list of what else the proxy knows.
        (
            version_2(0x21, 0x11, &[&ADDRESSES[..], &[4, 0, 1, 0]].concat()),
            "192.0.2.7:4660",
        ),
        // The proxy's own connections, and those of which it knows nothing.
        (version_2(0x20, 0, &[]), "127.0.0.1:"),
        (b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\n".to_vec(), "127.0.0.1:"),
    ];
    for scheme in ["mqtt", "mqtts", "ws", "wss"] {
        for (header, seen) in &headers {
            let stream = proxied.open(scheme, header);
            let mut client = proxied.broker.connect_on(stream, Connect::v5("proxied"));
            proxied
                .broker
                .expect_log(&format!("connected client=\"proxied\" peer={seen}"));
            client.ping();
            client.disconnect();
        }
    }
    for (header, _) in &headers {
        let mut stream = Stream::tcp(proxied.broker.addr());
        let connect = Packet::from(Connect::v5("at once")).encode(Version::V5);
        stream.write_all(&[&header[..], &connect].concat()).expect("open");
        assert_eq!(Client::on(stream, Version::V5).recv_connack().code, 0);
    }
}

/// Nobody else may tell an address, however well it is told.
#[test]
fn untrusted_addresses() {
    let (cert, key) = (certificates::path("server.pem"), certificates::path("server.key"));
    let tls = ["-v", "--tls-cert", &cert, "--tls-key", &key, "--tls-port", "0"];
    let proxies = [
        "--proxy-protocol",
        "tls",
        "--trusted-proxies",
        "10.0.0.0/8,127.0.0.2,::1",
    ];
    let broker = Broker::start_on(&[&tls[..], &proxies].concat());
    let bystander = Bystander::new(&broker);
    let mut proxied = Proxied { broker, bystander };
    for header in [
        b"PROXY TCP4 10.0.0.1 192.0.2.1 4660 1883\r\n".to_vec(),
        version_2(0x21, 0x11, &ADDRESSES),
    ] {
        proxied.expect_refused("mqtts", &header, false, "127.0.0.1:");
        proxied.broker.expect_log("is no trusted proxy");
    }
}

/// Headers that are cut off, say something that can't be, or do not agree with their own length.
#[test]
fn broken_headers() {
    let mut proxied = Proxied::start("127.0.0.1", &[]);
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(100)).into_bytes();
    let lines: [(&[u8], &str); 9] = [
        (&long, "the line is too long"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 4660\r\n", "unknown fields"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 1883 x\r\n", "unknown fields"),
        (b"PROXY UDP4 192.0.2.7 192.0.2.1 4660 1883\r\n", "unknown fields"),
        (b"PROXY TCP4 2001:db8::7 192.0.2.1 4660 1883\r\n", "no such address"),
        (b"PROXY TCP6 192.0.2.7 192.0.2.1 4660 1883\r\n", "no such address"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 66000 1883\r\n", "no such port"),
        (b"PROXY TCP4 \xFF 192.0.2.1 4660 1883\r\n", "not text"),
        (b"proxy TCP4 192.0.2.7 192.0.2.1 4660 1883\r\n", "no PROXY header"),
    ];
    for (line, why) in lines {
        proxied.expect_refused("mqtt", line, false, why);
    }
    let large = [SIGNATURE, &[0x21, 0x11, 0xFF, 0xFF]].concat();
    let headers: [(Vec<u8>, &str); 8] = [
        (large, "too large"),
        (version_2(0x21, 0x11, &ADDRESSES[..11]), "too short for its addresses"),
        (version_2(0x21, 0x21, &ADDRESSES), "too short for its addresses"),
        (version_2(0x21, 0x31, &ADDRESSES), "too short for its addresses"),
        (version_2(0x21, 0x41, &ADDRESSES), "unknown address family"),
        (version_2(0x11, 0x11, &ADDRESSES), "unknown version or command"),
        (version_2(0x22, 0x11, &ADDRESSES), "unknown version or command"),
        (
            version_2(0x21, 0x11, &[&ADDRESSES[..], &[0x20, 0, 9, 1]].concat()),
            "truncated",
        ),
    ];
    for (header, why) in headers {
        proxied.expect_refused("mqtt", &header, false, why);
    }
    for (header, ends) in [
        (&b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 1883"[..], "the line has no end"),
        (&version_2(0x21, 0x11, &ADDRESSES)[..20], "the header has no end"),
        (&SIGNATURE[..11], "no PROXY header"),
        (b"PROXY", "no PROXY header"),
        (b"", "no PROXY header"),
    ] {
        for scheme in ["mqtt", "wss"] {
            proxied.expect_refused(scheme, header, true, ends);
        }
    }
}

/// A client that comes without a proxy is refused, whatever it speaks.
#[test]
fn clients_without_a_proxy() {
    let mut proxied = Proxied::start("127.0.0.1", &[]);
    for version in Version::ALL {
        let connect = Packet::from(Connect::new(version, "a client without a proxy")).encode(version);
        proxied.expect_refused("mqtt", &connect, false, "no PROXY header, where one is expected");
    }
    let request = b"GET /mqtt HTTP/1.1\r\n\r\n";
    proxied.expect_refused("ws", request, false, "no PROXY header, where one is expected");
    let handshake = Stream::tcp(proxied.broker.addr_of("mqtts")).tls(&certificates::any_client());
    assert!(handshake.is_err(), "TLS without a header");
    proxied.broker.expect_log("no PROXY header, where one is expected");
}

/// A PROXY header where none is expected is refused, and the log says what to do.
#[test]
fn headers_that_nobody_expects() {
    let broker = Broker::start_on(&["-v", "--trusted-proxies", "127.0.0.1"]);
    let bystander = Bystander::new(&broker);
    let mut proxied = Proxied { broker, bystander };
    let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 1883\r\n";
    for header in [line.to_vec(), version_2(0x21, 0x11, &ADDRESSES)] {
        proxied.expect_refused("mqtt", &header, false, "(--proxy-protocol)");
    }
}

/// A proxy that does not end its header is cut after the time for the CONNECT.
#[test]
fn headers_that_never_end() {
    let mut proxied = Proxied::start("127.0.0.1", &["--connect-timeout", "1"]);
    for beginning in [
        &b""[..],
        b"PROXY TCP4 ",
        SIGNATURE,
        &version_2(0x21, 0x11, &ADDRESSES)[..27],
    ] {
        let start = Instant::now();
        proxied.expect_refused("mqtt", beginning, false, "");
        assert_elapsed(start, 0.9, 8.0);
    }
    assert_eq!(proxied.broker.log().matches("its handshake took too long").count(), 4);
}
