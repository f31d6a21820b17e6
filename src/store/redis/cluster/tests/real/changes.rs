//! Calls of the simulation as changes of a batch.

use cluster_sim::home::{self, Answer, Call, Change, How, State, To};
use cluster_sim::ids::{Cid, Home as SimHome, Message, Uid as SimUid};

use super::super::differential::HOUR;
use super::super::testing::{Changes, For, subscription};
use super::{Real, bucket_of, filter_text, homes, message, mid, share_text, token, topic};
use crate::store::Uid;
use crate::store::cluster::{
    ClusterOp, Entry, How as RealHow, Incarnation, Mid, Once, Open, Publishing, RouteKind, Token, Will, inbox_of,
    new_uid,
};
use crate::store::op::{Lane, Op, SessionRecord};
use crate::wire::put_binary;

/// That of the simulation is shorter than this test may take.
const GRACE: u32 = (HOUR / 1000) as u32;

impl Real {
    pub(super) fn uid(&self, cid: Cid, uid: SimUid) -> Uid {
        new_uid(u64::from(uid.inc), uid.n, &self.clients[usize::from(cid)])
    }

    pub(super) fn changes(&self, home: SimHome, call: &Call, answer: &Answer, after: &State) -> Changes {
        let changes = Changes::default();
        match call {
            Call::Log(entries) => entries.iter().fold(changes, |changes, entry| self.log(changes, entry)),
            Call::Retain(messages) => messages.iter().fold(changes, |changes, (message, once)| match once {
                None => self.log(changes, &home::Entry::Retain(*message)),
                Some((id, of)) => retain_once(changes, message, mid(*id), u64::from(*of)),
            }),
            Call::Forget(job) if home == SimHome::Global => {
                changes.cluster(ClusterOp::ForgetRetained { mid: mid(*job) })
            }
            Call::Dead { inc, counter, lost } => changes.cluster(ClusterOp::Dead {
                node: u64::from(*inc),
                counter: *counter,
                lost: homes(lost),
            }),
            Call::Retire(inc) => changes.cluster(ClusterOp::Retire { node: u64::from(*inc) }),
            Call::TakeOver(inc) => changes.cluster(ClusterOp::TakeOver { node: u64::from(*inc) }),
            Call::Recovered(inc) => changes.cluster(ClusterOp::Recovered { node: u64::from(*inc) }),
            Call::Append(items) => items.iter().fold(changes, |changes, item| self.append(changes, item)),
            call => match after {
                State::Bucket(bucket) => self.of_bucket(bucket_of(home), call, answer, bucket),
                State::Global(_) => unreachable!("{call:?}"),
            },
        }
    }

    fn of_bucket(&self, bucket: u8, call: &Call, answer: &Answer, after: &home::Bucket) -> Changes {
        let changes = Changes::default();
        let client = |cid: &Cid| &*self.clients[usize::from(*cid)];
        match call {
            Call::Claim { cid, token: by } => changes.claim(client(cid), token(*by)),
            Call::Open(open) => self.open(open, answer),
            Call::Changes(all) => all.iter().fold(changes, |changes, (cid, by, change)| {
                self.change(changes, (*cid, token(*by)), change, after)
            }),
            Call::Begin { cid, pid, mid: job, .. } => changes.cluster(ClusterOp::Begin {
                uid: self.session_of(*cid, after),
                packet_id: *pid,
                mid: mid(*job),
            }),
            Call::Release {
                cid,
                token: by,
                how,
                mid: job,
            } => changes.cluster(ClusterOp::Release {
                client_id: client(cid),
                token: token(*by),
                how: match how {
                    How::Clean => RealHow::Clean,
                    How::Lost => RealHow::Lost,
                    How::Left => RealHow::Left { grace: GRACE },
                },
                expiry_interval: self.expiry(*cid, after),
                mid: mid(*job),
            }),
            Call::Free {
                of,
                cid,
                mid: job,
                is_older,
                ends,
            } => changes.cluster(ClusterOp::Free {
                node: u64::from(*of),
                client_id: client(cid),
                mid: mid(*job),
                how: if *is_older {
                    RealHow::Left { grace: GRACE }
                } else {
                    RealHow::Lost
                },
                ends: *ends,
            }),
            Call::EndSession {
                cid,
                mid: job,
                generation,
            } => changes.cluster(ClusterOp::EndSession {
                client_id: client(cid),
                generation: u64::from(*generation),
                grace: GRACE,
                mid: mid(*job),
            }),
            Call::Sweep { mids } => changes.cluster(ClusterOp::Sweep {
                bucket,
                first: mid(mids[0]),
                most: mids.len() as u32,
            }),
            Call::Fence(inc) => changes.cluster(ClusterOp::Fence {
                bucket,
                node: u64::from(*inc),
            }),
            Call::Finish(job) => changes.cluster(ClusterOp::Finish { bucket, mid: mid(*job) }),
            Call::Forget(job) => changes.cluster(ClusterOp::Forget { bucket, mid: mid(*job) }),
            Call::ForgetOf(inc) => changes.cluster(ClusterOp::ForgetOf {
                bucket,
                node: u64::from(*inc),
            }),
            call => unreachable!("{call:?}"),
        }
    }

