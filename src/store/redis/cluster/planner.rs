//! From changes to calls: which script of which home does what. What messages come to is in [`publishing`](super::publishing).

use std::collections::BTreeMap;

use super::call::Expected;
use super::calls::{Change, GroupOf, HomeCalls, Touched};
use super::plan::Plan;
use super::publishing::Encoded;
use super::rematch::Additions;
use crate::message::Publication;
use crate::store::cluster::{
    ClusterOp, Entry, Homes, How, Incarnation, Mid, Open, Token, bucket_of_client, bucket_of_inbox, bucket_of_uid,
};
use crate::store::op::{Lane, SessionRecord};
use crate::store::redis::entry::{
    cursor_bytes, job_head, message_bytes, no_terms, record_sums, replayed_terms, subscription_bytes, will_bytes,
};
use crate::store::redis::keys::Home;
use crate::store::{Op, StoreError, Uid};
use crate::time::Millis;

/// Adds calls to a plan.
pub(super) struct Planner<'p> {
    pub(super) plan: &'p mut Plan,
    /// What must be done before the rest.
    firsts: BTreeMap<Home, HomeCalls>,
    pub(super) homes: BTreeMap<Home, HomeCalls>,
    pub(super) encoded: Encoded,
}

/// Whether a change needs no memory, or only to free more.
pub(super) const FREES: bool = true;
pub(super) const TAKES: bool = false;

