//! Messages to the clients of a node.

use std::rc::Rc;

use super::Node;
use super::serve::Conn;
use crate::check::Event;
use crate::guard::Guard;
use crate::home::call::Queued;
use crate::home::{Answer, Call, Change};
use crate::ids::{Index, Message, Qos};
use crate::net::Down;
use crate::world::LEASE;

/// How many messages are in flight at once.
const WINDOW: usize = 3;

impl Node {
    /// Sends what is in the queue of a session, from its start: what is not finished is sent again.
    pub(super) async fn deliver(self: Rc<Self>, conn: Rc<Conn>) {
        let Some(uid) = conn.uid else { return };
        let mut from = 0;
        while !conn.is_closed.get() {
            let Answer::Queue(queue) = self.read(conn.home(), Call::Queue { uid, from }).await else {
                return;
            };
            let is_empty = queue.is_empty();
            for (index, queued) in queue {
                self.changed
                    .until(|| conn.is_closed.get() || conn.in_flight.borrow().len() < WINDOW)
                    .await;
                self.hold_until_alive().await;
                if conn.is_closed.get() {
                    return;
                }
                self.send_queued(&conn, index, &queued);
                from = index + 1;
            }
            if is_empty {
                self.world.poll().await;
            }
        }
    }

    fn send_queued(&self, conn: &Conn, index: Index, queued: &Queued) {
        conn.in_flight.borrow_mut().insert(index);
        let packet = match queued.released {
            true => Down::Pubrel(index),
            false => Down::Publish(index, queued.message),
        };
        self.reply(conn, packet);
        if !conn.is_closed.get() && conn.socket.is_open() {
            self.world.note(Event::Written { conn: conn.socket.id });
        }
    }

    /// While nobody can have declared this node dead.
    pub(super) async fn hold_until_alive(self: &Rc<Self>) {
        while self.has(Guard::LeaseBeforeSend)
            && self.world.has_clockwork.get()
            && self.world.now() >= self.last_beat.get() + LEASE
        {
            self.world.sleep(5).await;
        }
    }

    pub(super) fn on_finished(&self, conn: &Conn, index: Index) {
        conn.in_flight.borrow_mut().remove(&index);
        self.changed.all();
        if conn.uid.is_some() {
            drop(self.change(conn.cid, conn.token, Change::Done(index)));
        }
    }

    pub(super) fn on_pubrec(self: &Rc<Self>, conn: &Rc<Conn>, index: Index) {
        if conn.uid.is_none() {
            return self.reply(conn, Down::Pubrel(index));
        }
        let made = self.change(conn.cid, conn.token, Change::Released(index));
        if !self.has(Guard::PubrelAfterReleased) {
            return self.reply(conn, Down::Pubrel(index));
        }
        let (node, conn) = (Rc::clone(self), Rc::clone(conn));
        self.spawn(async move {
            if made.next().await {
                node.reply(&conn, Down::Pubrel(index));
            }
        });
    }

    /// To sessions of this node of which nothing is kept.
    pub(super) fn deliver_locally(&self, message: Message) {
        let conns = self.local.borrow().get(&message.topic).cloned().unwrap_or_default();
        conns.iter().for_each(|conn| self.send_volatile(conn, message));
    }

    pub(super) fn send_volatile(&self, conn: &Conn, message: Message) {
        let index = conn.last_volatile.get() + 1;
        conn.last_volatile.set(index);
        if message.qos == Qos::Two {
            conn.in_flight.borrow_mut().insert(index);
        }
        self.reply(conn, Down::Publish(index, message));
    }

    pub(super) async fn read_inbox(self: Rc<Self>) {
        loop {
            self.empty_inbox().await;
            self.world.poll().await;
        }
    }

    /// Delivers what is in the inbox now.
    pub(super) async fn empty_inbox(&self) {
        let above = self.inbox_read.get();
        if let Answer::Taken(messages) = self.read(self.inbox(), Call::Take { above }).await {
            for (at, message) in messages.into_iter().filter(|(at, _)| *at > self.inbox_read.get()) {
                self.inbox_read.set(at);
                self.deliver_locally(message);
            }
        }
    }
}
