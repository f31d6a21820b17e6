//! Several brokers, several listeners, and connections that the program accepts itself.

use mqtt_broker::{Event, Peer, ReasonCode};

use crate::common::*;
use crate::harness::{Embedded, Pipe, Script, config, message};

const ADMINISTRATIVE_ACTION: u8 = 0x98;

fn no_hooks() -> Option<Script> {
    None
}

/// Two brokers in one process share nothing: the same Client Identifier is connected to both, and what is published,
/// retained or shut down in one is not noticed in the other.
#[test]
fn several_brokers_in_one_process() {
    let (here, there) = (Embedded::start(), Embedded::start());
    let (mut near, mut far) = (here.v5("twin"), there.v5("twin"));
    near.subscribe("#", 1);
    far.subscribe("#", 1);
    here.publish_message(message("t", "here", 1).retain(true));
    near.expect_message("t", "here");
    there.assert_nothing_for(&mut far);
    let mut late = there.v5("late");
    late.subscribe("t", 0);
    late.assert_silent_until_ping();
    here.wait(here.broker.shutdown());
    near.expect_disconnect(code::SERVER_SHUTTING_DOWN);
    there.publish("t", "there", 1);
    far.expect_message("t", "there");
    assert_eq!(there.broker.connected_clients(), 2);
}

/// The broker runs on the caller's runtime, also on one with a single thread.
#[test]
fn on_a_runtime_with_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let embedded = Embedded::on(runtime.expect("a runtime"), config(), no_hooks());
    let mut client = embedded.pipe(Connect::v5("client"), 64);
    client.send(Subscribe::new(1).filter("t", 1));
    assert!(matches!(client.recv(), Packet::Suback(_)));
    embedded.publish("t", "from the program", 1);
    assert!(matches!(client.recv(), Packet::Publish(publish) if publish.text() == "from the program"));
    embedded.wait(embedded.broker.shutdown());
    assert!(matches!(client.recv(), Packet::Disconnect(_)));
    client.ended();
}

/// One broker serves several listeners; a listener whose future is dropped is closed, and its connections go on.
#[test]
fn several_listeners() {
    let embedded = Embedded::start();
    let (addr, serving) = embedded.serve_another();
    let mut first = embedded.v5("first");
    first.subscribe("t", 1);
    let mut second = Client::open(addr, Version::V5);
    second.send(Connect::v5("second"));
    assert_eq!(second.recv_connack().code, 0);
    serving.abort();
    assert!(embedded.wait(serving).is_err_and(|error| error.is_cancelled()));
    assert!(
        std::net::TcpStream::connect(addr).is_err(),
        "nobody listens there any more"
    );
    second.publish("t", "still there", 1);
    first.expect_message("t", "still there");
}

fn await_message(pipe: &mut Pipe<'_>) -> Publish {
    match pipe.recv() {
        Packet::Publish(publish) => publish,
        other => panic!("not a PUBLISH: {other:?}"),
    }
}

/// A connection over any transport is served like one over TCP, whatever pieces the transport hands on: here a pipe
/// that holds 97 bytes.
#[test]
fn any_transport() {
    let embedded = Embedded::start();
    for version in Version::ALL {
        let mut tcp = embedded.connect(Connect::new(version, "tcp"));
        tcp.subscribe("up/#", 2);
        let mut pipe = embedded.pipe(Connect::new(version, "pipe"), 97);
        pipe.send(Subscribe::new(1).filter("down/#", 2));
        assert!(matches!(pipe.recv(), Packet::Suback(suback) if suback.codes == [2]));
        for qos in 0..3 {
            let large = "x".repeat(40_000);
            pipe.send(Publish::new("up/a", &large).qos(qos, u16::from(qos)));
            match qos {
                1 => assert_eq!(pipe.recv(), Packet::Puback(Ack::new(1))),
                2 => {
                    assert_eq!(pipe.recv(), Packet::Pubrec(Ack::new(2)));
                    pipe.send(Packet::Pubrel(Ack::new(2)));
                    assert_eq!(pipe.recv(), Packet::Pubcomp(Ack::new(2)));
                }
                _ => {}
            }
            assert_eq!(tcp.expect_message("up/a", &large).qos, qos);
            tcp.publish("down/a", &large, 0);
            assert_eq!(await_message(&mut pipe).text(), large);
        }
        pipe.send(Disconnect::new(0));
        assert_eq!(pipe.recv_or_closed(), None);
        pipe.ended();
        tcp.disconnect();
    }
}

