use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::testing::{Random, Workload, bytes_of, commit, image, put_message, queues, session};
use super::*;
use crate::store::{MemoryStore, Op};

/// No thread, and small sizes: what happens follows from the calls.
fn small() -> Tuning {
    Tuning {
        segment: 8 * 1024,
        journal: 20 * 1024,
        memory: 60 * 1024,
        idle: Duration::from_secs(1000),
        has_thread: false,
    }
}

fn open_small(dir: &Path) -> DiskStore {
    let directory = Directory::open(dir, Durability::Os).expect("is there");
    DiskStore::open(Arc::new(directory), small()).expect("opens")
}

fn open_default(dir: &Path) -> Result<DiskStore, StoreError> {
    open(&DiskSettings {
        durability: Durability::Os,
        ..DiskSettings::new(dir)
    })
}

fn refusal(dir: &Path) -> String {
    match open_default(dir) {
        Err(StoreError::Refused(why)) => why,
        other => panic!("was not refused: {other:?}"),
    }
}

/// Random changes come to the same as in the store in memory, with checkpoints and new processes in between.
#[test]
fn it_has_what_the_model_has() {
    for seed in 0..15 {
        let dir = TempDir::new().expect("is made");
        let model = MemoryStore::default();
        let mut store = open_small(dir.path());
        let mut workload = Workload::new(seed, 6);
        let mut chance = Random::new(seed + 1000);
        for step in 0..150 {
            let batch = workload.batch();
            commit(&model, &batch).expect("commits");
            commit(&store, &batch).expect("commits");
            if chance.one_in(10) {
                store.shared.checkpoint().expect("is well");
            }
            for uid in 1..=6 {
                assert_eq!(queues(&store, uid), queues(&model, uid), "seed {seed}, step {step}");
            }
            if chance.one_in(30) {
                drop(store);
                store = open_small(dir.path());
            }
            if chance.one_in(20) {
                assert_eq!(image(&store), image(&model), "seed {seed}, step {step}");
            }
        }
        assert_eq!(image(&store), image(&model), "seed {seed}");
    }
}

/// A copy of the files is what `kill -9` leaves.
fn killed(dir: &Path) -> TempDir {
    let copy = TempDir::new().expect("is made");
    for entry in fs::read_dir(dir).expect("is there") {
        let entry = entry.expect("is there");
        fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("is copied");
    }
    copy
}

fn segments(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir)
        .expect("is there")
        .map(|entry| entry.expect("is there").file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().expect("is text")).collect();
    names.retain(|name| segment::sequence(name).is_some());
    names.sort();
    names
}

fn a_message(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_message(
        &mut bytes,
        format!("payload {number}").as_bytes(),
        [(1, number), (2, number)],
    );
    bytes
}

/// A store with two sessions and so many batches with a message.
fn filled(dir: &Path, batches: u64) -> DiskStore {
    let store = open_small(dir);
    commit(&store, &bytes_of(&[session(1, "one"), session(2, "two")])).expect("commits");
    for number in 0..batches {
        commit(&store, &a_message(number)).expect("commits");
    }
    store
}

fn count(store: &DiskStore, uid: Uid) -> usize {
    let most = Page {
        messages: usize::MAX,
        bytes: usize::MAX,
    };
    store.queue(uid, Lane::Live, 0, most).expect("is read").len()
}

#[test]
fn what_was_committed_is_there_after_a_kill() {
    let dir = TempDir::new().expect("is made");
    let store = filled(dir.path(), 50);
    let before = killed(dir.path());
    store.shared.checkpoint().expect("is well");
    commit(&store, &a_message(50)).expect("commits");
    let after = killed(dir.path());
    for (copy, messages) in [(before, 50), (after, 51)] {
        let store = open_small(copy.path());
        assert_eq!(store.last_batch(), Ok(1 + messages));
        assert_eq!(count(&store, 2), messages as usize);
        drop(store);
        let report = DiskStore::check(copy.path()).expect("is checked");
        assert_eq!((report.last_batch, report.faults), (1 + messages, Vec::new()));
    }
}

/// Wherever the last frame was cut off, it is as if it had never been; and the same batch is committed again.
#[test]
fn a_frame_that_was_cut_off_was_not_committed() {
    let dir = TempDir::new().expect("is made");
    let store = filled(dir.path(), 3);
    let name = segments(dir.path()).pop().expect("there is one");
    let whole = fs::metadata(dir.path().join(&name)).expect("is there").len();
    commit(&store, &a_message(3)).expect("commits");
    let longer = fs::metadata(dir.path().join(&name)).expect("is there").len();
    assert!(longer > whole, "the frame went to another segment");
    for len in whole..longer {
        let copy = killed(dir.path());
        let file = fs::OpenOptions::new()
            .write(true)
            .open(copy.path().join(&name))
            .expect("is there");
        file.set_len(len).expect("is cut");
        let store = open_small(copy.path());
        assert_eq!(store.last_batch(), Ok(4), "cut to {len}");
        commit(&store, &a_message(3)).expect("commits");
        drop(store);
        let store = open_small(copy.path());
        assert_eq!((store.last_batch(), count(&store, 1)), (Ok(5), 4), "cut to {len}");
    }
}

