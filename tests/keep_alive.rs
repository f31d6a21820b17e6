//! Keep Alive: silence for one and a half times the interval ends a connection as a network failure does.

mod common;
use common::*;
use std::time::{Duration, Instant};

/// A client that sends nothing for 1.5 times its Keep Alive is cut [MQTT-3.1.2-22] [MQTT3-3.1.2-24], not earlier, and
/// its own value counts when CONNACK has none [MQTT-3.2.2-22]. MQTT 5.0 is told 0x8D.
#[test]
fn silence_is_cut() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let start = Instant::now();
        let mut client = broker.connect(Connect::new(version, "silent").keep_alive(1));
        assert_eq!(client.connack.props.server_keep_alive(), None);
        client.expect_cut(code::KEEP_ALIVE_TIMEOUT);
        assert_elapsed(start, 1.4, 8.0);
    }
}

/// The cut is one as if the network had failed: the will is published [MQTT-3.1.2-22] [MQTT-3.1.2-8]
/// [MQTT3-3.1.2-24] [MQTT3-3.1.2-8].
#[test]
fn silence_publishes_the_will() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will/#", 0);
    for version in Version::ALL {
        let _silent = broker.connect(
            Connect::new(version, "silent")
                .keep_alive(1)
                .will(Will::new("will/a", "gone")),
        );
        watcher.expect_message("will/a", "gone");
    }
}

/// Every packet of the client counts, PINGREQ [MQTT-3.12.4-1] [MQTT3-3.12.4-1] and others; what the broker sends does
/// not.
#[test]
fn packets_of_the_client_count() {
    let broker = Broker::start(&[]);
    let mut talker = broker.connect(Connect::v5("talker").keep_alive(1));
    let mut pinger = broker.connect(Connect::v311("pinger").keep_alive(1));
    let listening = std::thread::scope(|scope| {
        let listener = scope.spawn(|| {
            let mut listener = broker.connect(Connect::v5("listener").keep_alive(1));
            listener.subscribe("talk", 0);
            let start = Instant::now();
            while let Some(packet) = listener.recv_or_closed() {
                if let Packet::Disconnect(disconnect) = packet {
                    assert_eq!(disconnect.reason, code::KEEP_ALIVE_TIMEOUT);
                }
            }
            start.elapsed()
        });
        let start = Instant::now();
        while !listener.is_finished() || start.elapsed() < Duration::from_secs(4) {
            talker.publish("talk", "x", 0);
            pinger.ping();
            std::thread::sleep(Duration::from_millis(200)); // the pace of a client, not a wait for anything
        }
        listener.join().expect("the listener ends well")
    });
    assert!(
        listening > Duration::from_millis(1400) && listening < Duration::from_secs(8),
        "{listening:?}"
    );
    talker.ping();
}

/// Bytes are not packets: whoever dribbles a PUBLISH byte by byte is cut as well [MQTT-3.1.2-22] [MQTT3-3.1.2-24].
#[test]
fn dribbling_is_silence() {
    let broker = Broker::start(&[]);
    let start = Instant::now();
    let mut client = broker.connect(Connect::v311("dribbler").keep_alive(1));
    client.send_bytes(&[0x30, 0xff, 0x7f]);
    while client.try_send_bytes(b"x").is_ok() {
        assert!(start.elapsed() < Duration::from_secs(8), "still connected");
        std::thread::sleep(Duration::from_millis(100)); // the pace of a client, not a wait for anything
    }
    assert_elapsed(start, 1.4, 8.0);
}

/// Keep Alive 0 turns the mechanism off: such a client outlives the silence that ends another's connection.
#[test]
fn zero_is_off() {
    let broker = Broker::start(&[]);
    let connect = |(index, version)| broker.connect(Connect::new(version, &format!("off{index}")).keep_alive(0));
    let mut clients: Vec<Client> = Version::ALL.into_iter().enumerate().map(connect).collect();
    broker.let_time_pass();
    broker.let_time_pass();
    clients.iter_mut().for_each(Client::ping);
}

/// `--max-keep-alive` imposes a Server Keep Alive on clients of MQTT 5.0 that want a longer one, or none; it is what
/// counts then. A shorter wish is left alone [MQTT-3.2.2-22].
#[test]
fn server_keep_alive() {
    let broker = Broker::start(&["--max-keep-alive", "1"]);
    for wish in [0, 2, 600] {
        let start = Instant::now();
        let mut client = broker.connect(Connect::v5("client").keep_alive(wish));
        assert_eq!(client.connack.props.server_keep_alive(), Some(1));
        client.expect_disconnect(code::KEEP_ALIVE_TIMEOUT);
        assert_elapsed(start, 1.4, 8.0);
    }
    assert_eq!(
        broker
            .connect(Connect::v5("modest").keep_alive(1))
            .connack
            .props
            .server_keep_alive(),
        None
    );
}
