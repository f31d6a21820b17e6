use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::totals::Totals;
use super::*;
use crate::identity::{ClientInfo, Peer, Proof, Transport};
use crate::message::{Message, Publication};
use crate::packet::{QoS, RetainHandling, SubscriptionOptions, Version};
use crate::store::{
    Batch, MemoryStore, Op, Recipient, SessionRecord, StoredSession, StoredWill, SubscriptionRecord, TermsRecord,
    write_client, write_message, write_recipient,
};
use crate::time::Millis;

/// What is in it is every kind of thing, in every state.
fn full() -> MemoryStore {
    let store = MemoryStore::default();
    commit(&store, 1, &everything());
    store
}

fn commit(store: &dyn Store, number: u64, bytes: &[u8]) {
    store.commit(&Batch { number, bytes }).expect("committed");
}

fn everything() -> Vec<u8> {
    let mut to = Vec::new();
    for (uid, client_id, away) in [
        (1, "away", Some(7)),
        (9, "conn\u{e9}ct\"ed", None),
        (12, "drained", Some(8)),
    ] {
        session(uid, client_id, away).write(&mut to);
    }
    subscriptions(&mut to);
    live(&mut to);
    replayed(&mut to);
    for packet_id in [1, 65_535] {
        Op::Received { uid: 1, packet_id }.write(&mut to);
    }
    for (topic, payload) in [("r/1", &b"\x00\xff"[..]), ("r/2", b""), ("$x/\u{1f600}", b"on")] {
        Op::Retain {
            message: publication(topic, payload),
        }
        .write(&mut to);
    }
    for uid in [1, 77] {
        will(&mut to, uid);
    }
    to
}

fn session(uid: Uid, client_id: &str, away: Option<u64>) -> Op<'_> {
    Op::Session(SessionRecord {
        uid,
        client_id,
        expiry_interval: u32::MAX,
        window: 20,
        away_since: away.map(Millis::from_unix),
        unsent: if away.is_some() { 6 } else { 0 },
    })
}

fn subscriptions(to: &mut Vec<u8>) {
    for (filter, identifier, replays) in [
        ("a/#", 0, false),
        ("$share/g/b/+", 268_435_455, false),
        ("r/#", 3, true),
    ] {
        let subscription = SubscriptionRecord {
            filter,
            options: SubscriptionOptions {
                qos: QoS::ExactlyOnce,
                no_local: identifier == 0,
                retain_as_published: true,
                retain_handling: RetainHandling::SendIfNew,
            },
            identifier,
            replays,
        };
        Op::Subscribe { uid: 1, subscription }.write(to);
    }
}

/// Of one session 2, 3 (released), 5 and 6 are there; the other has one message; the third has had two.
fn live(to: &mut Vec<u8>) {
    for index in 0..7 {
        let mut recipients = Vec::new();
        let to_others = index < 2;
        write_recipient(&mut recipients, &recipient(1, index));
        if to_others {
            write_recipient(&mut recipients, &recipient(12, index));
        }
        if index == 0 {
            write_recipient(&mut recipients, &recipient(9, index));
        }
        let count = 1 + u32::from(to_others) + u32::from(index == 0);
        write_message(
            to,
            count,
            &recipients,
            &publication("a/b", format!("payload {index}").as_bytes()),
        );
    }
    Op::Floor { uid: 1, index: 2 }.write(to);
    Op::Floor { uid: 12, index: 2 }.write(to);
    let (uid, lane) = (1, Lane::Live);
    Op::Released { uid, lane, index: 3 }.write(to);
    Op::Done { uid, lane, index: 4 }.write(to);
}

/// Two are left, one of them released, and the cursor has gone on.
fn replayed(to: &mut Vec<u8>) {
    for (index, topic) in (0..3).zip(["r/0", "r/1", "r/2"]) {
        Op::Replayed {
            uid: 1,
            index,
            before: index + 4,
            filter: "r/#",
            terms: terms(),
            message: publication(topic, b"retained"),
        }
        .write(to);
    }
    let (uid, lane) = (1, Lane::Replayed);
    Op::Released { uid, lane, index: 0 }.write(to);
    Op::Done { uid, lane, index: 1 }.write(to);
}

fn will(to: &mut Vec<u8>, uid: Uid) {
    let mut client = Vec::new();
    write_client(&mut client, &whose());
    Op::Will {
        uid,
        delay_interval: 5,
        expires_in: (uid == 1).then_some(0),
        message: publication("will", b"gone"),
        client: &client,
    }
    .write(to);
}

fn whose() -> ClientInfo {
    ClientInfo {
        client_id: "away".into(),
        username: None,
        version: Version::V5,
        peer: Peer {
            address: None,
            transport: Transport::Tcp,
            username: None,
            certificate: None,
            upgrade: None,
            listener: None,
        },
        connected_at: Millis::from_unix(9),
        keep_alive: 8,
        session_expiry: 7,
        proof: Proof::Nothing,
        rights: None,
    }
}

