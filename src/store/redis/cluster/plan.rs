//! From a batch of changes to calls of the scripts: one for each home that is touched, or a few.
//!
//! The changes of a home stay in their order. Those of the global home, which are the entries of the log, come behind those of
//! all others; what begins with the batch comes before: a job that a killed node has begun is finished by others, one that it
//! had not begun is begun again by the client, and so must not have done anything.

use std::collections::{BTreeMap, BTreeSet};

use super::call::{Call, Change, Expected, GroupOf, HomeCalls, Outcome, Touched};
use super::owed::Owed;
use super::rematch::{Additions, Extra};
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::cluster::{
    ClusterOp, Departure, Entry, Incarnation, Limits, Mid, Once, Open, Token, bucket_of_client, bucket_of_inbox,
    bucket_of_uid, node_of_inbox,
};
use crate::store::op::{Lane, Recipient, Recipients, SessionRecord};
use crate::store::redis::entry::{
    cursor_bytes, job_head, live_terms, message_bytes, no_terms, record_sums, replayed_terms, subscription_bytes,
    will_bytes,
};
use crate::store::redis::keys::Home;
use crate::store::{Batch, Op, StoreError, TermsRecord, Uid};
use crate::wire::put_binary;

/// What does not change while the store is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) incarnation: Incarnation,
    pub(super) limits: Limits,
    /// Bytes of the longest message that is told to the owner of its session; 0 if no message may leave a node by that way.
    pub(super) longest_told: u64,
}

/// What a batch comes to, as far as that is known.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) batch: u64,
    context: Context,
    /// In the order in which they are sent.
    pub(super) calls: Vec<Call>,
    /// Messages of the batch that go with a call.
    pub(super) messages: Vec<Vec<u8>>,
    /// Where in `messages` those are that have been published.
    published: Vec<Option<usize>>,
    /// Messages that have had effect once, with the buckets that have noted that.
    pub(super) onces: Vec<(Once, BTreeSet<u8>)>,
    /// Who has got messages because of what was added while they were under way, in the order in which that was found.
    extras: Vec<(usize, Extra)>,
    /// How far the log was, at least, when all was written.
    pub(super) position: Option<u64>,
    /// The batch is kept only when the log has been applied as far as it was.
    pub(super) needs_position: bool,
    /// The log tells of changes that others must find when they read it.
    pub(super) log_tells: bool,
    /// The messages have been matched with all that must be looked at.
    pub(super) is_complete: bool,
}

impl Plan {
    /// # Errors
    /// If the batch can't be read, or has changes that there are not in a cluster.
    pub(super) fn new(
        batch: &Batch<'_>,
        context: Context,
        additions: &Additions,
        calls_made: &[u64],
        owed: &Owed,
    ) -> Result<Plan, StoreError> {
        let mut plan = Plan {
            batch: batch.number,
            context,
            calls: Vec::new(),
            messages: Vec::new(),
            published: Vec::new(),
            onces: Vec::new(),
            extras: Vec::new(),
            position: None,
            needs_position: false,
            log_tells: false,
            is_complete: false,
        };
        let mut planner = Planner::new(&mut plan);
        for op in owed.ops() {
            planner.cluster(op, additions);
        }
        for op in batch.ops() {
            planner.add(op?, additions)?;
        }
        planner.finish(calls_made);
        Ok(plan)
    }

    /// The messages of the batch are put where they must go because of what has been added since.
    pub(super) fn complete(
        &mut self,
        batch: &Batch<'_>,
        additions: &Additions,
        calls_made: &[u64],
    ) -> Result<(), StoreError> {
        self.is_complete = true;
        if additions.is_empty() {
            return Ok(());
        }
        let mut planner = Planner::new(self);
        let mut number = 0;
        for op in batch.ops() {
            if let Op::Cluster(ClusterOp::Publish {
                message,
                origin,
                once,
                recipients,
            }) = op?
            {
                let to = Published { number, message, once };
                planner.extras(&to, origin, &recipients, additions);
                number += 1;
            }
        }
        planner.finish(calls_made);
        Ok(())
    }

