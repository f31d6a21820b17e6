//! Message ordering (section 4.6): what one client publishes on one topic arrives in the order of publication, at
//! each QoS.

mod common;
use common::*;

/// A thousand messages without a pause arrive in order, at each QoS [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT3-4.6.0-5]
/// [MQTT3-4.6.0-6].
#[test]
fn a_burst_arrives_in_order() {
    const COUNT: u16 = 1_000;
    for version in Version::ALL {
        for qos in 0..=2 {
            let broker = Broker::start(&[]);
            let (mut subscriber, mut publisher) = broker.pair(version);
            subscriber.subscribe("a/#", qos);
            for number in 0..COUNT {
                publisher.send(Publish::new("a/b", number.to_string()).qos(qos, number + 1));
            }
            let mut next = 0;
            while next < COUNT {
                // A PUBREL can come between two messages.
                match subscriber.recv() {
                    Packet::Publish(message) => {
                        assert_eq!((message.text(), message.qos), (&*next.to_string(), qos));
                        next += 1;
                        match qos {
                            1 => subscriber.send(Packet::Puback(Ack::new(message.id))),
                            2 => subscriber.send(Packet::Pubrec(Ack::new(message.id))),
                            _ => {}
                        }
                    }
                    Packet::Pubrel(ack) => subscriber.send(Packet::Pubcomp(ack)),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// A small window does not change the order, nor does the order of the acks [MQTT-4.6.0-5] [MQTT3-4.6.0-6].
#[test]
fn a_small_window_keeps_the_order() {
    for version in Version::ALL {
        for qos in 1..=2 {
            let broker = Broker::start(&["--max-inflight", "3"]);
            let (mut subscriber, mut publisher) = broker.pair(version);
            subscriber.subscribe("a", qos);
            publisher.publish_numbers("a", 0..61, qos);
            let mut window: Vec<Publish> = (0..3).map(|_| subscriber.recv_publish()).collect();
            for number in 3..61 {
                subscriber.ack(&window.remove(usize::try_from(number % 3).expect("small")));
                window.push(subscriber.recv_publish());
                assert_eq!(window[2].text(), number.to_string());
            }
        }
    }
}

/// Messages of several publishers come in the order of each of them [MQTT-4.6.0-5] [MQTT3-4.6.0-6].
#[test]
fn each_publisher_keeps_its_own_order() {
    const COUNT: u16 = 200;
    for version in Version::ALL {
        for qos in 0..=2 {
            let broker = Broker::start(&[]);
            let mut subscriber = broker.connect(Connect::new(version, "subscriber"));
            subscriber.subscribe("a/+", qos);
            let mut publishers: Vec<Client> = (0..4)
                .map(|number| broker.connect(Connect::new(version, &format!("p{number}"))))
                .collect();
            for number in 0..COUNT {
                for (index, publisher) in publishers.iter_mut().enumerate() {
                    publisher.send(Publish::new("a/b", format!("{index} {number}")).qos(qos, number + 1));
                }
            }
            let mut next = [0; 4];
            while next != [COUNT; 4] {
                match subscriber.recv() {
                    Packet::Publish(message) => {
                        let (index, number) = message.text().split_once(' ').expect("two numbers");
                        let index: usize = index.parse().expect("a number");
                        assert_eq!(number, next[index].to_string());
                        next[index] += 1;
                        match qos {
                            1 => subscriber.send(Packet::Puback(Ack::new(message.id))),
                            2 => subscriber.send(Packet::Pubrec(Ack::new(message.id))),
                            _ => {}
                        }
                    }
                    Packet::Pubrel(ack) => subscriber.send(Packet::Pubcomp(ack)),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// What was in flight, then what was queued while the client was away, then what comes afterwards [MQTT-4.4.0-1]
/// [MQTT-4.6.0-5] [MQTT3-4.4.0-1] [MQTT3-4.6.0-1] [MQTT3-4.6.0-6].
#[test]
fn in_flight_then_queued_then_new_messages() {
    for version in Version::ALL {
        for qos in 1..=2 {
            let broker = Broker::start(&[]);
            let (connect, mut subscriber, mut publisher) = broker.lasting_pair(version, "a", qos);
            publisher.publish_numbers("a", 0..5, qos);
            for _ in 0..5 {
                subscriber.recv_publish();
            }
            subscriber.kill();
            publisher.publish_numbers("a", 5..10, qos);
            let mut subscriber = broker.resume(connect);
            publisher.publish_numbers("a", 10..15, qos);
            let messages: Vec<Publish> = (0..15).map(|_| subscriber.recv_publish()).collect();
            for (number, message) in messages.iter().enumerate() {
                assert_eq!((message.text(), message.dup), (&*number.to_string(), number < 5));
            }
        }
    }
}

/// Retained messages, sent because of the SUBSCRIBE, come before messages that are published after it
/// [MQTT-4.6.0-5] [MQTT3-4.6.0-6].
#[test]
fn the_retained_message_comes_before_newer_ones() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        publisher.publish_packet(Publish::new("a", "0").qos(1, 0).retain());
        subscriber.subscribe("a", 1);
        publisher.publish_numbers("a", 1..5, 1);
        subscriber.expect_numbers(0..5);
    }
}

/// Topics of one publisher are in order as well for a subscriber of them all, which the specification does not ask
/// for but users expect [MQTT-4.6.0-6].
#[test]
fn topics_of_one_publisher_come_in_order() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        for filter in ["a/1", "a/+", "b/#", "c"] {
            subscriber.subscribe(filter, 1);
        }
        for number in 0..100 {
            let topic = ["a/1", "b/2/3", "c", "a/9", "b"][number % 5];
            publisher.publish(topic, number.to_string(), 1);
        }
        subscriber.expect_numbers(0..100);
    }
}

/// A subscriber that talks itself, and reads slowly through a small window, gets whole packets in the order of each of
/// its publishers, and its answers among them: publishers write to a sleeping subscriber's socket themselves
/// [MQTT-4.6.0-6] [MQTT3-4.6.0-6].
#[test]
fn publishers_and_the_broker_do_not_write_over_each_other() {
    const PUBLISHERS: usize = 4;
    const COUNT: u32 = 300;
    for version in Version::ALL {
        let broker = Broker::start(&["--threads", "4", "--max-queued-bytes", "100000000"]);
        let mut subscriber = broker.connect(Connect::new(version, "subscriber"));
        subscriber
            .stream()
            .socket()
            .set_recv_buffer_size(32 * 1024)
            .expect("a smaller buffer");
        subscriber.subscribe("t/+", 0);
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|index| {
                let mut publisher = broker.connect(Connect::new(version, &format!("p{index}")));
                std::thread::spawn(move || {
                    for number in 0..COUNT {
                        // From some bytes to more than a socket takes at once.
                        let size = 4 + (number as usize * 7919) % if number % 10 == 0 { 30_000 } else { 300 };
                        let mut payload = vec![index as u8; size];
                        payload[..4].copy_from_slice(&number.to_be_bytes());
                        publisher.publish(&format!("t/{index}"), payload, 0);
                        publisher.ping();
                    }
                })
            })
            .collect();
        let (mut next, mut pings) = ([0; PUBLISHERS], 0);
        while next != [COUNT; PUBLISHERS] || pings > 0 {
            if pings < 3 && next != [COUNT; PUBLISHERS] {
                subscriber.send(Packet::Pingreq);
                pings += 1;
            }
            match subscriber.recv() {
                Packet::Pingresp => pings -= 1,
                Packet::Publish(message) => {
                    let index: usize = message.topic[2..].parse().expect("a number");
                    assert_eq!(message.payload[..4], u32::to_be_bytes(next[index]));
                    assert!(message.payload[4..].iter().all(|byte| usize::from(*byte) == index));
                    next[index] += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        for publisher in publishers {
            publisher.join().expect("published");
        }
    }
}
