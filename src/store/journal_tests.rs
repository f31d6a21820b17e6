use std::collections::HashSet;
use std::sync::Barrier;

use super::*;
use crate::message::Message;
use crate::packet::QoS;
use crate::store::cluster::{ClusterOp, Once};
use crate::store::{Lane, Page, StoredDelivery, StoredSession, StoredWill, TermsRecord, Uid};

/// A store that does as it is told, remembers which changes it took, and counts what it was asked.
#[derive(Debug, Default)]
struct Told {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Attempts wait until this is `false`, but for so many.
    is_blocked: bool,
    let_through: usize,
    /// So many attempts fail.
    failures: u32,
    /// One of so many fails, if it is not 0.
    fails_each: u32,
    panics: bool,
    /// Batches are taken unread, if they may be.
    passes: bool,
    passed: Vec<u64>,
    attempts: Vec<(u64, Vec<u8>)>,
    /// The changes of each batch that was taken, from number 1 on.
    batches: Vec<Vec<String>>,
    is_closed: bool,
}

const DEADLINE: Duration = Duration::from_secs(20);

impl Told {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    fn block(&self) {
        self.set(|state| state.is_blocked = true);
    }

    fn go_on(&self) {
        self.set(|state| state.is_blocked = false);
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    /// Waits until this is so.
    fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let mut state = self.state.lock();
        let end = Instant::now() + DEADLINE;
        while !is_so(&state) {
            let timed_out = self.changed.wait_until(&mut state, end).timed_out();
            assert!(!timed_out, "{what}: {state:?}");
        }
    }

    /// All changes that were taken, one behind the other.
    fn taken(&self) -> Vec<String> {
        self.look(|state| state.batches.concat())
    }
}

impl Store for Told {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.attempts.push((batch.number, batch.bytes.to_vec()));
        self.changed.notify_all();
        while state.is_blocked && state.let_through == 0 {
            self.changed.wait(&mut state);
        }
        state.let_through = state.let_through.saturating_sub(1);
        assert!(!state.panics, "a store that panics");
        let attempts = state.attempts.len() as u32;
        if state.failures > 0 || state.fails_each > 0 && attempts.is_multiple_of(state.fails_each) {
            state.failures = state.failures.saturating_sub(1);
            return Err(StoreError::Unavailable("told to fail".to_owned()));
        }
        assert_eq!(batch.number, state.batches.len() as u64 + 1, "numbers count up");
        state
            .batches
            .push(batch.ops().map(|op| name(&op.expect("readable"))).collect());
        self.changed.notify_all();
        Ok(())
    }

    fn pass(&self, batch: u64) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        if state.passes {
            state.passed.push(batch);
            state.batches.push(Vec::new());
        }
        Ok(state.passes)
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        Ok(self.look(|state| state.batches.len() as u64))
    }

    fn sessions(&self, _each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        Ok(())
    }

    fn wills(&self, _each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        Ok(())
    }

    fn retained(&self, _each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        Ok(())
    }

    fn queue(&self, _uid: Uid, _lane: Lane, _from: u64, _most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        Ok(Vec::new())
    }

    fn close(&self) -> Result<(), StoreError> {
        self.set(|state| state.is_closed = true);
        Ok(())
    }
}

/// What tells the changes of these tests apart.
fn name(op: &Op<'_>) -> String {
    match op {
        Op::RetainClear { topic } => (*topic).to_owned(),
        Op::Message { message, recipients } => format!("{} for {}", message.topic, recipients.len()),
        Op::Cluster(ClusterOp::Publish { message, .. }) => message.topic.to_owned(),
        _ => panic!("none of these tests: {op:?}"),
    }
}

fn change(name: &str) -> Op<'_> {
    Op::RetainClear { topic: name }
}

/// Who waits, with how often it was told and how far the journal was then.
struct Waiter {
    journal: Arc<Journal>,
    told: Mutex<Vec<u64>>,
    more: Condvar,
}

impl Waiter {
    fn new(journal: &Arc<Journal>) -> Arc<Waiter> {
        Arc::new(Waiter {
            journal: Arc::clone(journal),
            told: Mutex::default(),
            more: Condvar::new(),
        })
    }