    /// The session of a client; one that is not there if it has none.
    fn session_of(&self, cid: Cid, bucket: &home::Bucket) -> Uid {
        let uid = bucket.clients.get(&cid).and_then(|client| client.uid);
        self.uid(cid, uid.unwrap_or(SimUid { inc: 9, n: 9 }))
    }

    fn expiry(&self, cid: Cid, bucket: &home::Bucket) -> u32 {
        let uid = bucket.clients.get(&cid).and_then(|client| client.uid);
        let session = uid.and_then(|uid| bucket.sessions.get(&uid));
        session.map_or(0, |session| (session.expiry / 1000) as u32)
    }

    fn open(&self, open: &home::call::Open, answer: &Answer) -> Changes {
        let client_id = &*self.clients[usize::from(open.cid)];
        let expiry_interval = (open.expiry / 1000) as u32;
        let payload = open.will.map(|will| will.message.id.to_string()).unwrap_or_default();
        let topic = open.will.map(|will| topic(will.message.topic)).unwrap_or_default();
        let mut client = Vec::new();
        put_binary(&mut client, client_id.as_bytes());
        let changes = Changes::default().cluster(ClusterOp::Open(Open {
            client_id,
            token: token(open.token),
            clean: open.clean,
            uid: open.uid.map_or(0, |uid| self.uid(open.cid, uid)),
            expiry_interval,
            mid: mid(open.mid),
            will: open.will.map(|will| Will {
                delay_interval: (will.delay / 1000) as u32,
                expires_in: None,
                message: message(&will.message, &topic, &payload),
                client: &client,
            }),
        }));
        let Answer::Opened { uid: Some(uid), .. } = answer else {
            return changes;
        };
        // As the broker does: a session that goes on keeps its record.
        changes.op(&Op::Session(SessionRecord {
            uid: self.uid(open.cid, *uid),
            client_id,
            expiry_interval,
            window: 1,
            away_since: None,
            unsent: 0,
        }))
    }

    fn change(&self, changes: Changes, (cid, by): (Cid, Token), change: &Change, bucket: &home::Bucket) -> Changes {
        let uid = self.session_of(cid, bucket);
        let lane = Lane::Live;
        match change {
            Change::Subscribe(to, made) => {
                let filter = filter_text(*to);
                let subscription = subscription(&filter);
                let lend = made.map(|made| ClusterOp::Lend {
                    client_id: &self.clients[usize::from(cid)],
                    token: by,
                    uid: self.uid(cid, made),
                });
                let changes = lend.into_iter().fold(changes, Changes::cluster);
                changes.op(&Op::Subscribe { uid, subscription })
            }
            Change::Unsubscribe(from) => changes.op(&Op::Unsubscribe {
                uid,
                filter: &filter_text(*from),
            }),
            Change::Received(packet_id, received) => changes.cluster(ClusterOp::Received {
                uid,
                packet_id: *packet_id,
                message: message(received, &topic(received.topic), &received.id.to_string()),
            }),
            Change::Released(index) => changes.op(&Op::Released {
                uid,
                lane,
                index: *index,
            }),
            Change::Done(index) => changes.op(&Op::Done {
                uid,
                lane,
                index: *index,
            }),
        }
    }

    fn append(&self, changes: Changes, item: &home::Append) -> Changes {
        let to = match item.target.to {
            To::Session(cid, uid) => self.uid(cid, uid),
            To::Inbox(inc) => inbox_of(u64::from(inc)),
        };
        let once = item.once.map(|(id, of)| Once {
            mid: mid(id),
            of: u64::from(of),
            bucket: 0,
        });
        let (topic, payload) = (topic(item.message.topic), item.message.id.to_string());
        let share = item.target.group.map(share_text);
        let publishing = Publishing {
            once,
            ..Publishing::default()
        };
        changes.publish_as(
            &message(&item.message, &topic, &payload),
            &publishing,
            &[For(to, share.as_deref())],
        )
    }

    fn log(&self, changes: Changes, entry: &home::Entry) -> Changes {
        match entry {
            home::Entry::Sub(cid, uid, to) => changes.log(Entry::Subscribe {
                uid: self.uid(*cid, *uid),
                client_id: &self.clients[usize::from(*cid)],
                subscription: subscription(&filter_text(*to)),
            }),
            home::Entry::Unsub(uid, from) => changes.log(Entry::Unsubscribe {
                uid: self.uid(0, *uid),
                filter: &filter_text(*from),
            }),
            home::Entry::End(uid) => changes.log(Entry::End { uid: self.uid(0, *uid) }),
            home::Entry::Route(inc, to) => changes.log(Entry::Route {
                node: u64::from(*inc),
                filter: &topic(*to),
                kind: RouteKind::All,
            }),
            home::Entry::Unroute(inc, from) => changes.log(Entry::Unroute {
                node: u64::from(*inc),
                filter: &topic(*from),
            }),
            home::Entry::Retain(retained) => changes.log(Entry::Retain {
                message: message(retained, &topic(retained.topic), &retained.id.to_string()),
            }),
            home::Entry::Join(_) | home::Entry::Dead(_) => unreachable!("others log that"),
        }
    }
}

fn retain_once(changes: Changes, retained: &Message, mid: Mid, of: Incarnation) -> Changes {
    let (topic, payload) = (topic(retained.topic), retained.id.to_string());
    let message = message(retained, &topic, &payload);
    let entry = Entry::Retain { message };
    changes.cluster(ClusterOp::RetainOnce { mid, of, entry })
}
