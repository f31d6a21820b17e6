//! For tests: batches of random changes, and what a store has.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use crate::message::Publication;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::op::{write_message, write_recipient};
use crate::store::{
    Batch, Lane, Op, Page, Recipient, SessionRecord, Store, StoreError, SubscriptionRecord, TermsRecord, Uid,
};
use crate::time::Millis;

/// Numbers that look random, and follow from a seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(super) fn any() -> Random {
        Random::new(RandomState::new().hash_one(1))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// Appends a message with recipients.
pub(super) fn put_message(to: &mut Vec<u8>, payload: &[u8], recipients: impl IntoIterator<Item = (Uid, u64)>) {
    let mut bytes = Vec::new();
    let mut count = 0;
    for (uid, index) in recipients {
        let terms = terms(QoS::AtLeastOnce);
        write_recipient(&mut bytes, &Recipient { uid, index, terms });
        count += 1;
    }
    write_message(to, count, &bytes, &publication("some/topic/of/a/device", payload));
}

pub(super) fn publication<'a>(topic: &'a str, payload: &'a [u8]) -> Publication<'a> {
    Publication {
        topic,
        payload,
        properties: &[],
        expires_at: None,
        qos: QoS::AtLeastOnce,
        retain: false,
    }
}

pub(super) fn terms<'a>(qos: QoS) -> TermsRecord<'a> {
    TermsRecord {
        qos,
        retain: false,
        subscription_ids: &[],
        share: None,
    }
}

pub(super) fn session(uid: Uid, client_id: &str) -> Op<'_> {
    Op::Session(SessionRecord {
        uid,
        client_id,
        expiry_interval: 1000,
        window: 20,
        away_since: None,
        unsent: 0,
    })
}