    fn wait(&self, times: usize) {
        let mut told = self.told.lock();
        let end = Instant::now() + DEADLINE;
        while told.len() < times {
            let timed_out = self.more.wait_until(&mut told, end).timed_out();
            assert!(!timed_out, "not told: {:?}", self.journal);
        }
    }

    fn told(&self) -> Vec<u64> {
        self.told.lock().clone()
    }
}

impl Waits for Waiter {
    fn kept(&self) {
        self.told.lock().push(self.journal.durable());
        self.more.notify_all();
    }
}

fn journal() -> (Arc<Told>, Arc<Journal>) {
    let store = Arc::<Told>::default();
    let journal = Journal::start(Arc::clone(&store) as Arc<dyn Store>).expect("starts");
    (store, journal)
}

/// Writes these changes and leaves; the batch.
fn write(journal: &Arc<Journal>, names: &[&str]) -> u64 {
    let mut pen = Pen::default();
    let batches: Vec<_> = names.iter().map(|name| pen.write(journal, &change(name))).collect();
    assert!(batches.iter().all(|batch| *batch == batches[0]), "{batches:?}");
    pen.leave();
    batches[0]
}

/// Waits until all that was written before is kept.
fn sync(journal: &Arc<Journal>) {
    let waiter = Waiter::new(journal);
    let mut pen = Pen::default();
    pen.write(journal, &change("sync"));
    pen.tell(Arc::clone(&waiter) as Arc<dyn Waits>);
    pen.leave();
    waiter.wait(1);
}

/// Has the thread at work on batch 1 until the store goes on, so that what follows is in batch 2.
fn at_work(store: &Told, journal: &Arc<Journal>) {
    store.block();
    assert_eq!(write(journal, &["first"]), 1);
    store.until("batch 1 is being kept", |state| !state.attempts.is_empty());
}

/// While a batch is being kept, what comes is collected and kept together.
#[test]
fn what_comes_during_a_commit_is_one_batch() {
    let (store, journal) = journal();
    at_work(&store, &journal);
    let mut pens = [Pen::default(), Pen::default(), Pen::default()];
    for round in 0..3 {
        for (pen, name) in pens.iter_mut().zip(["a", "b", "c"]) {
            assert_eq!(pen.write(&journal, &change(&format!("{name}{round}"))), 2);
        }
    }
    pens.iter_mut().rev().for_each(Pen::leave);
    assert_eq!(write(&journal, &["d"]), 2);
    store.go_on();
    sync(&journal);
    // Each pen's changes stand together, in the order in which the pens have left.
    let second = store.look(|state| state.batches[1].clone());
    assert_eq!(
        second[..10],
        ["c0", "c1", "c2", "b0", "b1", "b2", "a0", "a1", "a2", "d"]
    );
    journal.close();
}

/// A batch is read only if it has more than messages for nobody, or the store wants to.
#[test]
fn what_is_for_nobody_need_not_be_read() {
    let (store, journal) = journal();
    let publish = |topic: &str, recipients: &[u64], once: Option<Once>| {
        let message = Publication {
            topic,
            payload: b"",
            properties: b"",
            expires_at: None,
            qos: QoS::AtLeastOnce,
            retain: false,
        };
        let publishing = Publishing {
            once,
            ..Publishing::default()
        };
        let waiter = Waiter::new(&journal);
        let mut pen = Pen::default();
        pen.begin(&journal);
        for uid in recipients {
            let terms = TermsRecord {
                qos: QoS::AtLeastOnce,
                retain: false,
                subscription_ids: &[],
                share: None,
            };
            let (uid, index) = (*uid, 0);
            pen.add_recipient(&journal, &Recipient { uid, index, terms });
        }
        pen.end_publish(&message, &publishing);
        pen.tell(Arc::clone(&waiter) as Arc<dyn Waits>);
        pen.leave();
        waiter.wait(1);
    };
    let mid = crate::store::cluster::Mid {
        incarnation: 1,
        number: 1,
    };
    let once = Once { mid, of: 1, bucket: 0 };
    publish("read", &[], None);
    store.set(|state| state.passes = true);
    publish("passed", &[], None);
    publish("for one", &[7], None);
    publish("passed", &[], None);
    publish("once", &[], Some(once));
    write(&journal, &["change"]);
    sync(&journal);
    let all = store.taken();
    assert_eq!(all, ["read", "for one", "once", "change", "sync"]);
    assert_eq!(store.look(|state| state.passed.clone()), [2, 4]);
    journal.write_last(&change("last"));
    journal.close();
    assert_eq!(store.taken().len(), 6);
}

