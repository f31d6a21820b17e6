//! Listeners with layers: what hooks learn of a client from TLS, WebSocket, a proxy.

use mqtt_broker::{
    CertificateName, ClientAuth, ConnectRequest, Listener, Tls, TlsSettings, Transport as Over, WebSocket,
};
use tokio_rustls::rustls::version::TLS13;

use crate::common::*;
use crate::harness::{Embedded, Notes, Script};

/// A broker that notes for each CONNECT the User Name and what `more` says.
fn noting(more: impl Fn(&ConnectRequest<'_>) -> String + Send + Sync + 'static) -> (Embedded, Notes) {
    let notes = Notes::default();
    let noted = notes.clone();
    let script = Script::new().authenticate(move |request| {
        let user = request.client.username.as_deref().unwrap_or("-");
        noted.add(format!("{user} {}", more(request)));
        Ok(())
    });
    (Embedded::with_hooks(script), notes)
}

/// The names in the certificate, and whether it came over TLS.
fn names(request: &ConnectRequest<'_>) -> String {
    let peer = &request.client.peer;
    let names = peer.certificate.as_ref().map(|certificate| {
        let common_name = certificate.common_name.as_deref().unwrap_or("-");
        format!("{common_name} {}", certificate.alternative_names.join(","))
    });
    format!("{:?} {}", peer.transport, names.unwrap_or_default())
}

fn tls(username: Option<CertificateName>) -> Tls {
    let mut settings = TlsSettings::new(certificates::path("server.pem"), certificates::path("server.key"));
    settings.client_ca = Some(certificates::path("ca.pem").into());
    settings.client_auth = ClientAuth::Optional;
    settings.username = username;
    Tls::load(settings).expect("good files")
}

/// Connects on this stream, and says to be `claimed`.
fn claim(stream: Stream) {
    let mut client = Client::on(stream, Version::V5);
    client.send(Connect::v5("client").username("claimed"));
    assert_eq!(client.recv_connack().code, 0);
}

/// Whatever a CONNECT says, the name in the certificate is the user, if that is asked for: the common name or the first
/// alternative one. A client without a certificate has the name that it says.
#[test]
fn names_in_certificates() {
    let cases = [
        (None, "claimed"),
        (Some(CertificateName::CommonName), "client"),
        (Some(CertificateName::SubjectAlternativeName), "client.test"),
    ];
    for (username, user) in cases {
        let (embedded, notes) = noting(names);
        let addr = embedded.serve_on(|listener| listener.tls(tls(username)));
        for (certificate, expected) in [
            (Some("client"), format!("{user} Tls client client.test")),
            (None, "claimed Tls ".to_owned()),
        ] {
            let config = certificates::client(certificate, &[&TLS13]);
            claim(Stream::tcp(addr).tls(&config).expect("a handshake"));
            assert_eq!(notes.take(), [expected]);
        }
    }
}

/// A proxy that has taken TLS off tells the common name. It counts if the proxy has verified the certificate, and is the
/// user if that is asked for.
#[test]
fn names_that_a_proxy_tells() {
    let header = |flags: u8, verify: u8| {
        let name = [&[0x22, 0, 6][..], b"device"].concat();
        let ssl = [&[flags, 0, 0, 0, verify][..], &name].concat();
        let rest = [
            &[192, 0, 2, 7, 192, 0, 2, 1, 0, 1, 0, 2, 0x20, 0, ssl.len() as u8][..],
            &ssl,
        ]
        .concat();
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", &[rest.len() as u8][..], &rest].concat()
    };
    let cases = [
        (Some(CertificateName::CommonName), 7, 0, "device Tcp device "),
        (
            Some(CertificateName::SubjectAlternativeName),
            7,
            0,
            "claimed Tcp device ",
        ),
        (None, 7, 0, "claimed Tcp device "),
        // Not verified, or no certificate.
        (Some(CertificateName::CommonName), 7, 1, "claimed Tcp "),
        (Some(CertificateName::CommonName), 1, 0, "claimed Tcp "),
    ];
    for (username, flags, verify, expected) in cases {
        let (embedded, notes) = noting(names);
        let trusted = "127.0.0.1".parse().expect("an address");
        let addr = embedded.serve_on(|listener| listener.proxy_protocol(username).trusted_proxies(trusted));
        let mut stream = Stream::tcp(addr);
        stream.write_all(&header(flags, verify)).expect("open");
        claim(stream);
        assert_eq!(notes.take(), [expected]);
    }
}

/// Hooks see the request of a WebSocket client, unless the listener does not keep it.
#[test]
fn requests_of_websocket_clients() {
    for keeps in [true, false] {
        let (embedded, notes) = noting(|request| {
            let peer = &request.client.peer;
            let upgrade = peer.upgrade.as_deref();
            let seen = upgrade.map(|upgrade| (&*upgrade.path, upgrade.header("host"), upgrade.header("cookie")));
            assert_eq!(peer.transport, Over::WebSocket);
            format!("{seen:?}")
        });
        let mut websocket = WebSocket::default();
        websocket.keeps_request = keeps;
        let addr = embedded.serve_on(|listener| listener.websocket(websocket));
        claim(Stream::tcp(addr).websocket("/mqtt?token=x").expect("a connection"));
        let expected = if keeps {
            r#"claimed Some(("/mqtt?token=x", Some("localhost"), None))"#
        } else {
            "claimed None"
        };
        assert_eq!(notes.take(), [expected]);
    }
}

/// A client of a Unix socket has no address.
#[test]
fn clients_of_unix_sockets() {
    let (embedded, notes) = noting(|request| format!("{:?}", request.client.peer));
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mqtt.sock");
    let guard = embedded.runtime().enter();
    let listener = Listener::from(tokio::net::UnixListener::bind(&path).expect("a socket"));
    drop(guard);
    let broker = embedded.broker.clone();
    embedded.runtime().spawn(async move { broker.serve(listener).await });
    claim(Stream::unix(&path));
    let [note] = &notes.take()[..] else {
        panic!("one CONNECT")
    };
    assert!(note.contains("address: None, transport: Unix"), "{note}");
}

/// Settings that contradict each other, and files that can't be read, are told.
#[test]
fn settings_that_can_not_be() {
    let mut settings = TlsSettings::new(certificates::path("server.pem"), certificates::path("server.key"));
    settings.client_auth = ClientAuth::Required;
    let error = Tls::load(settings.clone()).expect_err("no authority");
    assert!(
        error.reason.contains("without the certificate of their authority"),
        "{error}"
    );
    settings.client_auth = ClientAuth::None;
    settings.key = "/nowhere/key.pem".into();
    let error = Tls::load(settings).expect_err("no key");
    assert!(
        error.to_string().starts_with("/nowhere/key.pem: No such file"),
        "{error}"
    );
}