fn terms<'a>() -> TermsRecord<'a> {
    TermsRecord {
        qos: QoS::AtLeastOnce,
        retain: true,
        subscription_ids: &[0, 0, 0, 1, 0, 0, 1, 0],
        share: Some("$share/g/a/+"),
    }
}

fn recipient<'a>(uid: Uid, index: u64) -> Recipient<'a> {
    Recipient {
        uid,
        index,
        terms: terms(),
    }
}

fn publication<'a>(topic: &'a str, payload: &'a [u8]) -> Publication<'a> {
    Publication {
        topic,
        payload,
        properties: &[1, 1, 0x26, 0, 1, b'n', 0, 1, b'v'],
        expires_at: Some(Millis::from_unix(1 << 50)),
        qos: QoS::ExactlyOnce,
        retain: true,
    }
}

fn exported(store: &dyn Store) -> Vec<String> {
    let mut text = Vec::new();
    export::write(store, &mut text).expect("exported");
    let text = String::from_utf8(text).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// Without order, which a store does not promise between sessions.
fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, lines: &[String]) -> PathBuf {
        let path = self.0.path().join("export");
        fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("written");
        path
    }

    fn import(&self, lines: &[String], store: &dyn Store) -> Result<Totals, String> {
        let path = self.write(lines);
        let announced = import::check(&path)?;
        import::fill(&path, &announced, store)
    }
}

#[test]
fn what_is_exported_is_imported() {
    let lines = exported(&full());
    let store = MemoryStore::default();
    let totals = Files::new().import(&lines, &store).expect("imported");
    assert_eq!(sorted(exported(&store)), sorted(lines));
    assert_eq!((totals.sessions, totals.queued, totals.replayed), (3, 5, 2));
    assert_eq!(
        (totals.wills, totals.retained, totals.received, totals.subscriptions),
        (2, 3, 2, 3)
    );
    assert!(matches!(check::check(&store), Checked::Clean(_)));
}

#[test]
fn an_empty_store_is_exported_too() {
    let lines = exported(&MemoryStore::default());
    assert_eq!(lines.len(), 2);
    let totals = Files::new().import(&lines, &MemoryStore::default()).expect("imported");
    assert!(totals.is_empty());
}

/// Whatever line is missing, doubled, cut, or has lost a field: it is noticed before anything is imported.
#[test]
fn a_file_that_is_not_whole_is_refused() {
    let (lines, files) = (exported(&full()), Files::new());
    let refused = |lines: &[String]| {
        let checked = import::check(&files.write(lines));
        let error = checked.expect_err(&lines.join("\n"));
        assert!(error.contains("line "), "{error}");
    };
    for at in 0..lines.len() {
        let without = [&lines[..at], &lines[at + 1..]].concat();
        refused(&without);
        let doubled = [&lines[..=at], &lines[at..]].concat();
        refused(&doubled);
        let mut cut = lines.clone();
        cut[at].truncate(lines[at].len() / 2);
        refused(&cut);
        for changed in with_one_change(&lines[at]) {
            let mut lines = lines.clone();
            lines[at] = changed;
            refused(&lines);
        }
    }
    fs::write(files.0.path().join("export"), lines.join("\n")).expect("written");
    let error = import::check(&files.0.path().join("export")).expect_err("cut short");
    assert!(error.contains("does not end"), "{error}");
}

/// The line with each field, at any depth, missing; with an unknown one; and with one of another type.
fn with_one_change(line: &str) -> Vec<String> {
    fn change(value: &serde_json::Value, all: &mut Vec<serde_json::Value>) {
        if let serde_json::Value::Object(fields) = value {
            for name in fields.keys() {
                let mut less = fields.clone();
                let inner = less.remove(name).expect("it is there");
                all.push(less.clone().into());
                less.insert(name.clone(), serde_json::json!([{"of": "no type"}]));
                all.push(less.clone().into());
                let mut changed = Vec::new();
                change(&inner, &mut changed);
                for inner in changed {
                    less.insert(name.clone(), inner);
                    all.push(less.clone().into());
                }
            }
            let mut more = fields.clone();
            more.insert("unknown".to_owned(), 1.into());
            all.push(more.into());
        }
    }
    let mut all = Vec::new();
    change(&serde_json::from_str(line).expect("JSON"), &mut all);
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let (lines, files) = (exported(&full()), Files::new());
    for (from, to) in [
        ("\"format\":1", "\"format\":2"),
        ("\"topic\":\"r/1\"", "\"topic\":\"r/+\""),
        ("\"filter\":\"a/#\"", "\"filter\":\"a#\""),
        ("\"qos\":2", "\"qos\":3"),
        ("\"properties\":\"AQ", "\"properties\":\"Aw"),
        ("\"payload\":\"AP8=\"", "\"payload\":\"AP8\""),
        ("\"expiry_interval\":4294967295", "\"expiry_interval\":4294967296"),
        ("\"expiry_interval\":4294967295", "\"expiry_interval\":0"),
        ("[1,65535]", "[0,1]"),
        ("\"client\":\"", "\"client\":\"AAAA"),
        ("\"lane\":\"live\"", "\"lane\":\"slow\""),
        ("\"index\":5", "\"index\":-1"),
        ("\"index\":5", "\"index\":2"),
        ("\"state\":\"released\"", "\"state\":\"waiting\""),
        ("\"uid\":77", "\"uid\":1"),
        ("\"client_id\":\"drained\"", "\"client_id\":\"away\""),
    ] {
        assert!(lines.iter().any(|line| line.contains(from)), "{from}");
        let changed: Vec<_> = lines.iter().map(|line| line.replacen(from, to, 1)).collect();
        assert!(import::check(&files.write(&changed)).is_err(), "{to}");
    }
}