    /// A message that must have effect once is put into this queue, or this inbox.
    fn note_once(&mut self, once: Once, uid: Uid) {
        let bucket = node_of_inbox(uid).map_or_else(|| bucket_of_uid(uid), bucket_of_inbox);
        if let Some((_, buckets)) = self.onces.iter_mut().find(|(other, _)| *other == once) {
            buckets.insert(bucket);
        }
    }

    /// Something remains to be written or asked.
    pub(super) fn is_pending(&self) -> bool {
        self.calls.iter().any(|call| !call.is_done) || (self.needs_position && self.position.is_none())
    }

    /// The calls that remain to be made.
    pub(super) fn pending(&self) -> Vec<usize> {
        let calls = self.calls.iter().enumerate();
        calls
            .filter(|(_, call)| !call.is_done)
            .map(|(number, _)| number)
            .collect()
    }

    /// The log had this position when all had been written; the call for it may have told a higher one.
    pub(super) fn reached(&mut self, position: u64) {
        let told = self.calls.iter().filter_map(|call| match call.outcome {
            Some(Outcome::Logged { position, .. }) => Some(position),
            _ => None,
        });
        self.position = told.max().max(Some(position)).max(self.position);
    }
}

struct Planner<'p> {
    plan: &'p mut Plan,
    /// What must be done before the rest.
    firsts: BTreeMap<Home, HomeCalls>,
    homes: BTreeMap<Home, HomeCalls>,
}

/// A message, and which of those that the batch publishes it is.
struct Published<'a> {
    number: usize,
    message: Publication<'a>,
    once: Option<Once>,
}

const FREES: bool = true;
const TAKES: bool = false;

