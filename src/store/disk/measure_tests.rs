//! Figures: `cargo test --release --lib store::disk::measure -- --ignored --nocapture --test-threads 1`.

use std::fs;
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;

use super::testing::{put_message, session};
use super::*;
use crate::store::Op;

fn open_at(dir: &Path, durability: Durability) -> DiskStore {
    open(&DiskSettings {
        durability,
        ..DiskSettings::new(dir)
    })
    .expect("opens")
}

fn commit(store: &DiskStore, number: &mut u64, bytes: &[u8]) {
    *number += 1;
    let batch = Batch { number: *number, bytes };
    store.commit(&batch).expect("commits");
}

fn sessions(store: &DiskStore, number: &mut u64, count: u64) {
    let mut bytes = Vec::new();
    (1..=count).for_each(|uid| session(uid, &format!("client-{uid}")).write(&mut bytes));
    commit(store, number, &bytes);
}

fn size(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).expect("is there");
    let files = files.map(|file| file.expect("is there"));
    files.map(|file| file.metadata().expect("is there").len()).sum()
}

fn state_size(dir: &Path) -> u64 {
    [database::STATE, database::SUMS]
        .iter()
        .map(|name| fs::metadata(dir.join(name)).expect("is there").len())
        .sum()
}

/// Batches of so many messages of 64 bytes, each finished in the batch behind it.
fn rate(durability: Durability, per_batch: u64, recipients: u64, is_finished: bool, total: u64) {
    let dir = TempDir::new_in(".").expect("is made");
    let store = open_at(dir.path(), durability);
    let mut number = 0;
    sessions(&store, &mut number, recipients);
    let batches = total.div_ceil(per_batch);
    let started = Instant::now();
    let mut written = 0;
    let mut slowest = 0;
    for batch in 0..=batches {
        let mut bytes = Vec::new();
        if is_finished && batch > 0 {
            for index in (batch - 1) * per_batch..batch * per_batch {
                for uid in 1..=recipients {
                    let lane = Lane::Live;
                    Op::Done { uid, lane, index }.write(&mut bytes);
                }
            }
        }
        if batch < batches {
            for index in batch * per_batch..(batch + 1) * per_batch {
                put_message(&mut bytes, &[7; 64], (1..=recipients).map(|uid| (uid, index)));
            }
        }
        written += bytes.len();
        let before = Instant::now();
        commit(&store, &mut number, &bytes);
        slowest = slowest.max(before.elapsed().as_micros());
    }
    let seconds = started.elapsed().as_secs_f64();
    let messages = batches * per_batch;
    println!(
        "{durability:?}, {per_batch} messages a batch, {recipients} recipients, finished: {is_finished}: {:.0} commits/s, \
         {:.0} messages/s, {:.0} deliveries/s, {:.1} MB/s, slowest commit {slowest} us, {:.1} MB on disk",
        batches as f64 / seconds,
        messages as f64 / seconds,
        (messages * recipients) as f64 / seconds,
        written as f64 / seconds / 1e6,
        size(dir.path()) as f64 / 1e6,
    );
    store.close().expect("closes");
}

#[test]
#[ignore = "takes long"]
fn rates() {
    for durability in [Durability::Fsync, Durability::Os] {
        rate(durability, 1, 1, true, 20_000);
        rate(durability, 100, 1, true, 1_000_000);
        rate(durability, 1000, 1, true, 2_000_000);
        rate(durability, 100, 100, true, 40_000);
        rate(durability, 100, 1, false, 1_000_000);
    }
}

#[test]
#[ignore = "takes long"]
fn opening_many_sessions() {
    let dir = TempDir::new_in(".").expect("is made");
    let store = open_at(dir.path(), Durability::Fsync);
    let mut number = 0;
    let count = 100_000;
    sessions(&store, &mut number, count);
    let started = Instant::now();
    for round in 0..100 {
        let mut bytes = Vec::new();
        for part in 0..10_000 {
            let (uid, index) = (1 + (round * 10_000 + part) % count, (round * 10_000 + part) / count);
            put_message(&mut bytes, &[7; 64], [(uid, index)]);
        }
        commit(&store, &mut number, &bytes);
    }
    println!(
        "1,000,000 messages for 100,000 sessions committed in {:?}",
        started.elapsed()
    );
    // As after `kill -9`: a part is in the journal.
    drop(store);
    for state in ["after a kill", "after it was closed"] {
        let started = Instant::now();
        let store = open_at(dir.path(), Durability::Fsync);
        let opened = started.elapsed();
        let mut found = 0;
        store
            .sessions(&mut |session| found += session.live.count)
            .expect("are read");
        println!(
            "{state}: opened in {opened:?}, {found} messages known in {:?}",
            started.elapsed()
        );
        store.close().expect("closes");
    }
    println!(
        "{} bytes on disk, {} a message",
        state_size(dir.path()),
        state_size(dir.path()) / 1_000_000
    );
}

#[test]
#[ignore = "takes long"]
fn bytes_on_disk() {
    for (len, recipients) in [(64, 1), (64, 2), (64, 10), (64, 100), (1000, 1), (1000, 10)] {
        let dir = TempDir::new_in(".").expect("is made");
        let store = open_at(dir.path(), Durability::Os);
        let mut number = 0;
        sessions(&store, &mut number, recipients);
        let messages = 200_000 / recipients;
        for index in 0..messages {
            let mut bytes = Vec::new();
            put_message(&mut bytes, &vec![7; len], (1..=recipients).map(|uid| (uid, index)));
            commit(&store, &mut number, &bytes);
        }
        store.close().expect("closes");
        println!(
            "payload {len}, {recipients} recipients: {:.0} bytes on disk for each place",
            state_size(dir.path()) as f64 / (messages * recipients) as f64
        );
    }
}

/// Ending a session with 1,000,000 messages beside commits.
#[test]
#[ignore = "takes long"]
fn the_end_of_a_long_queue() {
    let dir = TempDir::new_in(".").expect("is made");
    let store = open_at(dir.path(), Durability::Fsync);
    let mut number = 0;
    sessions(&store, &mut number, 2);
    for part in 0..100 {
        let mut bytes = Vec::new();
        (part * 10_000..(part + 1) * 10_000).for_each(|index| put_message(&mut bytes, &[7; 64], [(1, index)]));
        commit(&store, &mut number, &bytes);
    }
    store.shared.checkpoint().expect("is well");
    commit(
        &store,
        &mut number,
        &super::testing::bytes_of(&[Op::SessionEnd { uid: 1 }]),
    );
    let (mut slowest, started, mut index) = (0, Instant::now(), 0);
    let waiting = std::thread::scope(|scope| {
        let emptied = scope.spawn(|| {
            loop {
                store.shared.checkpoint().expect("is well");
                if store.shared.has_removed_all() {
                    return started.elapsed();
                }
            }
        });
        while !emptied.is_finished() {
            let mut bytes = Vec::new();
            put_message(&mut bytes, &[7; 64], [(2, index)]);
            index += 1;
            let before = Instant::now();
            commit(&store, &mut number, &bytes);
            slowest = slowest.max(before.elapsed().as_micros());
        }
        emptied.join().expect("ends")
    });
    println!("1,000,000 messages removed in {waiting:?}, beside {index} commits, the slowest of {slowest} us");
}