/// A batch waits for the pens that are in it, and has all that they write until they leave.
#[test]
fn a_batch_waits_for_its_pens() {
    let (store, journal) = journal();
    let mut slow = Pen::default();
    assert_eq!(slow.write(&journal, &change("slow 1")), 1);
    write(&journal, &["quick"]);
    // Once pens enter batch 2, batch 1 is closed, and nothing but the slow pen holds it up.
    let end = Instant::now() + DEADLINE;
    let mut next = Pen::default();
    while next.write(&journal, &change("next")) == 1 {
        next.leave();
        std::thread::yield_now();
        assert!(Instant::now() < end, "batch 1 is not closed");
    }
    next.leave();
    assert_eq!(store.look(|state| state.attempts.len()), 0);
    assert_eq!(journal.durable(), 0);
    assert_eq!(slow.write(&journal, &change("slow 2")), 1);
    assert_eq!(store.look(|state| state.attempts.len()), 0);
    slow.leave();
    sync(&journal);
    let first = store.look(|state| state.batches[0].clone());
    let slow = first.iter().position(|name| name == "slow 1").expect("is in it");
    assert_eq!(first[slow..], ["slow 1", "slow 2"]);
    assert!(first.contains(&"quick".to_owned()));
    journal.close();
}

/// A pen that has left enters the batch that is open then.
#[test]
fn a_pen_goes_on_in_the_next_batch() {
    let (store, journal) = journal();
    let mut pen = Pen::default();
    assert_eq!(pen.batch(), None);
    pen.write(&journal, &change("a"));
    assert_eq!(pen.batch(), Some(1));
    pen.leave();
    assert_eq!(pen.batch(), None);
    sync(&journal);
    let batch = pen.write(&journal, &change("b"));
    assert_eq!(batch, journal.durable() + 1);
    pen.leave();
    pen.leave();
    journal.close();
    let written: Vec<_> = store.taken().into_iter().filter(|name| name != "sync").collect();
    assert_eq!(written, ["a", "b"]);
}

/// [`Pen::write_now`] keeps the order in which it is called, between pens and over batches, behind what its own pen has
/// written before.
#[test]
fn what_is_written_now_keeps_its_order() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 500;
    let (store, journal) = journal();
    let turn = Mutex::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, turn) = (&journal, &turn);
            scope.spawn(move || {
                let mut pen = Pen::default();
                for round in 0..ROUNDS {
                    pen.write(journal, &change(&format!("{thread} {round} before")));
                    let mut turn = turn.lock();
                    pen.write_now(journal, &change(&format!("now {turn:05}")));
                    *turn += 1;
                    let name = format!("{thread} {round} now {turn:05}");
                    drop(turn);
                    pen.write(journal, &change(&name));
                    if round % 3 == 0 {
                        pen.leave();
                    }
                    if round % 100 == 0 {
                        pen.leave();
                        sync(journal);
                    }
                }
            });
        }
    });
    journal.close();
    let taken = store.taken();
    let now: Vec<_> = taken.iter().filter(|name| name.starts_with("now")).collect();
    assert!(now.is_sorted() && now.len() == THREADS * ROUNDS);
    for thread in 0..THREADS {
        let own = taken.iter().filter(|name| name.starts_with(&format!("{thread} ")));
        let rounds: Vec<usize> = own.filter_map(|name| name.split(' ').nth(1)?.parse().ok()).collect();
        assert!(rounds.is_sorted() && rounds.len() == 2 * ROUNDS);
    }
    assert!(store.look(|state| state.batches.len()) > 1);
}

