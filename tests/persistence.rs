//! What a broker that was killed has left in its store: the next one goes on from there.
//!
//! Each test runs with every kind of store. `kill -9` proves that the process had nothing to do at its end; that a disk has
//! what it should have when the power goes is shown elsewhere (the tests of `store/disk`).

mod common;
use common::*;

/// Where a broker keeps what it must not lose.
struct Place {
    options: Vec<String>,
    _dir: Option<tempfile::TempDir>,
}

impl Place {
    fn disk(durability: &str) -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data").display().to_string();
        let options = ["--persistence", "disk", "--data-dir", &path, "--durability", durability];
        Place {
            options: options.map(str::to_owned).into(),
            _dir: Some(dir),
        }
    }

    /// A cluster, of which there is one node at a time: the next one finds the one before dead.
    fn redis() -> Place {
        let mut options = common::persistence::in_redis().options;
        options.extend(["--cluster-lease", "1"].map(str::to_owned));
        Place { options, _dir: None }
    }

    fn start(&self) -> Broker {
        self.start_with(&[])
    }

    fn start_with(&self, more: &[&str]) -> Broker {
        let options: Vec<&str> = self
            .options
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        Broker::start(&options)
    }

    /// Kills the broker, when all that it has heard is kept, and starts another.
    fn restart(&self, broker: Broker) -> Broker {
        // What was kept before this session is, is kept.
        broker.offline_session(Version::V5, "last", "$nothing", 1);
        drop(broker);
        self.start()
    }
}

fn everywhere(test: impl Fn(&Place)) {
    for place in [Place::disk("fsync"), Place::disk("os"), Place::redis()] {
        test(&place);
    }
}