/// Every byte of the journal that belongs to a frame counts.
#[test]
fn a_garbled_byte_in_the_journal_is_damage() {
    let dir = TempDir::new().expect("is made");
    drop(filled(dir.path(), 3));
    let name = segments(dir.path()).pop().expect("there is one");
    let len = fs::metadata(dir.path().join(&name)).expect("is there").len() as usize;
    for place in 0..len {
        let copy = killed(dir.path());
        garble(&copy.path().join(&name), place);
        let checked = DiskStore::check(copy.path());
        assert!(
            matches!(checked, Err(StoreError::Damaged(_))),
            "byte {place}: {checked:?}"
        );
        let opened = open_default(copy.path());
        assert!(
            matches!(opened, Err(StoreError::Damaged(_))),
            "byte {place}: {opened:?}"
        );
    }
}

fn garble(file: &Path, place: usize) {
    let mut bytes = fs::read(file).expect("is there");
    bytes[place] ^= 0x20;
    fs::write(file, bytes).expect("is written");
}

#[test]
fn a_segment_that_is_missing_is_damage() {
    let dir = TempDir::new().expect("is made");
    drop(filled(dir.path(), 130));
    let names = segments(dir.path());
    assert!(names.len() >= 3, "there are {}", names.len());
    for name in &names {
        let copy = killed(dir.path());
        fs::remove_file(copy.path().join(name)).expect("is removed");
        let opened = open_default(copy.path());
        let is_last = Some(name) == names.last();
        // What was never written to, or the last one, could as well not have been.
        assert!(
            is_last || matches!(opened, Err(StoreError::Damaged(_))),
            "{name}: {opened:?}"
        );
    }
}

/// A garbled byte of the database is reported, or is of a page that is not in use.
#[test]
fn a_garbled_byte_in_the_database_is_not_served() {
    let dir = TempDir::new().expect("is made");
    let store = filled(dir.path(), 300);
    store.close().expect("closes");
    drop(store);
    let whole = open_small(dir.path());
    let expected = image(&whole).expect("is read");
    drop(whole);
    let len = fs::metadata(dir.path().join(database::STATE)).expect("is there").len() as usize;
    let mut reported = 0;
    let mut random = Random::any();
    for block in 0..len / 4096 {
        let copy = killed(dir.path());
        let within = if block == 0 { 320 } else { 4096 };
        garble(
            &copy.path().join(database::STATE),
            block * 4096 + random.below(within) as usize,
        );
        match DiskStore::check(copy.path()) {
            Ok(report) => {
                assert_eq!(report.faults, Vec::<String>::new(), "block {block}");
                let store = open_small(copy.path());
                assert_eq!(image(&store), Ok(expected.clone()), "block {block}");
            }
            Err(StoreError::Damaged(_)) => reported += 1,
            Err(error) => panic!("block {block}: {error}"),
        }
        let copy = killed(dir.path());
        garble(
            &copy.path().join(database::STATE),
            block * 4096 + random.below(within) as usize,
        );
        let served = open_default(copy.path()).and_then(|store| image(&store));
        match served {
            Ok(image) => assert_eq!(image, expected, "block {block}"),
            Err(error) => assert!(matches!(error, StoreError::Damaged(_)), "block {block}: {error}"),
        }
    }
    assert!(reported > 10, "{reported} of {} blocks", len / 4096);
}

#[test]
fn another_process_is_refused() {
    let dir = TempDir::new().expect("is made");
    let store = open_default(dir.path()).expect("opens");
    let why = refusal(dir.path());
    assert!(
        why.starts_with(&format!("{} is in use by another process", dir.path().display())),
        "{why}"
    );
    let checked = DiskStore::check(dir.path());
    assert!(matches!(checked, Err(StoreError::Refused(_))), "{checked:?}");
    store.close().expect("closes");
    open_default(dir.path()).expect("opens");
}

#[test]
fn another_format_is_refused() {
    let dir = TempDir::new().expect("is made");
    drop(open_default(dir.path()).expect("opens"));
    let format = dir.path().join("format");
    fs::write(&format, "mqtt-broker store 2\n").expect("is written");
    assert!(refusal(dir.path()).contains("of a newer version of the broker"));
    fs::write(&format, "mqtt-broker store 0\n").expect("is written");
    assert!(refusal(dir.path()).contains("of an older version of the broker"));
    fs::write(&format, "something else").expect("is written");
    assert!(matches!(open_default(dir.path()), Err(StoreError::Damaged(_))));
}

