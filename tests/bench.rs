//! `broker bench` against this broker: each shape runs, and accounts for every message.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;

use common::persistence::in_cluster;
use common::*;

fn bench(port: u16, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_broker"))
        .arg("bench")
        .args(arguments.split_whitespace())
        .args(["--json", "--port", &port.to_string()])
        .output()
        .expect("the program runs")
}

/// Where nobody listens.
fn closed_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    free.local_addr().expect("it is bound").port()
}

/// The figures of a run that ended well.
fn figures(arguments: &str) -> String {
    let broker = Broker::start(&[]);
    let output = bench(broker.addr().port(), arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    let figures = String::from_utf8(output.stdout).expect("is UTF-8");
    assert!(broker.terminate().success());
    figures
}

fn check_flow(arguments: &str) {
    let figures = figures(&format!("{arguments} --warmup 0.1 --duration 0.2"));
    for expected in [
        "\"messages_lost\":0,",
        "\"messages_duplicated\":0,",
        "\"messages_out_of_order\":0}",
    ] {
        assert!(figures.contains(expected), "{arguments}: {figures}");
    }
    assert!(!figures.contains("\"messages_delivered\":0,"), "{arguments}: {figures}");
}

#[test]
fn messages_flow_in_every_shape() {
    for qos in 0..=2 {
        check_flow(&format!("p2p --pairs 3 --qos {qos}"));
        check_flow(&format!(
            "p2p --pairs 3 --qos {qos} --mqtt 5 --user-properties 3 --window 1"
        ));
    }
    check_flow("fanout --subscribers 5 --qos 1 --payload 5000");
    check_flow("fanin --publishers 5 --qos 1 --mqtt 5");
    check_flow("shared --publishers 5 --members 3 --qos 1");
    check_flow("match --publishers 2 --topics 50 --filters 500");
    check_flow("p2p --pairs 2 --frozen 1 --churn 500 --keep-alive 60");
}

#[test]
fn the_open_loop_keeps_its_rate() {
    check_flow("latency --pairs 3 --rate 500");
}

#[test]
fn clients_connect_and_subscribe() {
    let figures = figures("conn --clients 300 --subscriptions 10");
    assert!(
        figures.contains("\"clients\":300,") && figures.contains("\"subscriptions\":3000,"),
        "{figures}"
    );
}

/// Publishers are on one node of a cluster, subscribers on the other ones, and both alike in a fan-out.
#[test]
fn subscribers_are_on_other_nodes() {
    let place = in_cluster(1);
    let options: Vec<_> = place.options.iter().map(String::as_str).collect();
    let nodes: Vec<_> = (0..3).map(|_| Broker::start_as_told(&options)).collect();
    let ports: Vec<_> = nodes.iter().map(|node| node.addr().port().to_string()).collect();
    for load in [
        "p2p --pairs 4",
        "p2p --pairs 4 --qos 1 --persistent",
        "fanout --subscribers 5 --qos 2",
    ] {
        let others = ports[1..].join(",");
        let load = format!("{load} --subscriber-ports {others} --warmup 0.1 --duration 0.2");
        let output = bench(nodes[0].addr().port(), &load);
        let figures = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{load}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!figures.contains("\"messages_delivered\":0,"), "{load}: {figures}");
    }
    let output = bench(
        nodes[0].addr().port(),
        &format!("p2p --subscriber-ports {}", closed_port()),
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"));
}

/// Whether each client that connects wants a Clean Start, in their order; all are answered.
fn clean_starts() -> (u16, mpsc::Receiver<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut head = [0; 10];
            while client.peek(&mut head).is_ok_and(|size| (1..10).contains(&size)) {}
            let _ = send.send(head[9] & 2 != 0);
            thread::spawn(move || answer(client, 0, 0));
        }
    });
    (port, receive)
}