/// What fails is tried again with the same number and the same bytes, and until it succeeds nothing is said to be kept.
#[test]
fn a_batch_is_tried_until_it_is_kept() {
    let (store, journal) = journal();
    store.set(|state| state.failures = 3);
    store.block();
    let waiter = Waiter::new(&journal);
    let mut pen = Pen::default();
    let batch = pen.write(&journal, &change("a"));
    pen.tell(Arc::clone(&waiter) as Arc<dyn Waits>);
    pen.leave();
    let started = Instant::now();
    for attempt in 1..=4 {
        store.until("it is tried", |state| state.attempts.len() == attempt);
        // It is not long since the first has failed.
        assert!(!journal.is_failing() || started.elapsed() >= PATIENCE);
        assert_eq!((journal.durable(), waiter.told()), (0, Vec::new()));
        assert!(journal.pending() > 0);
        store.set(|state| state.let_through = 1);
    }
    waiter.wait(1);
    assert!(!journal.is_failing());
    assert_eq!(journal.durable(), batch);
    store.look(|state| {
        assert_eq!(state.attempts.len(), 4);
        assert!(state.attempts.iter().all(|attempt| *attempt == state.attempts[0]));
        assert_eq!(state.batches, [["a"]]);
    });
    journal.close();
}

/// A store that neither takes a batch nor says why is failing, too, and no more when it goes on.
#[test]
fn a_commit_that_does_not_end_is_a_failure() {
    let (store, journal) = journal();
    store.block();
    write(&journal, &["a"]);
    store.until("it is tried", |state| state.attempts.len() == 1);
    let began = Instant::now();
    while !journal.is_failing() {
        assert!(began.elapsed() < 12 * HANGING, "it counts as well");
        std::thread::yield_now();
    }
    assert!(began.elapsed() >= HANGING / 2);
    store.go_on();
    sync(&journal);
    assert!(!journal.is_failing());
    journal.close();
}

/// While a store fails, what comes is collected, and kept afterwards. It counts as failing when that lasts.
#[test]
fn changes_wait_while_the_store_fails() {
    let (store, journal) = journal();
    store.set(|state| state.failures = u32::MAX);
    write(&journal, &["a"]);
    let mut attempts = 0;
    while !journal.is_failing() {
        attempts += 1;
        store.until("it fails", |state| state.attempts.len() > attempts);
    }
    assert_eq!(write(&journal, &["b"]), 2);
    assert_eq!(write(&journal, &["c"]), 2);
    store.set(|state| state.failures = 0);
    sync(&journal);
    assert!(!journal.is_failing());
    assert_eq!(store.taken()[..3], ["a", "b", "c"]);
    journal.close();
}

/// Who waits is told once for each batch, and not before the batch counts as kept.
#[test]
fn who_waits_is_told_once() {
    let (store, journal) = journal();
    at_work(&store, &journal);
    let waiters = [Waiter::new(&journal), Waiter::new(&journal)];
    let mut pen = Pen::default();
    let batch = pen.write(&journal, &change("a"));
    for waiter in &waiters {
        pen.tell(Arc::clone(waiter) as Arc<dyn Waits>);
    }
    pen.leave();
    assert!(waiters.iter().all(|waiter| waiter.told().is_empty()));
    store.go_on();
    waiters.iter().for_each(|waiter| waiter.wait(1));
    sync(&journal);
    for waiter in &waiters {
        let told = waiter.told();
        assert!(told.len() == 1 && told[0] >= batch, "{told:?}");
    }
    journal.close();
    assert!(waiters.iter().all(|waiter| waiter.told().len() == 1));
}

/// Who waits for what was written with [`Pen::write_now`] and before waits for both.
#[test]
fn who_waits_for_what_is_written_now_is_told_when_that_is_kept() {
    let (store, journal) = journal();
    at_work(&store, &journal);
    let waiter = Waiter::new(&journal);
    let mut pen = Pen::default();
    pen.write(&journal, &change("before"));
    let batch = pen.write_now(&journal, &change("now"));
    pen.tell(Arc::clone(&waiter) as Arc<dyn Waits>);
    pen.leave();
    store.go_on();
    waiter.wait(1);
    assert!(waiter.told()[0] >= batch);
    assert_eq!(store.taken(), ["first", "before", "now"]);
    journal.close();
}