fn texts(messages: &[Publish]) -> Vec<&str> {
    messages.iter().map(Publish::text).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn present(client: &Client) -> bool {
    client.connack.session_present
}

/// Queued messages of QoS 1 and 2 are there, in order and each once, and have not been sent before: DUP is 0
/// [MQTT-4.5.0-1] [MQTT-3.1.2-23] [MQTT3-3.1.2-4] [MQTT3-4.1.0-2] [MQTT-4.1.0-2].
#[test]
fn queues_outlive_the_broker() {
    everywhere(|place| {
        for (version, qos) in [(Version::V311, 1), (Version::V5, 2)] {
            let broker = place.start();
            let name = format!("subscriber{qos}");
            broker.offline_session(version, &name, "a/#", qos);
            broker.v5("publisher").publish_numbers("a/b", 0..100, qos);
            let broker = place.restart(broker);
            let mut subscriber = broker.resume(Connect::persistent(version, &name));
            let messages = subscriber.take(100);
            assert_eq!(texts(&messages), numbers(0..100));
            assert!(messages.iter().all(|message| message.qos == qos && !message.dup));
            let mut publisher = broker.v5("publisher");
            subscriber.assert_nothing_from(&mut publisher);
            subscriber.ping();
            let broker = place.restart(broker);
            let mut subscriber = broker.resume(Connect::persistent(version, &name));
            subscriber.assert_nothing_from(&mut broker.v5("publisher"));
        }
    });
}

/// Long queues are read a part at a time; what comes meanwhile is behind them.
#[test]
fn long_queues_are_read_in_parts() {
    everywhere(|place| {
        let broker = place.start_with(&["--max-queued-messages", "100000"]);
        broker.offline_session(Version::V5, "subscriber", "a", 1);
        broker.v5("publisher").publish_numbers("a", 0..5000, 1);
        drop(broker);
        let broker = place.start_with(&["--max-queued-messages", "100000"]);
        let mut publisher = broker.v5("publisher");
        publisher.publish_numbers("a", 5000..5100, 1);
        let mut subscriber = broker.resume(Connect::persistent(Version::V5, "subscriber"));
        assert_eq!(texts(&subscriber.take(2000)), numbers(0..2000));
        publisher.publish_numbers("a", 5100..5200, 1);
        assert_eq!(texts(&subscriber.take(3200)), numbers(2000..5200));
        subscriber.assert_nothing_from(&mut publisher);
    });
}

/// The limits of a queue count what is in the store.
#[test]
fn limits_hold_for_what_is_stored() {
    everywhere(|place| {
        let limits = |overflow| ["--max-queued-messages", "2000", "--queue-overflow", overflow];
        for overflow in ["drop-new", "drop-oldest"] {
            let broker = place.start_with(&limits(overflow));
            broker.offline_session(Version::V5, overflow, overflow, 1);
            broker.v5("publisher").publish_numbers(overflow, 0..1990, 1);
            drop(broker);
            let broker = place.start_with(&limits(overflow));
            let mut publisher = broker.v5("publisher");
            publisher.publish_numbers(overflow, 1990..2020, 1);
            drop(broker);
            let broker = place.start_with(&limits(overflow));
            let mut subscriber = broker.resume(Connect::persistent(Version::V5, overflow));
            let first: u32 = subscriber.take(1)[0].text().parse().expect("a number");
            // What is to make room in the stored part is found after the message was acknowledged: a kill may come before.
            let (latest, end) = if overflow == "drop-new" { (0, 2000) } else { (20, 2020) };
            assert!(first <= latest, "{first}");
            let rest = first + 1..end;
            assert_eq!(texts(&subscriber.take(rest.len())), numbers(rest));
            subscriber.assert_nothing_from(&mut broker.v5("publisher"));
        }
    });
}

/// What was in flight is sent again with its Packet Identifier and DUP, in its order, before what was not sent
/// [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.6.0-1].
#[test]
fn what_was_in_flight_is_sent_again() {
    everywhere(|place| {
        let broker = place.start();
        let connect = || Connect::persistent(Version::V5, "subscriber").prop(Prop::ReceiveMaximum(5));
        let mut subscriber = broker.connect(connect());
        subscriber.subscribe("a", 2);
        let mut publisher = broker.v5("publisher");
        publisher.publish_numbers("a", 0..10, 1);
        let first: Vec<_> = (0..5).map(|_| subscriber.recv_publish()).collect();
        subscriber.send(Packet::Puback(Ack::new(first[1].id)));
        let sixth = subscriber.recv_publish();
        assert_eq!(sixth.text(), "5");
        subscriber.ping();
        let broker = place.restart(broker);
        let mut subscriber = broker.resume(connect());
        let again: Vec<_> = (0..5).map(|_| subscriber.recv_publish()).collect();
        assert_eq!(texts(&again), ["0", "2", "3", "4", "5"]);
        assert!(again.iter().all(|message| message.dup));
        let ids: Vec<_> = again.iter().map(|message| message.id).collect();
        let expected = [&first[0], &first[2], &first[3], &first[4], &sixth].map(|message| message.id);
        assert_eq!(ids, expected);
        again.iter().for_each(|message| subscriber.ack(message));
        let rest = subscriber.take(4);
        assert_eq!(texts(&rest), numbers(6..10));
        assert!(rest.iter().all(|message| !message.dup && !ids.contains(&message.id)));
        subscriber.assert_nothing_from(&mut broker.v5("publisher"));
    });
}

/// A QoS 2 message goes on from the state in which it was: PUBLISH before its PUBREC, PUBREL after it, nothing after its
/// PUBCOMP [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.4.0-1].
#[test]
fn outgoing_qos_2_goes_on() {
    everywhere(|place| {
        let mut broker = place.start();
        let connect = || Connect::persistent(Version::V311, "subscriber");
        let mut subscriber = broker.connect(connect());
        subscriber.subscribe("a", 2);
        broker.v5("publisher").publish_numbers("a", 0..3, 2);
        let ids: Vec<_> = (0..3).map(|_| subscriber.recv_publish().id).collect();
        subscriber.send(Packet::Pubrec(Ack::new(ids[0])));
        subscriber.expect(Packet::Pubrel(Ack::new(ids[0])));
        subscriber.send(Packet::Pubrec(Ack::new(ids[1])));
        subscriber.expect(Packet::Pubrel(Ack::new(ids[1])));
        subscriber.send(Packet::Pubcomp(Ack::new(ids[1])));
        subscriber.ping();
        for _ in 0..2 {
            broker = place.restart(broker);
            subscriber = broker.resume(connect());
            subscriber.expect(Packet::Pubrel(Ack::new(ids[0])));
            let again = subscriber.recv_publish();
            assert_eq!((again.text(), again.id, again.dup), ("2", ids[2], true));
        }
        subscriber.send(Packet::Pubcomp(Ack::new(ids[0])));
        subscriber.send(Packet::Pubrec(Ack::new(ids[2])));
        subscriber.expect(Packet::Pubrel(Ack::new(ids[2])));
        subscriber.send(Packet::Pubcomp(Ack::new(ids[2])));
        subscriber.assert_nothing_from(&mut broker.v5("publisher"));
    });
}

/// A QoS 2 message that was accepted before is not delivered again, until its identifier is released: then it is a new one
/// [MQTT-4.3.3-10] [MQTT-4.3.3-12].
#[test]
fn received_qos_2_is_remembered() {
    everywhere(|place| {
        let broker = place.start();
        broker.offline_session(Version::V5, "subscriber", "a", 2);
        let connect = || Connect::persistent(Version::V5, "publisher");
        let mut publisher = broker.connect(connect());
        publisher.send(Publish::new("a", "once").qos(2, 7));
        publisher.expect(Packet::Pubrec(Ack::new(7)));
        let broker = place.restart(broker);
        let mut publisher = broker.resume(connect());
        publisher.send(Publish::new("a", "once").qos(2, 7).dup());
        publisher.expect(Packet::Pubrec(Ack::new(7)));
        publisher.send(Packet::Pubrel(Ack::new(7)));
        publisher.expect(Packet::Pubcomp(Ack::new(7)));
        let broker = place.restart(broker);
        let mut publisher = broker.resume(connect());
        publisher.publish_packet(Publish::new("a", "another").qos(2, 7));
        let mut subscriber = broker.resume(Connect::persistent(Version::V5, "subscriber"));
        subscriber.expect_message("a", "once");
        subscriber.expect_message("a", "another");
        subscriber.assert_nothing_from(&mut broker.v5("other"));
    });
}

/// Subscriptions are there with their options, and those that were ended are not [MQTT-3.8.4-3] [MQTT-3.10.4-2].
#[test]
fn subscriptions_outlive_the_broker() {
    everywhere(|place| {
        let broker = place.start();
        let connect = || Connect::persistent(Version::V5, "subscriber");
        let mut subscriber = broker.connect(connect());
        let filters = Subscribe::new(9).filter("kept/+", 0b1000 | 1).filter("own", 0b100 | 1);
        subscriber.send(filters.filter("ended", 1).prop(Prop::subscription_id(77)));
        subscriber.recv_suback();
        subscriber.unsubscribe("ended");
        let broker = place.restart(broker);
        let mut subscriber = broker.resume(connect());
        let mut publisher = broker.v5("publisher");
        publisher.publish("ended", "no", 1);
        subscriber.send(Publish::new("own", "no local").qos(1, 1));
        subscriber.recv_puback();
        publisher.publish_packet(Publish::new("kept/1", "yes").qos(1, 1).retain());
        let message = subscriber.expect_message("kept/1", "yes");
        assert!(message.retain, "Retain As Published");
        assert_eq!(message.props.subscription_ids(), [77]);
    });
}

/// Retained messages are the last that were acknowledged; what was cleared or has expired is gone [MQTT-3.3.1-5]
/// [MQTT-3.3.1-6].
#[test]
fn retained_messages_outlive_the_broker() {
    everywhere(|place| {
        let broker = place.start();
        let mut publisher = broker.v5("publisher");
        for text in ["first", "last"] {
            publisher.publish_packet(
                Publish::new("r/kept", text)
                    .qos(1, 1)
                    .retain()
                    .prop(Prop::user("k", "v")),
            );
        }
        publisher.publish_packet(Publish::new("r/cleared", "x").qos(2, 1).retain());
        publisher.publish_packet(Publish::new("r/cleared", "").qos(2, 1).retain());
        publisher.publish_packet(
            Publish::new("r/expired", "x")
                .qos(1, 1)
                .retain()
                .prop(Prop::MessageExpiry(1)),
        );
        publisher.publish_packet(
            Publish::new("r/later", "x")
                .qos(1, 1)
                .retain()
                .prop(Prop::MessageExpiry(1000)),
        );
        broker.let_time_pass();
        let broker = place.restart(broker);
        let mut subscriber = broker.v5("subscriber");
        subscriber.subscribe("r/#", 1);
        let kept = subscriber.expect_message("r/kept", "last");
        assert_eq!(kept.props.users(), [("k", "v")]);
        let later = subscriber.expect_message("r/later", "x");
        assert!(
            later
                .props
                .message_expiry()
                .is_some_and(|left| (900..1000).contains(&left))
        );
        subscriber.assert_nothing_from(&mut broker.v5("publisher"));
    });
}

/// Retained messages that a new subscription had not been sent yet are sent by the next broker, those that were finished are
/// not sent again, and live ones come behind them [MQTT-3.3.1-9] [MQTT-4.4.0-1].
#[test]
fn a_replay_goes_on() {
    everywhere(|place| {
        let broker = place.start();
        let mut publisher = broker.v5("publisher");
        for number in 100..300 {
            publisher.publish_packet(Publish::new(&format!("r/{number}"), "x").qos(2, 1).retain());
        }
        let connect = || Connect::persistent(Version::V5, "subscriber").prop(Prop::ReceiveMaximum(7));
        let mut subscriber = broker.connect(connect());
        subscriber.subscribe("r/#", 2);
        let mut topics: Vec<_> = (0..50).map(|_| subscriber.message().topic).collect();
        publisher.publish("r/live", "x", 1);
        let broker = place.restart(broker);
        let mut subscriber = broker.resume(connect());
        while topics.len() < 201 {
            match subscriber.recv() {
                Packet::Publish(publish) => {
                    // One that was received and not released before is sent again.
                    if !topics.contains(&publish.topic) {
                        topics.push(publish.topic.clone());
                    } else {
                        assert!(publish.dup, "{publish:?}");
                    }
                    subscriber.ack(&publish);
                }
                Packet::Pubrel(ack) => subscriber.send(Packet::Pubcomp(Ack::new(ack.id))),
                other => panic!("{other:?}"),
            }
        }
        let expected: Vec<_> = (100..300)
            .map(|number| format!("r/{number}"))
            .chain(["r/live".to_owned()])
            .collect();
        assert_eq!(topics, expected);
        subscriber.assert_nothing_from(&mut broker.v5("publisher"));
    });
}

/// A client that was connected when the broker was killed has lost its connection: its will is published, once, whether its
/// session is kept or not; that of a client which had said goodbye is not [MQTT-3.1.2-8] [MQTT-3.1.2-10].
#[test]
fn wills_outlive_the_broker() {
    everywhere(|place| {
        let broker = place.start();
        broker.offline_session(Version::V5, "watcher", "will/#", 2);
        let will = |topic: &str| Will::new(topic, "gone").qos(2);
        let persistent = broker.connect(Connect::persistent(Version::V5, "kept").will(will("will/kept")));
        let volatile = broker.connect(Connect::v311("volatile").will(will("will/volatile").retain()));
        broker
            .connect(Connect::v5("polite").will(will("will/polite")))
            .disconnect();
        let broker = place.restart(broker);
        // It was gone although it is back at once.
        let back = broker.resume(Connect::persistent(Version::V5, "kept"));
        let broker = place.restart(broker);
        let mut watcher = broker.resume(Connect::persistent(Version::V5, "watcher"));
        let mut topics: Vec<_> = watcher.take(2).into_iter().map(|message| message.topic).collect();
        topics.sort();
        assert_eq!(topics, ["will/kept", "will/volatile"]);
        watcher.assert_nothing_from(&mut broker.v5("publisher"));
        let mut late = broker.v5("late");
        late.subscribe("will/#", 1);
        assert!(late.expect_message("will/volatile", "gone").retain);
        drop((persistent, volatile, back));
    });
}

/// A Will Delay Interval goes on: the will is published when it has passed, unless the client is back before
/// [MQTT-3.1.3-9].
#[test]
fn delayed_wills_wait_over_a_restart() {
    everywhere(|place| {
        let broker = place.start();
        broker.offline_session(Version::V5, "watcher", "will/#", 1);
        let connect = |name: &str, delay| {
            let will = Will::new(&format!("will/{name}"), "gone").qos(1).delay(delay);
            Connect::persistent(Version::V5, name).will(will)
        };
        let clients = [("back", 1000), ("gone", 1)].map(|(name, delay)| broker.connect(connect(name, delay)));
        let broker = place.restart(broker);
        let back = broker.resume(connect("back", 1000));
        let mut watcher = broker.resume(Connect::persistent(Version::V5, "watcher"));
        watcher.expect_message("will/gone", "gone");
        back.kill();
        let broker = place.restart(broker);
        broker.resume(Connect::persistent(Version::V5, "back")).ping();
        let mut watcher = broker.resume(Connect::persistent(Version::V5, "watcher"));
        watcher.assert_nothing_from(&mut broker.v5("publisher"));
        drop(clients);
    });
}

/// Session Present is right: for what outlives its connection, and not for what has ended, expired or begun anew
/// [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-4].
#[test]
fn sessions_are_present_that_should_be() {
    everywhere(|place| {
        let broker = place.start();
        let persistent = |name: &str| Connect::persistent(Version::V5, name);
        let mut online = vec![
            broker.connect(persistent("online")),
            broker.connect(Connect::v5("volatile")),
            broker.connect(Connect::v5("expiring").expiry(1)),
        ];
        broker.connect(persistent("away")).disconnect();
        broker.connect(Connect::persistent(Version::V311, "old")).disconnect();
        broker
            .connect(persistent("ended"))
            .disconnect_with(Disconnect::new(0).prop(Prop::SessionExpiry(0)));
        broker.connect(persistent("anew")).subscribe("a", 1);
        online.push(broker.connect(Connect::v5("anew")));
        broker.connect(persistent("shortened")).disconnect();
        online.push(broker.connect(Connect::v5("shortened").clean(false)));
        let broker = place.restart(broker);
        let present_in = |connect: Connect| present(&broker.connect(connect.clean(false)));
        for name in ["online", "away"] {
            assert!(present_in(persistent(name)), "{name}");
        }
        assert!(present_in(Connect::persistent(Version::V311, "old")));
        // Those that were connected are away since then, or since their node was found dead.
        broker.let_time_pass();
        for name in ["volatile", "expiring", "ended", "anew", "shortened", "new"] {
            assert!(!present_in(persistent(name)), "{name}");
        }
    });
}

/// Messages that a member of a Shared Subscription can't get any more, since its session has ended, go to another, also
/// those that came before the broker was killed [MQTT-4.8.2-5].
#[test]
fn stored_messages_of_a_shared_subscription_find_another_member() {
    everywhere(|place| {
        let broker = place.start();
        broker.offline_session(Version::V5, "first", "$share/g/a", 1);
        broker.v5("publisher").publish_numbers("a", 0..20, 1);
        let broker = place.restart(broker);
        let mut second = broker.connect(Connect::persistent(Version::V5, "second"));
        second.subscribe("$share/g/a", 1);
        // Clean Start ends the session of the first.
        broker.v5("first").disconnect();
        assert_eq!(texts(&second.take(20)), numbers(0..20));
        second.assert_nothing_from(&mut broker.v5("publisher"));
    });
}

/// Messages expire also while the broker is away [MQTT-3.3.2-5], and tell how long they have left [MQTT-3.3.2-6].
#[test]
fn messages_expire_in_the_store() {
    everywhere(|place| {
        let broker = place.start();
        broker.offline_session(Version::V5, "subscriber", "a", 1);
        let mut publisher = broker.v5("publisher");
        for (text, seconds) in [("short", 1), ("long", 1000)] {
            publisher.publish_packet(Publish::new("a", text).qos(1, 1).prop(Prop::MessageExpiry(seconds)));
        }
        let broker = place.restart(broker);
        broker.let_time_pass();
        let mut subscriber = broker.resume(Connect::persistent(Version::V5, "subscriber"));
        let message = subscriber.expect_message("a", "long");
        assert!(message.props.message_expiry().is_some_and(|left| left < 1000));
        subscriber.assert_nothing_from(&mut broker.v5("publisher"));
    });
}

/// SIGTERM leaves the same, and the will of a connected client has been published by then.
#[test]
fn an_orderly_end_leaves_all() {
    everywhere(|place| {
        let broker = place.start();
        broker.offline_session(Version::V5, "subscriber", "#", 2);
        let mut online =
            broker.connect(Connect::persistent(Version::V5, "online").will(Will::new("will", "gone").qos(1)));
        online.subscribe("a", 1);
        broker.v5("publisher").publish("a", "x", 2);
        assert!(broker.terminate().success());
        let broker = place.start();
        let mut subscriber = broker.resume(Connect::persistent(Version::V5, "subscriber"));
        subscriber.expect_message("a", "x");
        subscriber.expect_message("will", "gone");
        subscriber.assert_nothing_from(&mut broker.v5("publisher"));
        let mut online = broker.resume(Connect::persistent(Version::V5, "online"));
        assert!(online.expect_message("a", "x").dup);
    });
}