/// Sessions outlive their connections, and are ended after the run; what is measured has a mark on both sides.
#[test]
fn persistent_clients_leave_no_sessions() {
    let (port, clean) = clean_starts();
    let output = bench(port, "conn --clients 3 --persistent --marks --mqtt 5");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "mark\nmark\n");
    assert_eq!(
        clean.iter().take(6).collect::<Vec<_>>(),
        [false, false, false, true, true, true]
    );
}

#[test]
fn retained_messages_all_arrive() {
    assert!(figures("retained --topics 1000").contains("\"messages_received\":1000}"));
}

#[test]
fn queued_messages_all_arrive() {
    for qos in 1..=2 {
        assert!(figures(&format!("offline --messages 1000 --qos {qos}")).contains("\"messages_lost\":0,"));
    }
}

/// Answers CONNECT with success, SUBSCRIBE and PUBLISH with these Reason Codes, all in MQTT 5.0.
fn answer(mut client: TcpStream, suback: u8, puback: u8) {
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        received.extend_from_slice(&buffer[..count]);
        while let Some((first, body, size)) = wire::split(&received) {
            let answer = match first >> 4 {
                1 => vec![0x20, 3, 0, 0, 0],
                3 => {
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    vec![0x40, 3, body[topic + 2], body[topic + 3], puback]
                }
                8 => vec![0x90, 4, body[0], body[1], 0, suback],
                _ => Vec::new(),
            };
            // The load generator may have gone.
            let _ = client.write_all(&answer);
            received.drain(..size);
        }
    }
}

/// A Reason Code of 0x80 or above is a failure (section 2.4): it ends the run, and is named.
#[test]
fn a_refusal_ends_the_run() {
    for (suback, puback, shapes, expected) in [
        (
            1,
            0x97,
            &["offline", "retained", "p2p --qos 1"][..],
            "a message with code 0x97",
        ),
        (
            0x8F,
            0,
            &["offline", "retained", "conn --subscribe"],
            "a subscription with code 0x8F",
        ),
    ] {
        for shape in shapes {
            let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
            let port = listener.local_addr().expect("it is bound").port();
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    thread::spawn(move || answer(client, suback, puback));
                }
            });
            let output = bench(port, &format!("{shape} --mqtt 5"));
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{shape}: {errors}");
            assert!(errors.contains(expected), "{shape}: {errors}");
        }
    }
}

#[test]
fn a_broker_that_is_not_there_is_one_line() {
    let output = bench(closed_port(), "p2p --pairs 1");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("refused"), "{errors}");
}

/// Payloads from a byte to more than a TLS record and a socket take at once.
#[test]
fn messages_flow_over_every_transport() {
    let file = certificates::path;
    for (scheme, open, speak) in [
        ("mqtts", "--tls-port 0", format!("--tls --ca {}", file("ca.pem"))),
        ("ws", "--tls-port off --ws-port 0", "--ws".to_owned()),
        (
            "wss",
            "--tls-port off --wss-port 0",
            format!("--wss --ca {}", file("ca.pem")),
        ),
    ] {
        let tls = format!(
            "--no-tcp --tls-cert {} --tls-key {} {open}",
            file("server.pem"),
            file("server.key")
        );
        let broker = Broker::start_on(&tls.split(' ').collect::<Vec<_>>());
        let port = broker.addr_of(scheme).port();
        for load in [
            "p2p --pairs 3 --qos 2 --payload 20",
            "p2p --pairs 2 --qos 1 --payload 100000",
            "fanout --subscribers 5 --qos 1 --payload 5000 --mqtt 5",
        ] {
            let output = bench(port, &format!("{load} {speak} --warmup 0.1 --duration 0.2"));
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{load} {speak}: {errors}");
            let figures = String::from_utf8_lossy(&output.stdout);
            assert!(figures.contains("\"messages_lost\":0,"), "{figures}");
            assert!(!figures.contains("\"messages_delivered\":0,"), "{figures}");
        }
    }
}