#[test]
fn what_is_no_store_is_refused() {
    let dir = TempDir::new().expect("is made");
    let file = dir.path().join("file");
    fs::write(&file, "text").expect("is written");
    assert!(refusal(&file).ends_with("is not a directory"));
    assert!(refusal(&file.join("below")).contains("can't be made"));
    drop(redb::Database::create(dir.path().join(database::STATE)).expect("is made"));
    let why = refusal(dir.path());
    assert!(why.contains("has the file state.redb and no file format"), "{why}");
    let empty = TempDir::new().expect("is made");
    assert!(matches!(DiskStore::check(empty.path()), Err(StoreError::Refused(_))));
    assert_eq!(fs::read_dir(empty.path()).expect("is there").count(), 0);
}

/// A database of somebody else, or of another time, in the place of ours.
#[test]
fn a_database_that_was_exchanged_is_damage() {
    let dir = TempDir::new().expect("is made");
    drop(filled(dir.path(), 3));
    let state = dir.path().join(database::STATE);
    fs::remove_file(&state).expect("is removed");
    assert!(matches!(open_default(dir.path()), Err(StoreError::Damaged(_))));
    drop(redb::Database::create(&state).expect("is made"));
    assert!(matches!(open_default(dir.path()), Err(StoreError::Damaged(_))));
}

#[test]
fn files_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = TempDir::new().expect("is made");
    let dir = parent.path().join("a/b");
    drop(open_default(&dir).expect("opens"));
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).expect("is there") {
        let entry = entry.expect("is there");
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.file_name());
    }
}

/// What was finished makes room, whether the database had it or not.
#[test]
fn space_is_used_again() {
    let dir = TempDir::new().expect("is made");
    let store = filled(dir.path(), 0);
    let mut sizes = Vec::new();
    for round in 0..60 {
        let indexes = round * 100..(round + 1) * 100;
        for index in indexes.clone() {
            let mut bytes = Vec::new();
            put_message(&mut bytes, &[7; 500], [(1, index), (2, index)]);
            commit(&store, &bytes).expect("commits");
        }
        if round % 2 == 0 {
            store.shared.checkpoint().expect("is well");
        }
        for index in indexes {
            let lane = Lane::Live;
            let done = [Op::Done { uid: 1, lane, index }, Op::Done { uid: 2, lane, index }];
            commit(&store, &bytes_of(&done)).expect("commits");
        }
        let files = fs::read_dir(dir.path()).expect("is there");
        let sizes_of = files.map(|file| file.expect("is there").metadata().expect("is there").len());
        sizes.push(sizes_of.sum::<u64>());
    }
    let (early, late) = (sizes[..20].iter().max(), sizes[40..].iter().max());
    assert!(late <= early, "{sizes:?}");
}

/// A session with a very long queue ends at once, and its places go bit by bit.
#[test]
fn a_long_queue_ends_bit_by_bit() {
    let dir = TempDir::new().expect("is made");
    let store = filled(dir.path(), 0);
    for part in 0..130 {
        let mut bytes = Vec::new();
        (part * 1000..(part + 1) * 1000).for_each(|index| put_message(&mut bytes, b"", [(1, index)]));
        commit(&store, &bytes).expect("commits");
    }
    store.shared.checkpoint().expect("is well");
    commit(&store, &bytes_of(&[Op::SessionEnd { uid: 1 }])).expect("commits");
    assert_eq!(count(&store, 1), 0);
    let mut left = Vec::new();
    for _ in 0..5 {
        store.shared.checkpoint().expect("is well");
        let places = store.shared.base.read(|snapshot| {
            use redb::ReadableTableMetadata;
            Ok(snapshot.open(tables::QUEUES)?.len()?)
        });
        left.push(places.expect("is read"));
        let report = || check::check_files(&store.shared.files);
        // Another process would find all well in between.
        let _ = report;
    }
    assert_eq!(left, [80_000, 30_000, 0, 0, 0]);
    drop(store);
    assert_eq!(
        DiskStore::check(dir.path()).expect("is checked").faults,
        Vec::<String>::new()
    );
}

/// A session whose identifier is used again has nothing of the one before.
#[test]
fn a_session_that_begins_again_has_nothing_of_the_one_before() {
    let dir = TempDir::new().expect("is made");
    let store = filled(dir.path(), 0);
    let mut bytes = Vec::new();
    (0..120_000).for_each(|index| put_message(&mut bytes, b"", [(1, index)]));
    commit(&store, &bytes).expect("commits");
    store.shared.checkpoint().expect("is well");
    commit(&store, &bytes_of(&[Op::SessionEnd { uid: 1 }])).expect("commits");
    store.shared.checkpoint().expect("is well");
    commit(&store, &bytes_of(&[session(1, "again")])).expect("commits");
    assert_eq!(count(&store, 1), 0);
    store.shared.checkpoint().expect("is well");
    assert_eq!(count(&store, 1), 0);
    drop(store);
    let report = DiskStore::check(dir.path()).expect("is checked");
    assert_eq!((report.messages, report.faults), (0, Vec::new()));
}