impl<'p> Planner<'p> {
    fn new(plan: &'p mut Plan) -> Planner<'p> {
        Planner {
            plan,
            firsts: BTreeMap::new(),
            homes: BTreeMap::new(),
        }
    }

    fn add(&mut self, op: Op<'_>, additions: &Additions) -> Result<(), StoreError> {
        match op {
            Op::Cluster(op) => self.cluster(op, additions),
            Op::Session(record) => self.session(&record),
            Op::SessionEnd { uid } => self.of_session(uid, FREES, "e", |change| change),
            Op::Subscribe { uid, ref subscription } => self.of_session(uid, TAKES, "+", |change| {
                change.text(subscription.filter).text(subscription_bytes(subscription))
            }),
            Op::Unsubscribe { uid, filter } => self.of_session(uid, FREES, "-", |change| change.text(filter)),
            Op::Replayed {
                uid,
                index,
                before,
                filter,
                ref terms,
                ref message,
            } => {
                let number = self.keep_message(message);
                self.of_session(uid, TAKES, "p", |change| {
                    let change = change.number(index).text(replayed_terms(None, message, before, terms));
                    change.message(number).text(filter).text(cursor_bytes(message.topic))
                });
            }
            Op::ReplayEnd { uid, filter } => self.of_session(uid, FREES, "x", |change| change.text(filter)),
            Op::Released { uid, lane, index } => self.of_session(uid, FREES, "r", |change| {
                change.text(lane_name(lane)).number(index).text(no_terms(lane, None))
            }),
            Op::Done { uid, lane, index } => self.done(uid, lane, index),
            Op::ReceivedEnd { uid, packet_id } => {
                self.of_session(uid, FREES, "o", |change| change.number(u64::from(packet_id)));
            }
            Op::Retain { message } => self.log(&Entry::Retain { message }),
            Op::RetainClear { topic } => self.log(&Entry::RetainClear { topic }),
            Op::Message { .. } | Op::Floor { .. } | Op::Received { .. } | Op::Will { .. } | Op::WillEnd { .. } => {
                return Err(StoreError::Refused(format!(
                    "there is no change of this kind in a cluster: {op:?}"
                )));
            }
        }
        Ok(())
    }

    fn cluster(&mut self, op: ClusterOp<'_>, additions: &Additions) {
        match op {
            ClusterOp::Publish {
                message,
                origin,
                once,
                recipients,
            } => self.publish(message, once, origin, &recipients, additions),
            ClusterOp::Claim { client_id, token } => self.claim(client_id, token),
            ClusterOp::Open(open) => self.open(&open),
            ClusterOp::Release {
                client_id,
                token,
                departure,
                mid,
            } => self.release(client_id, token, departure, mid),
            ClusterOp::Received {
                uid,
                packet_id,
                message,
            } => {
                let number = self.keep_message(&message);
                self.of_session(uid, TAKES, "i", |change| {
                    change.number(u64::from(packet_id)).message(number)
                });
            }
            ClusterOp::Begin { uid, packet_id, mid } => {
                let head = job_head(self.plan.context.incarnation, Some(uid));
                let home = self.firsts.entry(Home::Bucket(bucket_of_uid(uid))).or_default();
                let change = home.change(Touched::Session(uid), FREES, b"b").number(uid);
                change.number(u64::from(packet_id)).text(mid.to_string()).text(head);
            }
            ClusterOp::Finish { bucket, mid } => self.of_bucket(bucket, "finish", &mid.to_string()),
            ClusterOp::Forget { bucket, mid } => self.of_bucket(bucket, "forget", &mid.to_string()),
            ClusterOp::Fence { bucket, node } => self.of_bucket(bucket, "fence", &node.to_string()),
            ClusterOp::ForgetOf { bucket, node } => self.of_bucket(bucket, "forget-of", &node.to_string()),
            ClusterOp::Destroy { node } => self.of_bucket(bucket_of_inbox(node), "destroy", &node.to_string()),
            ClusterOp::Free { node, client_id, mid } => self.free(node, client_id, mid),
            ClusterOp::Sweep { bucket, first, most } => self.sweep(bucket, first, most),
            ClusterOp::Log(entry) => self.log(&entry),
            ClusterOp::Dead { node, counter } => self.dead(node, counter),
            ClusterOp::TakeOver { node } => self.global("take-over", node),
            ClusterOp::Recovered { node } => self.global("recovered", node),
        }
    }

    fn session(&mut self, record: &SessionRecord<'_>) {
        let fields = [
            u64::from(record.expiry_interval),
            u64::from(record.window),
            record.away_since.map_or(0, |at| at.as_unix().max(1)),
            record.unsent,
        ];
        let (_, sum) = record_sums(record.client_id.as_bytes(), fields);
        self.of_session(record.uid, TAKES, "s", |change| {
            let change = fields.into_iter().fold(change, |change, field| change.number(field));
            change.text(sum)
        });
    }

    fn done(&mut self, uid: Uid, lane: Lane, index: u64) {
        let touched = (Touched::Session(uid), FREES);
        let part = self
            .bucket(bucket_of_uid(uid))
            .part(touched, GroupOf::Done(uid, lane as u8), |change| {
                change.text("d").number(uid).text(lane_name(lane))
            });
        part.number(index);
    }

    fn publish(
        &mut self,
        message: Publication<'_>,
        once: Option<Once>,
        origin: Uid,
        recipients: &Recipients<'_>,
        additions: &Additions,
    ) {
        self.plan.needs_position |= message.qos != QoS::AtMostOnce;
        let number = self.plan.published.len();
        self.plan.published.push(None);
        self.plan.onces.extend(once.map(|once| (once, BTreeSet::new())));
        let to = Published { number, message, once };
        for recipient in recipients.iter() {
            self.put(&to, &recipient);
        }
        self.extras(&to, origin, recipients, additions);
    }

    /// Puts a message where it must go because of what has been added while it was under way.
    fn extras(&mut self, to: &Published<'_>, origin: Uid, recipients: &Recipients<'_>, additions: &Additions) {
        if additions.is_empty() || to.message.qos == QoS::AtMostOnce {
            return;
        }
        let before = self.plan.extras.iter().filter(|(number, _)| *number == to.number);
        let before: Vec<_> = before.map(|(_, extra)| extra.clone()).collect();
        for extra in additions.recipients(&to.message, origin, recipients, &before) {
            self.put(to, &extra.recipient());
            self.plan.extras.push((to.number, extra));
        }
    }

    /// Puts a message into a queue or an inbox.
    fn put(&mut self, to: &Published<'_>, recipient: &Recipient<'_>) {
        // Without a session it only says that the Shared Subscription has had the message.
        if recipient.uid == 0 {
            return;
        }
        let message = match self.plan.published[to.number] {
            Some(message) => message,
            None => self.keep_message(&to.message),
        };
        self.plan.published[to.number] = Some(message);
        if let Some(once) = to.once {
            self.plan.note_once(once, recipient.uid);
        }
        match node_of_inbox(recipient.uid) {
            Some(node) => self.send(to, message, node, recipient.terms.share),
            None => self.append(to, message, recipient.uid, &recipient.terms),
        }
    }

    fn append(&mut self, to: &Published<'_>, message: usize, uid: Uid, terms: &TermsRecord<'_>) {
        let Context {
            limits, longest_told, ..
        } = self.plan.context;
        let terms = live_terms(None, &to.message, terms);
        let (mid, of) = names(to.once);
        let touched = (Touched::Session(uid), TAKES);
        let part = self
            .bucket(bucket_of_uid(uid))
            .part(touched, GroupOf::Message(to.number), |change| {
                let change = change.limits(&limits, longest_told).text("a");
                change.message(message).text(mid).text(of)
            });
        part.number(uid).terms(uid, message, &terms);
    }

    fn send(&mut self, to: &Published<'_>, message: usize, node: Incarnation, share: Option<&str>) {
        let mut head = vec![u8::from(share.is_some())];
        if let Some(share) = share {
            put_binary(&mut head, share.as_bytes());
        }
        let stream = match to.message.qos {
            QoS::AtMostOnce => "in0",
            _ => "in",
        };
        let (mid, of) = names(to.once);
        let home = self.bucket(bucket_of_inbox(node));
        let change = home.change(Touched::Inbox(node), TAKES, b"n").message(message);
        let change = change.text(mid).text(of).number(node).text(stream).text(head);
        change.expect(Expected::Sent);
    }

    fn claim(&mut self, client_id: &str, token: Token) {
        let home = self.bucket(bucket_of_client(client_id));
        let change = home.change(Touched::Client(client_id), TAKES, b"claim");
        change.text(client_id).text(token.to_string());
    }

    fn open(&mut self, open: &Open<'_>) {
        let fields = [u64::from(open.expiry_interval), 0, 0, 0];
        let (client_sum, sum) = record_sums(open.client_id.as_bytes(), fields);
        let will = open.will.map_or_else(Vec::new, |will| {
            will_bytes(will.delay_interval, will.expires_in, &will.message, will.client)
        });
        let home = self.bucket(bucket_of_client(open.client_id));
        let change = home.change(Touched::Client(open.client_id), TAKES, b"open");
        let change = change.text(open.client_id).text(open.token.to_string());
        let change = change.number(u64::from(open.clean)).number(open.uid).text(will);
        let change = change
            .text(open.mid.to_string())
            .text(job_head(open.token.incarnation, None));
        change.number(fields[0]).text(sum).text(client_sum);
    }

    fn release(&mut self, client_id: &str, token: Token, departure: Departure, mid: Mid) {
        let home = self.bucket(bucket_of_client(client_id));
        let change = home.change(Touched::Client(client_id), FREES, b"release");
        let change = change.text(client_id).text(token.to_string());
        let change = change
            .number(u64::from(departure.has_will))
            .number(u64::from(departure.grace));
        let change = change.number(u64::from(departure.expiry_interval));
        change.text(mid.to_string()).text(job_head(token.incarnation, None));
    }

    fn free(&mut self, node: Incarnation, client_id: &str, mid: Mid) {
        let home = self.bucket(bucket_of_client(client_id));
        let change = home.change(Touched::Client(client_id), FREES, b"free");
        let change = change.number(node).text(client_id);
        let change = change.text(mid.to_string()).text(job_head(node, None));
        change.expect(Expected::Ended);
    }

    fn sweep(&mut self, bucket: u8, first: Mid, most: u32) {
        let head = job_head(self.plan.context.incarnation, None);
        let change = self.bucket(bucket).change(Touched::Home, FREES, b"sweep");
        let change = change.number(first.incarnation).number(first.number);
        change.number(u64::from(most)).text(head).expect(Expected::Ended);
    }

    fn log(&mut self, entry: &Entry<'_>) {
        self.plan.needs_position = true;
        self.plan.log_tells |= matches!(
            entry,
            Entry::Subscribe { .. } | Entry::Unsubscribe { .. } | Entry::End { .. }
        );
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        match *entry {
            Entry::Retain { ref message } => self.retain(message, &bytes),
            Entry::RetainClear { topic } => {
                let change = self.log_call(FREES, "clear").text(topic);
                change.text(bytes);
            }
            Entry::Route { node, filter, kind } => {
                let change = self.log_call(TAKES, "route").text(format!("{node}:{filter}"));
                change.number(kind as u64).text(bytes);
            }
            Entry::Unroute { node, filter } => {
                let change = self.log_call(FREES, "unroute").text(format!("{node}:{filter}"));
                change.text(bytes);
            }
            _ => {
                let frees = !matches!(entry, Entry::Subscribe { .. });
                self.log_call(frees, "log").text(bytes);
            }
        }
    }

    fn retain(&mut self, message: &Publication<'_>, entry: &[u8]) {
        let number = self.keep_message(message);
        let most = self.plan.context.limits.retained_messages;
        // The script puts the rest of the entry behind it, which is the message without its checksum.
        let head = &entry[..entry.len() + CHECKSUM - self.plan.messages[number].len()];
        let change = self.log_call(TAKES, "retain").text(message.topic);
        change.message(number).text(head).number(most);
    }

    fn dead(&mut self, node: Incarnation, counter: u64) {
        self.plan.needs_position = true;
        let mut entry = Vec::new();
        Entry::Dead(node).write(&mut entry);
        let change = self.log_call(FREES, "dead");
        change.number(node).number(counter).text(entry);
    }

    fn global(&mut self, name: &str, node: Incarnation) {
        self.log_call(FREES, name).number(node);
    }

    fn log_call(&mut self, frees: bool, name: &str) -> Change<'_> {
        let home = self.homes.entry(Home::Global).or_default();
        home.change(Touched::Home, frees, name.as_bytes())
    }

