//! What the parts cost that every message goes through: decoding, matching, encoding.
//!
//! `cargo bench --bench micro -- match` runs those whose name contains `match`. Names end with the number of filters or
//! topics. Each look-up is for another topic than the one before, spread over all of them: a look-up that is repeated
//! finds everything in the cache, which no broker with a million filters does.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use mqtt_broker::codec::encode::PublishFrame;
use mqtt_broker::codec::{decode, encode, frame};
use mqtt_broker::packet::{QoS, Version};
use mqtt_broker::router::filters::FilterIndex;
use mqtt_broker::router::retained::RetainedTree;

/// Topics or filters that a measurement goes through.
const DIFFERENT: usize = 4096;
const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    publish_packets(&mut criterion);
    matching(&mut criterion);
    subscribing(&mut criterion);
    retained(&mut criterion);
    criterion.final_summary();
}

// ---- packets --------------------------------------------------------------------------------------------------------

fn publish_packets(c: &mut Criterion) {
    let three: Vec<u8> = (0..3).flat_map(user_property).collect();
    let kinds: [(&str, Version, QoS, &[u8]); 4] = [
        ("v3.1.1-qos0", Version::V311, QoS::AtMostOnce, &[]),
        ("v3.1.1-qos1", Version::V311, QoS::AtLeastOnce, &[]),
        ("v5-qos0", Version::V5, QoS::AtMostOnce, &[]),
        ("v5-qos1-3-properties", Version::V5, QoS::AtLeastOnce, &three),
    ];
    for (name, version, qos, properties) in kinds {
        let publish = publish(qos, properties);
        let mut packet = Vec::new();
        assert!(encode::publish(&mut packet, version, &publish));

        let mut group = c.benchmark_group("publish");
        group.throughput(Throughput::Bytes(packet.len() as u64));
        group.bench_function(format!("decode/{name}"), |b| {
            b.iter(|| {
                let frame = frame::parse(black_box(&packet), 1_000_000)
                    .expect("valid")
                    .expect("whole");
                decode::packet(version, &frame).is_ok()
            });
        });
        let mut output = Vec::with_capacity(packet.len());
        group.bench_function(format!("encode/{name}"), |b| {
            b.iter(|| {
                output.clear();
                encode::publish(&mut output, version, black_box(&publish))
            });
        });
        group.finish();
    }
}

fn publish(qos: QoS, properties: &[u8]) -> PublishFrame<'_> {
    PublishFrame {
        dup: false,
        qos,
        retain: false,
        topic: "plant/site7/line42/state",
        packet_id: 7,
        topic_alias: None,
        message_expiry_interval: None,
        subscription_identifiers: &[],
        properties,
        payload: &[b'x'; 64],
    }
}

/// As it is on the wire.
fn user_property(number: u8) -> Vec<u8> {
    let mut bytes = vec![0x26];
    for text in [format!("name {number}"), format!("value {number}")] {
        bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

// ---- filters --------------------------------------------------------------------------------------------------------

type Kind = fn(usize) -> String;

/// Exactly one filter matches each topic.
const KINDS: [(&str, Kind); 4] = [("exact", topic), ("plus", single), ("hash", multi), ("mixed", mixed)];

fn topic(number: usize) -> String {
    format!("plant/site{}/line{number}/state", number % 100)
}

fn single(number: usize) -> String {
    format!("plant/+/line{number}/state")
}

fn multi(number: usize) -> String {
    format!("plant/site{}/line{number}/#", number % 100)
}

/// 60 % exact, 30 % with `+`, 10 % with `#`.
fn mixed(number: usize) -> String {
    match number % 10 {
        0..=5 => topic(number),
        6..=8 => single(number),
        _ => multi(number),
    }
}

fn index(size: usize, kind: Kind) -> FilterIndex<u32> {
    let mut index = FilterIndex::new();
    for number in 0..size {
        *index.entry(&kind(number)) = 1;
    }
    index
}

/// Numbers below `size`, far from each other.
fn spread(size: usize) -> impl Iterator<Item = usize> {
    // A prime, so that no size has it as a divisor and numbers come back late.
    (0..DIFFERENT).map(move |number| number * 104_729 % size)
}

/// Calls a function with each of the texts in turn.
fn in_turn<T>(texts: &[String], mut f: impl FnMut(&str) -> T) -> impl FnMut() -> T {
    let mut next = 0;
    move || {
        next = (next + 1) % texts.len();
        f(black_box(&texts[next]))
    }
}

fn matching(c: &mut Criterion) {
    let mut group = c.benchmark_group("match");
    for (name, kind) in KINDS {
        for size in SIZES {
            let topics: Vec<_> = spread(size).map(topic).collect();
            // Made when it is measured, so that those that are not asked for take no time.
            let mut made = None;
            group.bench_function(format!("{name}/{size}"), |b| {
                let index = made.get_or_insert_with(|| index(size, kind));
                b.iter(in_turn(&topics, |topic| {
                    let mut found = 0;
                    index.for_each_match(topic, |value| found += value);
                    found
                }));
            });
        }
    }
    group.finish();
}

fn subscribing(c: &mut Criterion) {
    const SIZE: usize = 1_000_000;
    let mut group = c.benchmark_group("subscribe");
    for (name, kind) in KINDS {
        let new: Vec<_> = (SIZE..SIZE + DIFFERENT).map(kind).collect();
        let mut made = None;
        group.bench_function(format!("add-and-remove-{name}/{SIZE}"), |b| {
            let index = made.get_or_insert_with(|| index(SIZE, kind));
            b.iter(in_turn(&new, |filter| {
                *index.entry(filter) = 1;
                index.remove(filter)
            }));
        });
    }
    group.finish();
}

// ---- retained messages ----------------------------------------------------------------------------------------------

fn retained(c: &mut Criterion) {
    let mut group = c.benchmark_group("retained");
    for size in SIZES {
        // `site7/#` finds a hundredth of all, `+` between two fixed levels exactly one.
        let subtrees: Vec<_> = (0..100).map(|site| format!("plant/site{site}/#")).collect();
        let singles: Vec<_> = spread(size).map(single).collect();
        let mut made = None;
        for (name, filters) in [("subtree", &subtrees), ("plus", &singles)] {
            group.bench_function(format!("{name}/{size}"), |b| {
                let tree = made.get_or_insert_with(|| tree(size));
                b.iter(in_turn(filters, |filter| {
                    let mut found = 0;
                    tree.for_each_match(filter, |_, value| found += value);
                    found
                }));
            });
        }
        group.bench_function(format!("replace/{size}"), |b| {
            let tree = made.get_or_insert_with(|| tree(size));
            let topics: Vec<_> = spread(size).map(topic).collect();
            b.iter(in_turn(&topics, |topic| tree.insert(topic, 1)));
        });
    }
    group.bench_function("insert/10000", |b| {
        let topics: Vec<_> = (0..SIZES[0]).map(topic).collect();
        let fill = |mut tree: RetainedTree<u32>| {
            for topic in &topics {
                tree.insert(topic, 1);
            }
            tree
        };
        b.iter_batched(RetainedTree::new, fill, BatchSize::LargeInput);
    });
    group.finish();
}

fn tree(size: usize) -> RetainedTree<u32> {
    let mut tree = RetainedTree::new();
    for number in 0..size {
        tree.insert(&topic(number), 1);
    }
    tree
}
