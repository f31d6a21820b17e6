//! SUBSCRIBE and UNSUBSCRIBE.

use std::rc::Rc;

use super::Node;
use super::serve::Conn;
use crate::check::Event;
use crate::guard::Guard;
use crate::home::{Answer, Append, Call, Change, Entry, To, hint_of};
use crate::ids::{Filter, Home, Topic, Uid};
use crate::net::Down;

impl Node {
    pub(super) fn on_subscribe(self: &Rc<Self>, conn: &Rc<Conn>, filter: Filter) {
        let (node, conn) = (Rc::clone(self), Rc::clone(conn));
        self.work_begun(&conn);
        self.spawn(async move {
            if node.subscribe(&conn, filter).await && !conn.is_closed.get() {
                node.world.note(Event::Suback {
                    cid: conn.cid,
                    conn: conn.socket.id,
                    filter,
                });
                node.reply(&conn, Down::Suback(filter));
            }
            node.work_done(&conn);
        });
    }

    /// Record, log, mirror, retained message.
    async fn subscribe(self: &Rc<Self>, conn: &Rc<Conn>, filter: Filter) -> bool {
        let queue = match filter.group {
            Some(_) => Some(self.queue_for_groups(conn)),
            None => conn.uid,
        };
        let entry = match queue {
            Some(uid) => {
                let change = Change::Subscribe(filter, conn.uid.is_none().then_some(uid));
                let made = self.change(conn.cid, conn.token, change);
                if self.has(Guard::SubackAfterRecord) && !made.next().await {
                    return false;
                }
                Entry::Sub(conn.cid, uid, filter)
            }
            None if conn.is_closed.get() => return false,
            None => {
                let mut local = self.local.borrow_mut();
                conn.topics.borrow_mut().insert(filter.topic);
                local.entry(filter.topic).or_default().push(Rc::clone(conn));
                Entry::Route(self.inc.get(), filter.topic)
            }
        };
        if self.has(Guard::SubackAfterLog) {
            self.log_and_apply(entry).await;
        } else {
            let node = Rc::clone(self);
            self.spawn(async move { node.log_and_apply(entry).await });
        }
        filter.group.is_some() || self.replay(conn, filter.topic).await
    }

    /// A client of which nothing is kept has one from its first group on.
    fn queue_for_groups(self: &Rc<Self>, conn: &Rc<Conn>) -> Uid {
        if let Some(uid) = conn.queue() {
            return uid;
        }
        let uid = self.new_uid();
        conn.shared.set(Some(uid));
        self.spawn(Rc::clone(self).deliver(Rc::clone(conn)));
        uid
    }

    async fn log_and_apply(self: &Rc<Self>, entry: Entry) {
        let position = match self.call(Home::Global, Call::Log(vec![entry])).await {
            Answer::Position { position, .. } => position,
            _ => match self.read(Home::Global, Call::Position).await {
                Answer::Position { position, .. } => position,
                _ => return,
            },
        };
        if self.has(Guard::OwnMirror) {
            self.changed.until(|| self.mirror.borrow().position >= position).await;
        }
    }

    async fn replay(self: &Rc<Self>, conn: &Rc<Conn>, topic: Topic) -> bool {
        let Some(message) = self.mirror.borrow().retained.get(&topic).copied() else {
            return true;
        };
        let Some(uid) = conn.uid else {
            self.send_volatile(conn, message);
            return true;
        };
        let append = Append {
            target: To::Session(conn.cid, uid).into(),
            message,
            once: None,
        };
        let target = append.target;
        if let Answer::Appended(puts) = self.call(conn.home(), Call::Append(vec![append])).await {
            let hint = puts.first().and_then(|put| hint_of(target, message, *put));
            hint.into_iter().for_each(|hint| self.on_hint(hint));
        }
        true
    }

    pub(super) fn on_unsubscribe(self: &Rc<Self>, conn: &Rc<Conn>, filter: Filter) {
        let (node, conn) = (Rc::clone(self), Rc::clone(conn));
        let Some(uid) = conn.queue() else { return };
        if self.has(Guard::LogBeforeRelease) {
            self.work_begun(&conn);
        }
        self.spawn(async move {
            if node
                .change(conn.cid, conn.token, Change::Unsubscribe(filter))
                .next()
                .await
            {
                node.log_and_apply(Entry::Unsub(uid, filter)).await;
                node.reply(&conn, Down::Unsuback(filter));
            }
            if node.has(Guard::LogBeforeRelease) {
                node.work_done(&conn);
            }
        });
    }

    /// Its subscriptions end with a session of which nothing is kept.
    pub(super) fn drop_local(&self, conn: &Rc<Conn>) {
        for topic in conn.topics.take() {
            let mut local = self.local.borrow_mut();
            let conns = local.entry(topic).or_default();
            conns.retain(|other| !Rc::ptr_eq(other, conn));
            if conns.is_empty() {
                local.remove(&topic);
                drop(self.post(Home::Global, Call::Log(vec![Entry::Unroute(self.inc.get(), topic)])));
            }
        }
    }
}