    fn bucket(&mut self, bucket: u8) -> &mut HomeCalls {
        self.homes.entry(Home::Bucket(bucket)).or_default()
    }

    fn of_bucket(&mut self, bucket: u8, name: &str, argument: &str) {
        let change = self.bucket(bucket).change(Touched::Home, FREES, name.as_bytes());
        change.text(argument);
    }

    fn of_session(&mut self, uid: Uid, frees: bool, name: &str, arguments: impl FnOnce(Change<'_>) -> Change<'_>) {
        let home = self.bucket(bucket_of_uid(uid));
        let change = home.change(Touched::Session(uid), frees, name.as_bytes());
        arguments(change.number(uid));
    }

    fn keep_message(&mut self, message: &Publication<'_>) -> usize {
        self.plan.messages.push(message_bytes(message));
        self.plan.messages.len() - 1
    }

    fn finish(self, calls_made: &[u64]) {
        let Planner { plan, firsts, homes } = self;
        let mut begun: BTreeMap<Home, u64> = BTreeMap::new();
        for (home, calls) in firsts {
            for mut call in calls.finish(home, calls_made[home.index()], &plan.messages) {
                call.is_first = true;
                begun.insert(home, call.number);
                plan.calls.push(call);
            }
        }
        for (home, calls) in homes {
            let made = begun.get(&home).copied().unwrap_or(calls_made[home.index()]);
            plan.calls.extend(calls.finish(home, made, &plan.messages));
        }
    }
}

const CHECKSUM: usize = 4;

/// Of a message that must have effect once: its identity, and whose job it is.
fn names(once: Option<Once>) -> (String, String) {
    once.map_or_else(Default::default, |once| (once.mid.to_string(), once.of.to_string()))
}

fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Live => "0",
        Lane::Replayed => "1",
    }
}