impl<'p> Planner<'p> {
    pub(super) fn new(plan: &'p mut Plan) -> Planner<'p> {
        Planner {
            plan,
            firsts: BTreeMap::new(),
            homes: BTreeMap::new(),
            encoded: Encoded::default(),
        }
    }

    pub(super) fn add(&mut self, op: Op<'_>, additions: &Additions) -> Result<(), StoreError> {
        match op {
            Op::Cluster(op) => self.cluster(op, additions),
            Op::Session(record) => self.session(&record),
            Op::SessionEnd { uid } => self.session_end(uid),
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
                    let change = change.number(index).text(replayed_terms(message, before, terms));
                    change.message(number).text(filter).text(cursor_bytes(message.topic))
                });
            }
            Op::ReplayEnd { uid, filter } => self.of_session(uid, FREES, "x", |change| change.text(filter)),
            Op::Released { uid, lane, index } => self.of_session(uid, FREES, "r", |change| {
                change.text(lane_name(lane)).number(index).text(no_terms(lane))
            }),
            Op::Done { uid, lane, index } => self.done(uid, lane, index),
            Op::ReceivedEnd { uid, packet_id } => {
                self.of_session(uid, FREES, "o", |change| change.number(u64::from(packet_id)));
            }
            Op::Retain { message } => self.log(&Entry::Retain { message }, None),
            Op::RetainClear { topic } => self.log(&Entry::RetainClear { topic }, None),
            Op::Message { .. } | Op::Floor { .. } | Op::Received { .. } | Op::Will { .. } | Op::WillEnd { .. } => {
                return Err(StoreError::Refused(format!(
                    "there is no change of this kind in a cluster: {op:?}"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn cluster(&mut self, op: ClusterOp<'_>, additions: &Additions) {
        match op {
            ClusterOp::Publish {
                message,
                publishing,
                recipients,
            } => self.publish(message, &publishing, &recipients, additions),
            ClusterOp::Claim { client_id, token } => self.claim(client_id, token),
            ClusterOp::Open(open) => self.open(b"open", &open),
            ClusterOp::OpenEarly(open) => self.open(b"open-early", &open),
            ClusterOp::Release {
                client_id,
                token,
                how,
                expiry_interval,
                mid,
            } => self.release((client_id, token), how, expiry_interval, mid),
            ClusterOp::Lend { client_id, token, uid } => self.lend(client_id, token, uid),
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
                let home = self.first(bucket_of_uid(uid));
                let change = home.change(Touched::Session(uid), FREES, b"b").number(uid);
                change.number(u64::from(packet_id)).text(mid.to_string()).text(head);
            }
            ClusterOp::FinishRest { uid, mid } => {
                self.of_session(uid, FREES, "finish-rest", |change| change.text(mid.to_string()));
            }
            ClusterOp::Finish { bucket, mid } => self.of_bucket(bucket, "finish", &mid.to_string()),
            ClusterOp::Forget { bucket, mid } => self.of_bucket(bucket, "forget", &mid.to_string()),
            ClusterOp::Fence { bucket, node } => self.of_bucket(bucket, "fence", &node.to_string()),
            ClusterOp::ForgetOf { bucket, node } => self.of_bucket(bucket, "forget-of", &node.to_string()),
            ClusterOp::Destroy { node } => self.of_bucket(bucket_of_inbox(node), "destroy", &node.to_string()),
            ClusterOp::Free {
                node,
                client_id,
                mid,
                how,
                ends,
            } => self.free(node, client_id, (how, ends), mid),
            ClusterOp::EndSession {
                client_id,
                generation,
                grace,
                mid,
            } => self.end_session(client_id, generation, grace, mid),
            ClusterOp::Sweep { bucket, first, most } => self.sweep(bucket, first, most),
            ClusterOp::Log(entry) => self.log(&entry, None),
            ClusterOp::RetainOnce { mid, of, entry } => self.log(&entry, Some((mid, of))),
            ClusterOp::ForgetRetained { mid } => {
                self.log_call(FREES, "forget").text(mid.to_string());
            }
            ClusterOp::Dead { node, counter, lost } => self.dead(node, counter, lost),
            ClusterOp::Retire { node } => self.retire(node),
            ClusterOp::TakeOver { node } => self.global("take-over", node),
            ClusterOp::Recovered { node } => self.global("recovered", node),
            ClusterOp::Expire { topic, at } => self.expire(topic, at),
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
        let (home, of) = (self.bucket(bucket_of_uid(uid)), GroupOf::Done(uid, lane as u8));
        home.place(
            touched,
            of,
            |change| change.text("d").number(uid).text(lane_name(lane)),
            index,
        );
    }

    fn session_end(&mut self, uid: Uid) {
        let (bucket, first) = (bucket_of_uid(uid), self.plan.new_mid());
        let home = self.bucket(bucket);
        let change = home.change(Touched::Session(uid), FREES, b"e").number(uid);
        change.text(first.to_string()).expect(Expected::Left {
            bucket,
            first,
            most: 1,
            is_own: true,
        });
    }

    fn claim(&mut self, client_id: &str, token: Token) {
        let home = self.bucket(bucket_of_client(client_id));
        let change = home.change(Touched::Client(client_id), TAKES, b"claim");
        change.text(client_id).text(token.to_string());
    }

    fn open(&mut self, name: &[u8], open: &Open<'_>) {
        let fields = [u64::from(open.expiry_interval), 0, 0, 0];
        let (client_sum, sum) = record_sums(open.client_id.as_bytes(), fields);
        let will = open.will.map_or_else(Vec::new, |will| {
            will_bytes(will.delay_interval, will.expires_in, &will.message, will.client)
        });
        let home = self.bucket(bucket_of_client(open.client_id));
        let change = home.change(Touched::Client(open.client_id), TAKES, name);
        let change = change.text(open.client_id).text(open.token.to_string());
        let change = change.number(u64::from(open.clean)).number(open.uid).text(will);
        let change = change
            .text(open.mid.to_string())
            .text(job_head(open.token.incarnation, None));
        let change = change.number(fields[0]).text(sum).text(client_sum);
        change.expect(left(open.client_id, open.mid));
    }

    fn lend(&mut self, client_id: &str, token: Token, uid: Uid) {
        let (client_sum, sum) = record_sums(client_id.as_bytes(), [0; 4]);
        let home = self.bucket(bucket_of_client(client_id));
        let change = home.change(Touched::Client(client_id), TAKES, b"lend");
        let change = change.text(client_id).text(token.to_string()).number(uid);
        change.text(sum).text(client_sum);
    }

    fn release(&mut self, (client_id, token): (&str, Token), how: How, expiry_interval: u32, mid: Mid) {
        let home = self.bucket(bucket_of_client(client_id));
        let change = home.change(Touched::Client(client_id), FREES, b"release");
        let change = change.text(client_id).text(token.to_string());
        let change = change.number(u64::from(how != How::Clean)).number(grace(how));
        let change = change.number(u64::from(expiry_interval));
        let change = change.text(mid.to_string()).text(job_head(token.incarnation, None));
        change.expect(left(client_id, mid));
    }

    fn free(&mut self, node: Incarnation, client_id: &str, (how, ends): (How, bool), mid: Mid) {
        let home = self.bucket(bucket_of_client(client_id));
        let change = home.change(Touched::Client(client_id), FREES, b"free");
        let change = change.number(node).text(client_id);
        let change = change.number(grace(how)).number(u64::from(ends));
        let change = change.text(mid.to_string()).text(job_head(node, None));
        // What is left to do is of that node.
        change.expect(Expected::Left {
            bucket: bucket_of_client(client_id),
            first: mid,
            most: 1,
            is_own: false,
        });
    }

    fn end_session(&mut self, client_id: &str, generation: Incarnation, grace: u32, mid: Mid) {
        let head = job_head(self.plan.context.incarnation, None);
        let home = self.bucket(bucket_of_client(client_id));
        let change = home.change(Touched::Client(client_id), FREES, b"end-session");
        let change = change.text(client_id).number(generation).number(u64::from(grace));
        change.text(mid.to_string()).text(head).expect(left(client_id, mid));
    }

    fn sweep(&mut self, bucket: u8, first: Mid, most: u32) {
        let head = job_head(self.plan.context.incarnation, None);
        let change = self.bucket(bucket).change(Touched::Home, FREES, b"sweep");
        let change = change.number(first.incarnation).number(first.number);
        change.number(u64::from(most)).text(head).expect(Expected::Left {
            bucket,
            first,
            most,
            is_own: true,
        });
    }

    /// A retained message of a job has its identity, and whose job it is.
    fn log(&mut self, entry: &Entry<'_>, once: Option<(Mid, Incarnation)>) {
        self.plan.needs_position = true;
        self.plan.log_tells |= matches!(
            entry,
            Entry::Subscribe { .. } | Entry::Unsubscribe { .. } | Entry::End { .. }
        );
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        match *entry {
            Entry::Retain { ref message } => self.retain(message, &bytes, once),
            Entry::RetainClear { topic } => {
                let change = self.of_topic(FREES, ("clear", "clear-once"), once).text(topic);
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

    fn retain(&mut self, message: &Publication<'_>, entry: &[u8], once: Option<(Mid, Incarnation)>) {
        let number = self.keep_message(message);
        let most = self.plan.context.limits.retained_messages;
        // The script puts the rest of the entry behind it, which is the message without its checksum.
        let head = &entry[..entry.len() + CHECKSUM - self.plan.messages[number].len()];
        let change = self
            .of_topic(TAKES, ("retain", "retain-once"), once)
            .text(message.topic);
        change.message(number).text(head).number(most);
    }

    fn of_topic(
        &mut self,
        frees: bool,
        (name, once_name): (&str, &str),
        once: Option<(Mid, Incarnation)>,
    ) -> Change<'_> {
        match once {
            None => self.log_call(frees, name),
            // It is noted that it was.
            Some((mid, of)) => self.log_call(TAKES, once_name).text(mid.to_string()).number(of),
        }
    }

    fn expire(&mut self, topic: &str, at: Millis) {
        self.plan.needs_position = true;
        let mut entry = Vec::new();
        Entry::RetainClear { topic }.write(&mut entry);
        let change = self.log_call(FREES, "expire").text(topic);
        change.text(at.as_unix().to_be_bytes()).text(entry);
    }

    fn dead(&mut self, node: Incarnation, counter: u64, lost: Homes) {
        self.plan.needs_position = true;
        let change = self.log_call(FREES, "dead").number(node).number(counter);
        let change = change.text(dead_entry(node)).number(lost.len() as u64);
        let lost = Home::all().filter(|home| home.is_in(lost));
        lost.fold(change, |change, home| change.text(home.name()));
    }

    fn retire(&mut self, node: Incarnation) {
        self.plan.needs_position = true;
        self.log_call(FREES, "retire").number(node).text(dead_entry(node));
    }

    fn global(&mut self, name: &str, node: Incarnation) {
        self.log_call(FREES, name).number(node);
    }

    fn log_call(&mut self, frees: bool, name: &str) -> Change<'_> {
        let home = self.homes.entry(Home::Global).or_default();
        home.change(Touched::Home, frees, name.as_bytes())
    }

    pub(super) fn first(&mut self, bucket: u8) -> &mut HomeCalls {
        self.firsts.entry(Home::Bucket(bucket)).or_default()
    }

    pub(super) fn bucket(&mut self, bucket: u8) -> &mut HomeCalls {
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

    pub(super) fn keep_message(&mut self, message: &Publication<'_>) -> usize {
        self.plan.messages.push(message_bytes(message));
        self.plan.messages.len() - 1
    }

    pub(super) fn finish(self, calls_made: &[u64]) {
        let Planner {
            plan, firsts, homes, ..
        } = self;
        let mut begun: BTreeMap<Home, u64> = BTreeMap::new();
        for (home, calls) in firsts {
            for mut call in calls.finish(home, calls_made[home.index()]) {
                call.is_first = true;
                begun.insert(home, call.number);
                plan.calls.push(call);
            }
        }
        for (home, calls) in homes {
            let made = begun.get(&home).copied().unwrap_or(calls_made[home.index()]);
            plan.calls.extend(calls.finish(home, made));
        }
    }
}

const CHECKSUM: usize = 4;

fn dead_entry(node: Incarnation) -> Vec<u8> {
    let mut entry = Vec::new();
    Entry::Dead(node).write(&mut entry);
    entry
}

/// In seconds; 0 if the node does not leave.
fn grace(how: How) -> u64 {
    match how {
        How::Left { grace } => u64::from(grace),
        How::Clean | How::Lost => 0,
    }
}

/// What a change of this client leaves to do.
fn left(client_id: &str, mid: Mid) -> Expected {
    Expected::Left {
        bucket: bucket_of_client(client_id),
        first: mid,
        most: 1,
        is_own: true,
    }
}

fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Live => "0",
        Lane::Replayed => "1",
    }
}