pub(super) fn bytes_of(ops: &[Op<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    ops.iter().for_each(|op| op.write(&mut bytes));
    bytes
}

/// Makes batches as a broker might, and some that it would not.
pub(super) struct Workload {
    pub(super) random: Random,
    next: BTreeMap<Uid, u64>,
    sessions: u64,
}

impl Workload {
    pub(super) fn new(seed: u64, sessions: u64) -> Workload {
        Workload {
            random: Random::new(seed),
            next: BTreeMap::new(),
            sessions,
        }
    }

    pub(super) fn batch(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=self.random.below(12) {
            self.op(&mut bytes);
        }
        bytes
    }

    fn uid(&mut self) -> Uid {
        1 + self.random.below(self.sessions)
    }

    /// Often a new one, sometimes one that has been.
    fn index(&mut self, uid: Uid) -> u64 {
        let next = self.next.entry(uid).or_default();
        if self.random.one_in(12) {
            return self.random.below(*next + 3);
        }
        *next += 1 + u64::from(self.random.one_in(20));
        *next
    }

    fn old_index(&mut self, uid: Uid) -> u64 {
        let next = self.next.get(&uid).copied().unwrap_or(0);
        next.saturating_sub(self.random.below(12))
    }

    fn lane(&mut self) -> Lane {
        match self.random.one_in(4) {
            true => Lane::Replayed,
            false => Lane::Live,
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        let len = match self.random.below(20) {
            0 => self.random.below(6_000),
            1 => 0,
            _ => self.random.below(100),
        };
        let byte = self.random.next() as u8;
        // Zeros look like what was not written.
        vec![if self.random.one_in(8) { 0 } else { byte }; len as usize]
    }

    fn op(&mut self, to: &mut Vec<u8>) {
        let uid = self.uid();
        let filter = format!("filter/{}", self.random.below(3));
        let filter = filter.as_str();
        let topic = format!("topic/{}", self.random.below(4));
        match self.random.below(30) {
            0..=2 => self.session(uid, to),
            3 => Op::SessionEnd { uid }.write(to),
            4 | 5 => self.subscribe(uid, filter, to),
            6 => Op::Unsubscribe { uid, filter }.write(to),
            7..=13 => self.message(to),
            14 => self.replayed(uid, filter, &topic, to),
            15 => Op::ReplayEnd { uid, filter }.write(to),
            16 | 17 => {
                let (lane, index) = (self.lane(), self.old_index(uid));
                Op::Released { uid, lane, index }.write(to);
            }
            18..=22 => {
                let (lane, index) = (self.lane(), self.old_index(uid));
                Op::Done { uid, lane, index }.write(to);
            }
            23 => {
                let index = self.old_index(uid);
                Op::Floor { uid, index }.write(to);
            }
            24 => {
                let packet_id = 1 + self.random.below(4) as u16;
                Op::Received { uid, packet_id }.write(to);
            }
            25 => {
                let packet_id = 1 + self.random.below(4) as u16;
                Op::ReceivedEnd { uid, packet_id }.write(to);
            }
            26 => {
                let payload = self.payload();
                let message = publication(&topic, &payload);
                Op::Retain { message }.write(to);
            }
            27 => Op::RetainClear { topic: &topic }.write(to),
            28 => self.will(uid, &topic, to),
            _ => Op::WillEnd { uid }.write(to),
        }
    }

    fn session(&mut self, uid: Uid, to: &mut Vec<u8>) {
        let client_id = format!("client {uid}");
        let is_away = self.random.one_in(2);
        let record = SessionRecord {
            uid,
            client_id: &client_id,
            expiry_interval: self.random.below(1000) as u32,
            window: self.random.below(100) as u16,
            away_since: is_away.then(|| Millis::from_unix(1 + self.random.below(1 << 40))),
            unsent: self.random.below(10),
        };
        Op::Session(record).write(to);
    }

    fn subscribe(&mut self, uid: Uid, filter: &str, to: &mut Vec<u8>) {
        let subscription = SubscriptionRecord {
            filter,
            options: SubscriptionOptions {
                qos: QoS::ExactlyOnce,
                no_local: self.random.one_in(2),
                retain_as_published: self.random.one_in(2),
                retain_handling: RetainHandling::SendIfNew,
            },
            identifier: self.random.below(3) as u32,
            replays: self.random.one_in(2),
        };
        Op::Subscribe { uid, subscription }.write(to);
    }

    fn message(&mut self, to: &mut Vec<u8>) {
        let mut recipients = Vec::new();
        let mut count = 0;
        for _ in 0..=self.random.below(5) {
            let uid = self.uid();
            let index = self.index(uid);
            let mut terms = terms(QoS::AtLeastOnce);
            if self.random.one_in(3) {
                terms.subscription_ids = &[0, 0, 0, 1, 0, 0, 0, 2];
                terms.share = self.random.one_in(2).then_some("$share/a/b");
            }
            write_recipient(&mut recipients, &Recipient { uid, index, terms });
            count += 1;
        }
        let payload = self.payload();
        write_message(to, count, &recipients, &publication("a/topic", &payload));
    }

    fn replayed(&mut self, uid: Uid, filter: &str, topic: &str, to: &mut Vec<u8>) {
        let payload = self.payload();
        let index = self.index(uid);
        Op::Replayed {
            uid,
            index,
            before: self.random.below(5),
            filter,
            terms: terms(QoS::ExactlyOnce),
            message: publication(topic, &payload),
        }
        .write(to);
    }

    fn will(&mut self, uid: Uid, topic: &str, to: &mut Vec<u8>) {
        let payload = self.payload();
        Op::Will {
            uid,
            delay_interval: self.random.below(100) as u32,
            expires_in: self.random.one_in(2).then_some(5),
            message: publication(topic, &payload),
            client: b"a client",
        }
        .write(to);
    }
}

/// All that a store has, as text, in order.
pub(super) fn image(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    let mut uids = Vec::new();
    store.sessions(&mut |session| {
        uids.push(session.uid);
        lines.push(format!("session {session:?}"));
    })?;
    store.wills(&mut |will| lines.push(format!("will {will:?}")))?;
    store.retained(&mut |message| lines.push(format!("retained {message:?}")))?;
    for uid in uids {
        lines.extend(queues(store, uid)?);
    }
    lines.sort();
    Ok(lines)
}

/// Both queues of a session, as text, in pages.
pub(super) fn queues(store: &dyn Store, uid: Uid) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    for lane in [Lane::Live, Lane::Replayed] {
        let mut from = 0;
        loop {
            let most = Page {
                messages: 3,
                bytes: 3_000,
            };
            let page = store.queue(uid, lane, from, most)?;
            let Some(last) = page.last() else { break };
            assert!(page[0].index >= from && page.is_sorted_by_key(|delivery| delivery.index));
            from = last.index + 1;
            lines.extend(page.iter().map(|delivery| format!("queue {uid} {lane:?} {delivery:?}")));
        }
    }
    Ok(lines)
}

pub(super) fn commit(store: &dyn Store, bytes: &[u8]) -> Result<(), StoreError> {
    let number = store.last_batch()? + 1;
    store.commit(&Batch { number, bytes })
}