/// The recipients of a message become one change, and a message without one none.
#[test]
fn a_message_is_one_change() {
    let (store, journal) = journal();
    let message = |topic| Publication {
        topic,
        payload: b"m",
        properties: &[],
        expires_at: None,
        qos: QoS::AtLeastOnce,
        retain: false,
    };
    let mut pen = Pen::default();
    pen.end_message(&message("nobody"));
    assert_eq!(pen.batch(), None);
    for topic in ["a", "b"] {
        for uid in 0..3 {
            pen.add_recipient(&journal, &recipient(uid));
        }
        pen.end_message(&message(topic));
        pen.end_message(&message("nobody"));
    }
    pen.leave();
    journal.close();
    assert_eq!(store.taken(), ["a for 3", "b for 3"]);
}

fn recipient<'a>(uid: Uid) -> Recipient<'a> {
    Recipient {
        uid,
        index: 0,
        terms: TermsRecord {
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: &[],
            share: None,
        },
    }
}

/// Closing has all kept that was written, and then closes the store.
#[test]
fn closing_keeps_the_rest() {
    let (store, journal) = journal();
    at_work(&store, &journal);
    write(&journal, &["a"]);
    let mut pen = Pen::default();
    pen.write(&journal, &change("b"));
    let waiter = Waiter::new(&journal);
    pen.tell(Arc::clone(&waiter) as Arc<dyn Waits>);
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| journal.close());
        store.go_on();
        pen.leave();
        closing.join().expect("closes");
    });
    waiter.wait(1);
    assert_eq!(store.taken(), ["first", "a", "b"]);
    assert!(store.look(|state| state.is_closed));
    assert_eq!(journal.pending(), 0);
    journal.close();
}

/// A store that fails does not hold up the end of the broker; what was not kept is not said to be.
#[test]
fn closing_gives_up_where_the_store_fails() {
    let (store, journal) = journal();
    store.set(|state| state.failures = u32::MAX);
    let waiter = Waiter::new(&journal);
    let mut pen = Pen::default();
    pen.write(&journal, &change("a"));
    pen.tell(Arc::clone(&waiter) as Arc<dyn Waits>);
    pen.leave();
    store.until("it fails", |state| state.attempts.len() > 1);
    journal.close();
    assert!(store.look(|state| state.is_closed && state.batches.is_empty()));
    assert_eq!((journal.durable(), waiter.told()), (0, Vec::new()));
}

/// Nobody waits for ever for a store that has panicked, and the broker is not ready.
#[test]
fn a_store_that_panics_is_one_that_fails() {
    let (store, journal) = journal();
    store.set(|state| state.panics = true);
    let waiter = Waiter::new(&journal);
    let mut pen = Pen::default();
    pen.write(&journal, &change("a"));
    pen.tell(Arc::clone(&waiter) as Arc<dyn Waits>);
    pen.leave();
    journal.close();
    assert!(journal.is_failing());
    assert_eq!((journal.durable(), waiter.told()), (0, Vec::new()));
}

/// A journal that is let go ends by itself, and what was written before is kept.
#[test]
fn a_journal_that_is_let_go_ends() {
    let (store, journal) = journal();
    at_work(&store, &journal);
    write(&journal, &["a"]);
    journal.let_go();
    store.go_on();
    store.until("it is closed", |state| state.is_closed);
    assert_eq!(store.taken(), ["first", "a"]);
}

/// What waits to be kept is counted, from when a pen leaves until it is kept.
#[test]
fn what_is_not_kept_is_counted() {
    let (store, journal) = journal();
    at_work(&store, &journal);
    let first = journal.pending();
    assert_eq!(first, store.look(|state| state.attempts[0].1.len()));
    let large = "x".repeat(60_000);
    let mut pens: Vec<Pen> = (0..10).map(|_| Pen::default()).collect();
    for pen in &mut pens {
        for _ in 0..60 {
            pen.write(&journal, &change(&large));
        }
        pen.leave();
    }
    assert!(journal.is_full());
    let size = journal.pending();
    assert!(size > 36_000_000, "{size}");
    pens[0].write_now(&journal, &change("now"));
    assert_eq!(journal.pending(), size + 1 + 2 + 3);
    pens[0].leave();
    store.go_on();
    sync(&journal);
    journal.close();
    assert_eq!(journal.pending(), 0);
    assert!(!journal.is_full());
}

