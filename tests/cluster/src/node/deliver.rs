//! Messages to the clients of a node.

use std::cell::Cell;
use std::rc::Rc;

use super::Node;
use super::serve::Conn;
use crate::check::Event;
use crate::guard::Guard;
use crate::home::call::Queued;
use crate::home::{Answer, Call, Change, Hint};
use crate::ids::{Index, Message, Qos, Time};
use crate::net::Down;
use crate::world::LEASE;

/// How many messages are in flight at once.
const WINDOW: usize = 3;

/// How many hints wait; what is more is lost.
const HINTS: usize = 4;

/// How long a queue is not looked at if no hint comes.
const LOOK: Time = LEASE;

impl Node {
    /// Sends what is in the queue of a session, from its start: what is not finished is sent again. What comes later is told
    /// by answers and hints, of which any may be missing; the queue is what counts.
    pub(super) async fn deliver(self: Rc<Self>, conn: Rc<Conn>) {
        let Some(uid) = conn.queue() else { return };
        let mut next = 0;
        while !conn.is_closed.get() {
            let Answer::Queue(queue, end) = self.read(conn.home(), Call::Queue { uid, from: next }).await else {
                return;
            };
            if end < next {
                return self.misses(conn.home());
            }
            for (at, queued) in queue {
                self.send_when_it_may(&conn, at, &queued).await;
            }
            next = end;
            while let Some((at, queued)) = self.next_hint(&conn, next).await {
                self.send_when_it_may(&conn, at, &queued).await;
                next = at + 1;
            }
        }
    }

    /// The message that is next. Nothing if the queue must be read: something is missing, or it is time to look.
    async fn next_hint(self: &Rc<Self>, conn: &Rc<Conn>, next: Index) -> Option<(Index, Queued)> {
        loop {
            let hint = conn.hints.borrow_mut().pop_front();
            match hint {
                Some((at, queued)) if at == next || !self.has(Guard::NextPlace) => return Some((at, queued)),
                Some((at, _)) if at < next => {}
                Some(_) => return None,
                None if self.is_time_to_look(conn).await => return None,
                None => {}
            }
        }
    }

    /// Until there is a hint. Hints are lost, and it is time to look if none has come for long.
    async fn is_time_to_look(self: &Rc<Self>, conn: &Rc<Conn>) -> bool {
        let is_late = Rc::new(Cell::new(false));
        if self.has(Guard::LookAgain) {
            let (node, is_late) = (Rc::clone(self), Rc::clone(&is_late));
            self.spawn(async move {
                node.world.sleep(LOOK).await;
                is_late.set(true);
                node.changed.all();
            });
        }
        let has_news = || is_late.get() || conn.is_closed.get() || !conn.hints.borrow().is_empty();
        self.changed.until(has_news).await;
        is_late.get() || conn.is_closed.get()
    }

    /// The owner of a queue learns of a message in it.
    pub fn on_hint(&self, hint: Hint) {
        let conns = self.conns.borrow();
        let is_it = |conn: &&Rc<Conn>| match self.has(Guard::HintUid) {
            true => conn.queue() == Some(hint.uid),
            false => conn.cid == hint.cid,
        };
        for conn in conns.iter().filter(is_it) {
            let mut hints = conn.hints.borrow_mut();
            if hints.len() < HINTS {
                hints.push_back((hint.at, hint.queued.clone()));
            }
        }
        self.changed.all();
    }

    async fn send_when_it_may(self: &Rc<Self>, conn: &Rc<Conn>, at: Index, queued: &Queued) {
        self.changed
            .until(|| conn.is_closed.get() || conn.in_flight.borrow().len() < WINDOW)
            .await;
        self.hold_until_alive().await;
        if !conn.is_closed.get() {
            self.send_queued(conn, at, queued);
        }
    }

    fn send_queued(&self, conn: &Conn, index: Index, queued: &Queued) {
        conn.sent.borrow_mut().insert(index, (queued.message, queued.group));
        let index = match conn.uid {
            Some(_) => index,
            None => self.send_as(conn, index),
        };
        conn.in_flight.borrow_mut().insert(index);
        let packet = match queued.released {
            true => Down::Pubrel(index),
            false => Down::Publish(index, queued.message, queued.group),
        };
        self.reply(conn, packet);
        if !conn.is_closed.get() && conn.socket.is_open() {
            self.world.note(Event::Written { conn: conn.socket.id });
        }
    }

    /// A session that is not kept shares its identifiers with what is sent directly.
    fn send_as(&self, conn: &Conn, index: Index) -> Index {
        let sent_as = conn.last_volatile.get() + 1;
        conn.last_volatile.set(sent_as);
        conn.sent_as.borrow_mut().insert(sent_as, index);
        sent_as
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

    pub(super) fn on_finished(&self, conn: &Rc<Conn>, index: Index) {
        conn.in_flight.borrow_mut().remove(&index);
        self.changed.all();
        let index = match conn.uid {
            Some(_) => Some(index),
            None => conn.sent_as.borrow_mut().remove(&index),
        };
        if let Some(index) = index {
            let done = self.change(conn.cid, conn.token, Change::Done(index));
            let conn = Rc::clone(conn);
            self.spawn(async move {
                done.next().await;
                conn.sent.borrow_mut().remove(&index);
            });
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
        self.reply(conn, Down::Publish(index, message, None));
    }

    pub(super) async fn read_inbox(self: Rc<Self>) {
        loop {
            self.empty_inbox().await;
            self.world.poll().await;
        }
    }

    /// Delivers what is in the inbox now.
    pub(super) async fn empty_inbox(&self) {
        // One after the other: what one has read is gone for one that was sent before it and comes later.
        self.changed.until(|| !self.reads_inbox.get()).await;
        self.reads_inbox.set(true);
        self.take_from_inbox().await;
        self.reads_inbox.set(false);
        self.changed.all();
    }

    async fn take_from_inbox(&self) {
        let (above, last) = (self.inbox_read.get(), *self.inbox_last.borrow());
        let Answer::Taken(messages) = self.read(self.inbox(), Call::Take { above }).await else {
            return;
        };
        let is_same = last.is_none() || messages.first().copied() == last;
        if !is_same && !self.is_leaving() {
            return self.misses(self.inbox());
        }
        for (at, message) in messages.into_iter().filter(|(at, _)| *at > self.inbox_read.get()) {
            self.inbox_read.set(at);
            *self.inbox_last.borrow_mut() = Some((at, message));
            self.deliver_locally(message);
        }
    }
}
