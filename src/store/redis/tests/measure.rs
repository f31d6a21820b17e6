//! Figures, for `docs/redis.md`: `cargo test --release --lib redis::tests::measure -- --ignored --nocapture`.

use std::time::Instant;

use crate::store::Store;
use crate::store::redis::testing::{ALWAYS, Changes, RedisServer};

/// Microseconds that the server has worked.
fn cpu(server: &RedisServer) -> f64 {
    let info: String = server.command(&["INFO", "cpu"]);
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name))
            .map_or(0.0, |v| v.trim().parse().unwrap_or(0.0))
    };
    (field("used_cpu_user:") + field("used_cpu_sys:")) * 1e6
}

fn memory(server: &RedisServer) -> f64 {
    let info: String = server.command(&["INFO", "memory"]);
    info.lines()
        .find_map(|line| line.strip_prefix("used_memory:"))
        .map_or(0.0, |bytes| bytes.trim().parse().unwrap_or(0.0))
}

fn sessions(store: &dyn Store, count: u64, number: &mut u64) {
    for first in (0..count).step_by(1000) {
        *number += 1;
        let changes = (first..first + 1000).fold(Changes::default(), |changes, uid| {
            let filter = format!("home/{uid}/light");
            changes
                .session(uid, &format!("client-{uid:06}"), Some(1))
                .subscribe(uid, &filter, false)
        });
        changes.commit(store, *number).expect("commits");
    }
}

#[test]
#[ignore = "prints figures, and proves nothing"]
fn figures() {
    for (name, arguments) in [("no AOF", &[][..]), ("AOF always", ALWAYS)] {
        let server = RedisServer::start(arguments);
        let store = server.open();
        let mut number = 0;
        sessions(&store, 1000, &mut number);
        let (cpu_before, memory_before, begun) = (cpu(&server), memory(&server), Instant::now());
        const BATCHES: u64 = 100;
        for batch in 0..BATCHES {
            number += 1;
            let changes = (0..100_u64).fold(Changes::default(), |changes, message| {
                let recipients: Vec<_> = (0..10).map(|n| ((message * 10 + n) % 1000, batch)).collect();
                changes.message(&[b'x'; 100], &recipients)
            });
            changes.commit(&store, number).expect("commits");
        }
        let messages = (BATCHES * 100) as f64;
        println!(
            "{name}: batches of 100 messages with 10 recipients each: {:.1} us of Redis a message, {:.2} ms a batch, {:.0} bytes a queued message",
            (cpu(&server) - cpu_before) / messages,
            begun.elapsed().as_secs_f64() * 1e3 / BATCHES as f64,
            (memory(&server) - memory_before) / messages / 10.0,
        );
        let (cpu_before, begun) = (cpu(&server), Instant::now());
        for batch in 0..BATCHES {
            number += 1;
            let changes = (0..1000).fold(Changes::default(), |changes, uid| changes.done(uid, batch));
            changes.commit(&store, number).expect("commits");
        }
        println!(
            "{name}: batches of 1,000 acknowledgements: {:.2} us of Redis each, {:.2} ms a batch",
            (cpu(&server) - cpu_before) / (BATCHES * 1000) as f64,
            begun.elapsed().as_secs_f64() * 1e3 / BATCHES as f64
        );
        let (cpu_before, begun) = (cpu(&server), Instant::now());
        for place in 0..1000 {
            number += 1;
            Changes::default()
                .message(&[b'x'; 100], &[(5, BATCHES + place)])
                .commit(&store, number)
                .expect("commits");
        }
        println!(
            "{name}: one message to one session a batch: {:.0} us of Redis, {:.0} us in all",
            (cpu(&server) - cpu_before) / 1000.0,
            begun.elapsed().as_secs_f64() * 1e3
        );
    }
    let server = RedisServer::start(&[]);
    let store = server.open();
    let memory_before = memory(&server);
    sessions(&store, 100_000, &mut 0);
    let bytes = (memory(&server) - memory_before) / 100_000.0;
    drop(store);
    let begun = Instant::now();
    let store = server.open();
    let opened = begun.elapsed();
    let mut count = 0;
    store.sessions(&mut |_| count += 1).expect("sessions");
    println!(
        "{count} sessions: {bytes:.0} bytes each; opened in {opened:?}, read after {:?}",
        begun.elapsed()
    );
}