/// A pen that is dropped leaves: what it has written is kept, but no message that was not ended.
#[test]
fn a_pen_that_is_dropped_leaves() {
    let (store, journal) = journal();
    let mut pen = Pen::default();
    pen.write(&journal, &change("a"));
    pen.add_recipient(&journal, &recipient(1));
    drop(pen);
    let mut only_entered = Pen::default();
    only_entered.add_recipient(&journal, &recipient(1));
    let panicked = std::thread::scope(|scope| {
        let panicking = scope.spawn(|| {
            let _pen = only_entered;
            panic!("in the middle of a message");
        });
        panicking.join().is_err()
    });
    assert!(panicked);
    sync(&journal);
    assert_eq!(store.taken(), ["a", "sync"]);
    journal.close();
}

/// A journal that goes on counts from the last batch of its store.
#[test]
fn numbers_go_on() {
    let (store, first) = journal();
    sync(&first);
    sync(&first);
    let count = first.durable();
    first.close();
    let again = Journal::start(Arc::clone(&store) as Arc<dyn Store>).expect("starts");
    assert_eq!(again.durable(), count);
    assert_eq!(write(&again, &["a"]), count + 1);
    again.close();
    assert_eq!(again.durable(), count + 1);
}

/// It is complained once of a store that fails every now and then, and said once that it takes changes again.
#[test]
fn complaints_are_few() {
    let error = StoreError::Unavailable("no".to_owned());
    let mut complaints = Complaints::default();
    complaints.succeeded();
    assert!(complaints.last.is_none() && !complaints.is_open);
    complaints.failed(&error);
    let first = complaints.last;
    assert!(first.is_some() && complaints.is_open);
    complaints.succeeded();
    assert!(!complaints.is_open);
    complaints.failed(&error);
    assert!(complaints.last == first && !complaints.is_open);
    complaints.last = Instant::now().checked_sub(COMPLAINTS);
    complaints.failed(&error);
    assert!(complaints.last != first && complaints.is_open);
}

/// Many at once: each change that was said to be kept is kept, each once, in the order of who wrote it.
#[test]
fn many_write_at_once() {
    const THREADS: usize = 16;
    const ROUNDS: usize = 200;
    let (store, journal) = journal();
    store.set(|state| state.fails_each = 50);
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, journal, start) = (&store, &journal, &start);
            scope.spawn(move || {
                start.wait();
                writes_and_waits(store, journal, thread, ROUNDS);
            });
        }
    });
    // What fails while the journal is closed is given up.
    store.set(|state| state.fails_each = 0);
    journal.close();
    assert_eq!(journal.pending(), 0);
    let taken = store.taken();
    let all: HashSet<_> = taken.iter().collect();
    assert!(all.len() == taken.len() && taken.len() == THREADS * ROUNDS * 3);
    for thread in 0..THREADS {
        let own = taken.iter().filter(|name| name.starts_with(&format!("{thread:02} ")));
        assert!(own.is_sorted());
    }
    assert_eq!(store.look(|state| state.batches.len() as u64), journal.durable());
}

fn writes_and_waits(store: &Told, journal: &Arc<Journal>, thread: usize, rounds: usize) {
    let waiter = Waiter::new(journal);
    let mut pen = Pen::default();
    for round in 0..rounds {
        let name = |part| format!("{thread:02} {round:04} {part}");
        pen.write(journal, &change(&name(0)));
        let batch = match round % 2 {
            0 => pen.write_now(journal, &change(&name(1))),
            _ => pen.write(journal, &change(&name(1))),
        };
        assert_eq!(pen.write(journal, &change(&name(2))), batch);
        if round % 5 == 0 {
            pen.tell(Arc::clone(&waiter) as Arc<dyn Waits>);
        }
        pen.leave();
        if round % 5 == 0 {
            waiter.wait(round / 5 + 1);
            assert!(journal.durable() >= batch);
            let kept = store.look(|state| state.batches[batch as usize - 1].clone());
            assert!((1..3).all(|part| kept.contains(&name(part))), "{kept:?}");
        }
    }
    assert_eq!(waiter.told().len(), rounds / 5);
}
