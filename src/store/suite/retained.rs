//! Retained messages.

use super::{Bench, Subject, Text, changes, publication};
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::Op;
use crate::time::Millis;

/// "Each topic has the last message that was retained."
pub(crate) fn a_topic_has_the_last_message<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().retain("a", b"1").retain("b", b"1").retain("a", b"2"));
    bench.always(|state| {
        assert_eq!(&*state.retained["a"].payload, b"2");
        assert_eq!(&*state.retained["b"].payload, b"1");
    });
    bench.commit(&changes().retain("a", b"3 is longer"));
    bench.commit(&changes().retain("a", b""));
    bench.always(|state| {
        assert_eq!(state.retained.len(), 2);
        assert_eq!(&*state.retained["a"].payload, b"");
    });
}

/// "Or none."
pub(crate) fn a_topic_is_cleared<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().retain("a", b"1").retain("a/b", b"1").retain("c", b"1"));
    bench.commit(&changes().clear("a").clear("never was").clear("c").retain("c", b"2"));
    bench.always(|state| {
        let topics: Vec<_> = state.retained.keys().map(|topic| &**topic).collect();
        assert_eq!(topics, ["a/b", "c"]);
        assert_eq!(&*state.retained["c"].payload, b"2");
    });
}

/// A topic is any text, each another one.
pub(crate) fn topics_are_any_text<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let long = "x".repeat(65_535);
    let longer_by_its_end = format!("{}y", &long[1..]);
    let topics = [
        "", "/", "//", " ", "a", "A", "a ", "a/", "ä", "a\u{308}", "*", "?", "[a]", "{a}", "a:b", "\\", "\u{1}",
    ];
    let more = [
        "\r\n",
        "\"'",
        "$SYS/x",
        "%00",
        "\u{feff}",
        "\u{ffff}",
        "\u{10ffff}",
        &long,
        &longer_by_its_end,
    ];
    let topics: Vec<_> = topics.into_iter().chain(more).collect();
    let numbered = || (0..).zip(&topics);
    bench.commit(&numbered().fold(changes(), |batch, (number, topic)| batch.retain(topic, &[number])));
    bench.always(|state| {
        assert_eq!(state.retained.len(), topics.len());
        numbered().for_each(|(number, topic)| assert_eq!(*state.retained[*topic].payload, [number]));
    });
    let odd = || numbered().filter(|(number, _)| number % 2 == 1);
    bench.commit(&odd().fold(changes(), |batch, (_, topic)| batch.clear(topic)));
    bench.always(|state| {
        assert_eq!(state.retained.len(), topics.len().div_ceil(2));
        assert!(odd().all(|(_, topic)| !state.retained.contains_key(*topic)));
    });
}

/// A message is kept with all that it has.
pub(crate) fn retained_messages_are_kept_as_they_were<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let large = vec![0xA5; 16 << 20];
    let messages = [
        Publication {
            properties: &[1, 1, 38, 0, 1, 0, 0, 1, 255],
            expires_at: Some(Millis::from_unix(1)),
            qos: QoS::ExactlyOnce,
            retain: true,
            ..publication("all", b"\0\xff\r\n")
        },
        Publication {
            expires_at: Some(Millis::from_unix(1 << 50)),
            qos: QoS::AtMostOnce,
            ..publication("late", b"")
        },
        publication("large", &large),
    ];
    let batch = messages
        .iter()
        .fold(changes(), |batch, message| batch.op(&Op::Retain { message: *message }));
    bench.commit(&batch);
    bench.always(|state| {
        assert_eq!(state.retained.len(), messages.len());
        messages
            .iter()
            .for_each(|message| assert_eq!(state.retained[message.topic], Text::from(message)));
    });
}

/// Each of many topics has its own.
pub(crate) fn there_may_be_many_retained_messages<S: Subject>() {
    const TOPICS: u32 = 5000;
    let mut bench = Bench::<S>::new();
    let topic = |number: u32| format!("many/{}/{number}", number % 7);
    let all = (0..TOPICS).fold(changes(), |batch, number| {
        batch.retain(&topic(number), &number.to_be_bytes())
    });
    bench.commit(&all);
    bench.always(|state| {
        assert_eq!(state.retained.len() as u32, TOPICS);
        (0..TOPICS).for_each(|number| assert_eq!(*state.retained[&*topic(number)].payload, number.to_be_bytes()));
    });
}