/// The program says where a connection comes from, or does not know.
#[test]
fn peer_addresses() {
    let embedded = Embedded::start();
    let mut events = embedded.broker.events();
    let address: std::net::SocketAddr = "192.0.2.7:1234".parse().expect("an address");
    for peer in [Peer::from(address), Peer::default()] {
        let mut pipe = embedded.open_pipe(Version::V311, 64, peer.clone());
        pipe.send(Connect::v311("client"));
        assert!(matches!(pipe.recv(), Packet::Connack(_)));
        let client = embedded.find_event(&mut events, |event| match event {
            Event::Connected(client) => Some(client.clone()),
            _ => None,
        });
        assert_eq!((&client.peer, &*client.client_id), (&peer, "client"));
        pipe.hang_up();
    }
}

/// Dropping the future of `handle` is a failure of the network: the will is published [MQTT-3.1.2-8]
/// [MQTT3-3.1.2-8], and the session is kept, with what was in flight [MQTT-4.4.0-1] [MQTT3-4.4.0-1].
#[test]
fn dropped_future_is_a_network_failure() {
    let embedded = Embedded::start();
    let mut watcher = embedded.v5("watcher");
    watcher.subscribe("will", 1);
    for version in Version::ALL {
        let connect = Connect::persistent(version, "client");
        let mut pipe = embedded.pipe(connect.clone().will(Will::new("will", "gone").qos(1)), 1024);
        pipe.send(Subscribe::new(1).filter("t", 1));
        assert!(matches!(pipe.recv(), Packet::Suback(_)));
        embedded.publish("t", "in flight", 1);
        let first = await_message(&mut pipe);
        let mut rest = pipe.cancel();
        watcher.expect_message("will", "gone");
        assert_eq!(embedded.broker.connected_clients(), 1);
        let end = embedded.wait(tokio::io::AsyncReadExt::read(&mut rest, &mut [0; 64]));
        assert_eq!(end.ok(), Some(0), "the transport is closed without another word");
        embedded.publish("t", "queued", 1);

        let mut client = embedded.connect(connect.clean(false));
        let again = client.expect_message("t", "in flight");
        assert!(again.dup && again.id == first.id, "{again:?}");
        client.expect_message("t", "queued");
        client.disconnect();
        embedded.connect(Connect::new(version, "client")).disconnect();
    }
}

/// Dropping the future before a CONNECT, or with half of one, leaves nothing behind.
#[test]
fn dropped_before_connect() {
    let embedded = Embedded::start();
    embedded.open_pipe(Version::V5, 64, Peer::default()).cancel();
    let mut half = embedded.open_pipe(Version::V5, 64, Peer::default());
    let bytes = Packet::from(Connect::v5("half")).encode(Version::V5);
    half.send_bytes(&bytes[..bytes.len() / 2]);
    half.cancel();
    assert_eq!(embedded.broker.connected_clients(), 0);
    assert!(!embedded.v5("half").connack.session_present);
}

/// The program closes a connection: MQTT 5.0 is told why [MQTT-3.14.2-1] [MQTT-4.13.2-1], MQTT 3 just closed; the will
/// is published and the session kept [MQTT-3.1.2-8] [MQTT3-3.1.2-8].
#[test]
fn disconnect_a_client() {
    let embedded = Embedded::start();
    let mut watcher = embedded.v5("watcher");
    watcher.subscribe("will", 1);
    let disconnect = |reason| embedded.broker.disconnect("client", reason);
    assert!(!disconnect(ReasonCode::AdministrativeAction), "nobody is there");
    for version in Version::ALL {
        let connect = Connect::persistent(version, "client").will(Will::new("will", "gone"));
        let mut client = embedded.connect(connect.clone());
        client.subscribe("t", 1);
        assert!(disconnect(ReasonCode::AdministrativeAction));
        client.expect_cut(ADMINISTRATIVE_ACTION);
        watcher.expect_message("will", "gone");
        assert!(
            !disconnect(ReasonCode::AdministrativeAction),
            "only its session is there"
        );
        embedded.publish("t", "kept", 1);
        embedded.connect(connect.clean(false)).expect_message("t", "kept");
    }
}

/// A Reason Code that is no error, or none of a DISCONNECT, is not sent as it is [MQTT-3.14.2-1].
#[test]
fn disconnect_with_other_codes() {
    let embedded = Embedded::start();
    for (reason, sent) in [
        (ReasonCode::Success, ADMINISTRATIVE_ACTION),
        (ReasonCode::DisconnectWithWillMessage, ADMINISTRATIVE_ACTION),
        (ReasonCode::Banned, code::NOT_AUTHORIZED),
        (ReasonCode::UseAnotherServer, 0x9C),
    ] {
        let mut client = embedded.v5("client");
        assert!(embedded.broker.disconnect("client", reason));
        client.expect_disconnect(sent);
    }
}
