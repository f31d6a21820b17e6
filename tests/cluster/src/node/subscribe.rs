//! SUBSCRIBE and UNSUBSCRIBE.

use std::rc::Rc;

use super::Node;
use super::serve::Conn;
use crate::check::Event;
use crate::guard::Guard;
use crate::home::{Answer, Append, Call, Change, Entry, To};
use crate::ids::{Home, Topic};
use crate::net::Down;

impl Node {
    pub(super) fn on_subscribe(self: &Rc<Self>, conn: &Rc<Conn>, topic: Topic) {
        let (node, conn) = (Rc::clone(self), Rc::clone(conn));
        self.work_begun(&conn);
        self.spawn(async move {
            if node.subscribe(&conn, topic).await && !conn.is_closed.get() {
                node.world.note(Event::Suback {
                    cid: conn.cid,
                    conn: conn.socket.id,
                    topic,
                });
                node.reply(&conn, Down::Suback(topic));
            }
            node.work_done(&conn);
        });
    }

    /// Record, log, mirror, retained message.
    async fn subscribe(self: &Rc<Self>, conn: &Rc<Conn>, topic: Topic) -> bool {
        let entry = match conn.uid {
            Some(uid) => {
                let change = Change::Subscribe(topic);
                let made = self.change(conn.cid, conn.token, change);
                if self.has(Guard::SubackAfterRecord) && !made.next().await {
                    return false;
                }
                Entry::Sub(conn.cid, uid, topic)
            }
            None if conn.is_closed.get() => return false,
            None => {
                let mut local = self.local.borrow_mut();
                conn.topics.borrow_mut().insert(topic);
                local.entry(topic).or_default().push(Rc::clone(conn));
                Entry::Route(self.inc.get(), topic)
            }
        };
        if self.has(Guard::SubackAfterLog) {
            self.log_and_apply(entry).await;
        } else {
            let node = Rc::clone(self);
            self.spawn(async move { node.log_and_apply(entry).await });
        }
        self.replay(conn, topic).await
    }

    async fn log_and_apply(self: &Rc<Self>, entry: Entry) {
        let position = match self.call(Home::Global, Call::Log(vec![entry])).await {
            Answer::Position { position } => position,
            _ => match self.read(Home::Global, Call::Position).await {
                Answer::Position { position } => position,
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
            to: To::Session(conn.cid, uid),
            message,
            once: None,
        };
        self.call(conn.home(), Call::Append(vec![append])).await != Answer::NotOwner
    }

    pub(super) fn on_unsubscribe(self: &Rc<Self>, conn: &Rc<Conn>, topic: Topic) {
        let (node, conn) = (Rc::clone(self), Rc::clone(conn));
        let Some(uid) = conn.uid else { return };
        if self.has(Guard::LogBeforeRelease) {
            self.work_begun(&conn);
        }
        self.spawn(async move {
            if node
                .change(conn.cid, conn.token, Change::Unsubscribe(topic))
                .next()
                .await
            {
                node.log_and_apply(Entry::Unsub(uid, topic)).await;
                node.reply(&conn, Down::Unsuback(topic));
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