#[test]
fn stats_count_what_is_there() {
    let dir = TempDir::new().expect("is made");
    drop(filled(dir.path(), 5));
    let stats = DiskStore::stats(dir.path()).expect("are read");
    assert_eq!((stats.sessions, stats.messages, stats.last_batch), (2, 10, 6));
    assert!(
        stats.pending_bytes > 0 && stats.journal_bytes > stats.pending_bytes,
        "{stats:?}"
    );
    let again = DiskStore::stats(dir.path()).expect("are read");
    assert_eq!((again.messages, again.pending_bytes), (10, 0));
}

/// With the thread, under the sizes that a broker has.
#[test]
fn checkpoints_go_on_beside_commits() {
    let dir = TempDir::new().expect("is made");
    let directory = Directory::open(dir.path(), Durability::Os).expect("is there");
    let tuning = Tuning {
        has_thread: true,
        ..small()
    };
    let store = DiskStore::open(Arc::new(directory), tuning).expect("opens");
    let model = MemoryStore::default();
    let mut workload = Workload::new(7, 6);
    for _ in 0..600 {
        let batch = workload.batch();
        commit(&model, &batch).expect("commits");
        commit(&store, &batch).expect("commits");
        for uid in 1..=6 {
            assert_eq!(queues(&store, uid), queues(&model, uid));
        }
    }
    assert_eq!(image(&store), image(&model));
    store.close().expect("closes");
    drop(store);
    let store = open_small(dir.path());
    assert_eq!(image(&store), image(&model));
}

/// What the child of the next test does: it fills the store until there is no room.
#[test]
#[ignore = "is run by another test"]
fn fill_until_there_is_no_room() {
    let dir = std::env::var("STORE_DIR").expect("is set");
    let store = open_small(Path::new(&dir));
    commit(&store, &bytes_of(&[session(1, "one"), session(2, "two")])).expect("commits");
    let mut number = 0;
    let error = loop {
        if let Err(error) = commit(&store, &a_message(number)) {
            break error;
        }
        number += 1;
    };
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert_eq!(
        count(&store, 1),
        number as usize,
        "what was committed is there, and nothing else"
    );
    println!("committed: {number}.");
}

/// Where a file can't grow, commits fail, and what was committed before is kept.
#[test]
fn a_full_disk_loses_nothing() {
    let dir = TempDir::new().expect("is made");
    let child = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("is known"))
        .args([
            "--exact",
            "store::disk::tests::fill_until_there_is_no_room",
            "--ignored",
            "--nocapture",
        ])
        .env("STORE_DIR", dir.path())
        .output()
        .expect("runs");
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success(),
        "{output}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let (_, rest) = output.split_once("committed: ").expect("says how many");
    let (committed, _) = rest.split_once('.').expect("says how many");
    let committed: usize = committed.parse().expect("is a number");
    assert!(committed > 100);
    let store = open_small(dir.path());
    let found = count(&store, 2);
    // The one that failed may have come to the journal, or not.
    assert!(found == committed || found == committed + 1, "{found} of {committed}");
    commit(&store, &a_message(found as u64)).expect("commits again");
}

mod suite {
    use super::*;
    use crate::store::suite::{Subject, store_suite};

    /// A directory of its own, with the small sizes.
    struct Disk(TempDir);

    impl Subject for Disk {
        fn new() -> Disk {
            Disk(TempDir::new().expect("is made"))
        }

        fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
            let directory = Directory::open(self.0.path(), Durability::Os)?;
            let tuning = Tuning {
                has_thread: true,
                ..small()
            };
            Ok(Arc::new(DiskStore::open(Arc::new(directory), tuning)?))
        }

        fn size(&self) -> u64 {
            let files = fs::read_dir(self.0.path()).expect("is there");
            files
                .map(|file| file.expect("is there").metadata().expect("is there").len())
                .sum()
        }

        fn damage(&self, seed: u64) -> bool {
            let mut random = Random::new(seed);
            let mut files: Vec<_> = fs::read_dir(self.0.path())
                .expect("is there")
                .map(|file| file.expect("is there").path())
                .collect();
            files.sort();
            files.retain(|file| fs::metadata(file).expect("is there").len() > 0);
            let file = &files[random.below(files.len() as u64) as usize];
            let len = fs::metadata(file).expect("is there").len();
            garble(file, random.below(len) as usize);
            true
        }
    }

    store_suite!(Disk);
}