/// Fails at one of its commits.
#[derive(Debug)]
struct Failing {
    store: MemoryStore,
    left: AtomicUsize,
}

impl Store for Failing {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            1 => Err(StoreError::Unavailable("no space".to_owned())),
            _ => self.store.commit(batch),
        }
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        self.store.last_batch()
    }

    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        self.store.sessions(each)
    }

    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        self.store.wills(each)
    }

    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        self.store.retained(each)
    }

    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        self.store.queue(uid, lane, from, most)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.store.close()
    }
}

/// Large enough for several batches; the second one fails.
#[test]
fn what_fails_is_told() {
    let (source, files) = (full(), Files::new());
    let payload = vec![b'x'; 700_000];
    for number in 2..5 {
        let mut bytes = Vec::new();
        let topic = format!("large/{number}");
        Op::Retain {
            message: publication(&topic, &payload),
        }
        .write(&mut bytes);
        commit(&source, number, &bytes);
    }
    let store = Failing {
        store: MemoryStore::default(),
        left: AtomicUsize::new(2),
    };
    let error = files.import(&exported(&source), &store).expect_err("no space");
    assert!(error.contains("no space"), "{error}");
}

/// Says something else than what is there.
#[test]
fn a_check_finds_what_does_not_go_together() {
    let store = full();
    let mut bytes = Vec::new();
    session(20, "away", None).write(&mut bytes);
    Op::Retain {
        message: publication("a/+", b"x"),
    }
    .write(&mut bytes);
    let mut message = publication("m", b"x");
    message.properties = &[3];
    Op::Retain { message }.write(&mut bytes);
    Op::Will {
        uid: 20,
        delay_interval: 0,
        expires_in: None,
        message: publication("w", b""),
        client: b"nobody",
    }
    .write(&mut bytes);
    commit(&store, 2, &bytes);
    let Checked::Damaged(faults) = check::check(&store) else {
        panic!("faults are there");
    };
    for part in [
        "another session",
        "\"a/+\"",
        "properties",
        "will of session 20: its client",
    ] {
        assert_eq!(
            faults.iter().filter(|fault| fault.contains(part)).count(),
            1,
            "{part}: {faults:#?}"
        );
    }
    assert_eq!(faults.len(), 4, "{faults:#?}");
}

/// A writer that can't go on ends the export.
#[test]
fn an_export_that_can_t_be_written_fails() {
    struct Full(RefCell<usize>);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut room = self.0.borrow_mut();
            *room = room.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = export::write(&full(), &mut Full(RefCell::new(2000))).expect_err("full");
    assert!(error.starts_with("can't write"), "{error}");
}

#[test]
fn figures_are_those_of_the_store() {
    let stats = stats::Stats::of(&full(), None).expect("read");
    let json: serde_json::Value = serde_json::from_str(&stats.to_json()).expect("JSON");
    assert_eq!(
        (&json["sessions"], &json["away"], &json["queued"]),
        (&3.into(), &2.into(), &5.into())
    );
    assert_eq!(json["largest_queue_client"], "away");
    assert!(json["largest_queue_bytes"].as_u64() > Some(60) && json.get("database_bytes").is_none());
    let table = stats.to_table();
    assert!(table.contains("retained                           3\n"), "{table}");
}

#[test]
fn no_store_is_made_by_looking_for_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("missing");
    for dir in [directory.path(), &missing] {
        let at = Persistence::Disk(crate::store::DiskSettings::new(dir));
        assert!(check(&at).is_err() && stats(&at, true).is_err() && export(&at, None).is_err());
    }
    assert!(!missing.exists() && fs::read_dir(directory.path()).expect("read").next().is_none());
    assert!(
        stats(&Persistence::Memory, false)
            .expect_err("in memory")
            .contains("--redis URL")
    );
}
