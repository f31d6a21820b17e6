//! A client on a node: how its connection gets the session, what it does, and how it ends.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::Node;
use super::witness::Sent;
use crate::check::Event;
use crate::exec::Mailbox;
use crate::guard::Guard;
use crate::home::call::{Open, Queued};
use crate::home::{Answer, Call, Change, Entry, How};
use crate::ids::{Cid, Home, Index, Message, Pid, Qos, Token, Topic, Uid};
use crate::net::{Connect, Down, Socket, Up};

/// A connection that owns its client.
pub(super) struct Conn {
    pub(super) cid: Cid,
    pub(super) token: Token,
    /// `None` if nothing is kept of the session.
    pub(super) uid: Option<Uid>,
    /// Then, the queue for what groups give it, and which of its messages are sent as what.
    pub(super) shared: Cell<Option<Uid>>,
    pub(super) sent_as: RefCell<BTreeMap<Index, Index>>,
    pub(super) socket: Rc<Socket>,
    pub(super) is_closed: Cell<bool>,
    /// Of the client's messages, how many are not finished.
    works: Cell<usize>,
    /// What was sent from its queue.
    pub(super) sent: RefCell<Sent>,
    /// What it was told of its queue.
    pub(super) hints: RefCell<VecDeque<(Index, Queued)>>,
    pub(super) in_flight: RefCell<BTreeSet<Index>>,
    pub(super) topics: RefCell<BTreeSet<Topic>>,
    /// Packet Identifiers of QoS 2 messages of a session that is not kept.
    received: RefCell<BTreeSet<Pid>>,
    held: RefCell<Vec<(Pid, Message)>>,
    pub(super) last_volatile: Cell<Index>,
    released: Mailbox<(Pid, u32)>,
}

impl Conn {
    pub(super) fn home(&self) -> Home {
        Home::of_client(self.cid)
    }

    /// Its session in Redis, whether it is kept or not.
    pub(super) fn queue(&self) -> Option<Uid> {
        self.uid.or(self.shared.get())
    }
}

impl Node {
    pub(super) async fn serve(self: Rc<Self>, socket: Rc<Socket>) {
        let Up::Connect(connect) = socket.up.next().await else {
            return;
        };
        self.entering.set(self.entering.get() + 1);
        let conn = self.enter_client(&socket, &connect).await;
        self.entering.set(self.entering.get() - 1);
        self.changed.all();
        let Some(conn) = conn else {
            return socket.to_client(&self.world, Down::Closed);
        };
        self.spawn(Rc::clone(&self).finish_received(Rc::clone(&conn)));
        if conn.uid.is_some() {
            self.spawn(Rc::clone(&self).deliver(Rc::clone(&conn)));
        }
        self.read_packets(conn).await;
    }

    async fn enter_client(self: &Rc<Self>, socket: &Rc<Socket>, connect: &Connect) -> Option<Rc<Conn>> {
        let token = Token {
            inc: self.inc.get(),
            conn: self.new_id(),
        };
        if self.is_leaving() || !self.claim(connect.cid, token).await {
            return None;
        }
        // A newer connection of the client may have come and gone: this one must not end its session.
        if socket.is_gone() {
            self.release(connect.cid, token, How::Lost).await;
            return None;
        }
        self.open(socket, connect, token).await
    }

    /// Whether the client is this connection's. Who comes later gets it instead.
    async fn claim(self: &Rc<Self>, cid: Cid, token: Token) -> bool {
        let home = Home::of_client(cid);
        let mut answer = self.call(home, Call::Claim { cid, token }).await;
        while answer != Answer::Granted {
            self.world.poll().await;
            if self.is_leaving() {
                return false;
            }
            if !self.has(Guard::ClaimOnce) {
                answer = self.call(home, Call::Claim { cid, token }).await;
            }
            if let Answer::Owner { owner, next, .. } = self.read(home, Call::Owner(cid)).await {
                if owner == Some(token) {
                    return true;
                }
                if next != Some(token) {
                    return false;
                }
            }
        }
        true
    }

    async fn open(self: &Rc<Self>, socket: &Rc<Socket>, connect: &Connect, token: Token) -> Option<Rc<Conn>> {
        let cid = connect.cid;
        let home = Home::of_client(cid);
        let made = (connect.expiry > 0).then(|| self.new_uid());
        let (clean, expiry, will, mid) = (connect.clean, connect.expiry, connect.will, self.new_mid());
        let open = Open {
            cid,
            token,
            clean,
            uid: made,
            expiry,
            will,
            mid,
        };
        let (uid, ended) = match self.call(home, Call::Open(open)).await {
            Answer::Opened { uid, ended } => (uid, ended),
            Answer::Done => match self.read(home, Call::Session(cid)).await {
                Answer::Session { uid, .. } => (uid, None),
                _ => return None,
            },
            _ => return None,
        };
        if let Some(ended) = ended {
            drop(self.post(Home::Global, Call::Log(vec![Entry::End(ended)])));
        }
        self.run_jobs(home, &[mid]).await;
        if self.has(Guard::WillBeforeConnack) {
            self.until_wills_are_out(cid).await;
        }
        // What the client has published elsewhere comes before what it publishes here.
        if self.has(Guard::InboxBeforeOpen) {
            self.empty_inbox().await;
        }
        // A node that was stopped may have been given up, and the client with it.
        self.hold_until_alive().await;
        let conn = Rc::new(Conn {
            cid,
            token,
            uid,
            shared: Cell::default(),
            sent_as: RefCell::default(),
            socket: Rc::clone(socket),
            is_closed: Cell::default(),
            works: Cell::default(),
            sent: RefCell::default(),
            hints: RefCell::default(),
            in_flight: RefCell::default(),
            topics: RefCell::default(),
            received: RefCell::default(),
            held: RefCell::default(),
            last_volatile: Cell::default(),
            released: Mailbox::default(),
        });
        self.conns.borrow_mut().push(Rc::clone(&conn));
        let present = uid.is_some() && uid != made;
        let will = connect.will;
        self.world.note(Event::Connack {
            cid,
            conn: socket.id,
            token,
            present,
            session: uid,
            will,
        });
        socket.to_client(
            &self.world,
            Down::Connack {
                present,
                conn: socket.id,
            },
        );
        Some(conn)
    }

    /// Whoever has a will of the client to publish has done so.
    async fn until_wills_are_out(&self, cid: Cid) {
        let home = Home::of_client(cid);
        while let Answer::Owner { has_wills: true, .. } = self.read(home, Call::Owner(cid)).await {
            self.world.poll().await;
        }
    }

    async fn read_packets(self: &Rc<Self>, conn: Rc<Conn>) {
        while !conn.is_closed.get() {
            let packet = conn.socket.up.next().await;
            if conn.is_closed.get() {
                return;
            }
            match packet {
                Up::Publish(pid, message) => self.on_publish(&conn, pid, message),
                Up::Pubrel(pid, id) => {
                    self.world.note(Event::Read {
                        id,
                        conn: conn.socket.id,
                    });
                    self.work_begun(&conn);
                    conn.released.push((pid, id));
                }
                Up::Puback(index) | Up::Pubcomp(index) => self.on_finished(&conn, index),
                Up::Pubrec(index) => self.on_pubrec(&conn, index),
                Up::Subscribe(filter) => self.on_subscribe(&conn, filter),
                Up::Unsubscribe(filter) => self.on_unsubscribe(&conn, filter),
                Up::Disconnect => return self.end(&conn, How::Clean).await,
                Up::Closed => return self.end(&conn, How::Lost).await,
                Up::Connect(_) => {}
            }
        }
    }

    fn on_publish(self: &Rc<Self>, conn: &Rc<Conn>, pid: Pid, message: Message) {
        match message.qos {
            Qos::One => self.on_qos1(conn, pid, message),
            Qos::Two if conn.uid.is_some() => self.on_qos2(conn, pid, message),
            Qos::Two => {
                if conn.received.borrow_mut().insert(pid) {
                    conn.held.borrow_mut().push((pid, message));
                }
                self.reply(conn, Down::Pubrec(pid));
            }
        }
    }

    fn on_qos1(self: &Rc<Self>, conn: &Rc<Conn>, pid: Pid, message: Message) {
        self.world.note(Event::Read {
            id: message.id,
            conn: conn.socket.id,
        });
        self.work_begun(conn);
        let pending = self.accept(message);
        let (node, conn) = (Rc::clone(self), Rc::clone(conn));
        self.spawn(async move {
            node.kept(&pending).await;
            node.acknowledge(&conn, message.id, Down::Puback(pid));
            node.work_done(&conn);
        });
    }

    fn on_qos2(self: &Rc<Self>, conn: &Rc<Conn>, pid: Pid, message: Message) {
        let made = self.change(conn.cid, conn.token, Change::Received(pid, message));
        if !self.has(Guard::PubrecAfterRecord) {
            self.reply(conn, Down::Pubrec(pid));
        }
        let (node, conn) = (Rc::clone(self), Rc::clone(conn));
        self.spawn(async move {
            if made.next().await && node.has(Guard::PubrecAfterRecord) {
                node.reply(&conn, Down::Pubrec(pid));
            }
        });
    }

    /// PUBRELs of a client, one after the other.
    async fn finish_received(self: Rc<Self>, conn: Rc<Conn>) {
        loop {
            let (pid, id) = conn.released.next().await;
            match conn.uid {
                Some(_) => self.release_kept(&conn, pid, id).await,
                None => self.release_volatile(&conn, pid, id),
            }
        }
    }

    async fn release_kept(self: &Rc<Self>, conn: &Rc<Conn>, pid: Pid, id: u32) {
        let (cid, token, mid) = (conn.cid, conn.token, self.new_mid());
        let begin = Call::Begin { cid, token, pid, mid };
        let job = match self.call(conn.home(), begin).await {
            Answer::Begun(job) => job,
            Answer::Done => {
                let jobs = self.jobs_of(conn.home(), self.inc.get()).await;
                jobs.into_iter().find(|job| job.mid == mid)
            }
            _ => return self.work_done(conn),
        };
        let pending = job.map(|job| self.accept_job(conn.home(), &job));
        let (node, conn) = (Rc::clone(self), Rc::clone(conn));
        self.spawn(async move {
            if let Some(pending) = &pending {
                node.kept(pending).await;
                drop(node.finish_job(conn.home(), mid, pending));
            }
            node.acknowledge(&conn, id, Down::Pubcomp(pid));
            node.work_done(&conn);
        });
    }

    fn release_volatile(self: &Rc<Self>, conn: &Rc<Conn>, pid: Pid, id: u32) {
        conn.received.borrow_mut().remove(&pid);
        let at = conn.held.borrow().iter().position(|(held, _)| *held == pid);
        let message = at.map(|at| conn.held.borrow_mut().remove(at).1);
        let pending = message.map(|message| self.accept(message));
        let (node, conn) = (Rc::clone(self), Rc::clone(conn));
        self.spawn(async move {
            if let Some(pending) = &pending {
                node.kept(pending).await;
            }
            node.acknowledge(&conn, id, Down::Pubcomp(pid));
            node.work_done(&conn);
        });
    }

    pub(super) fn work_begun(&self, conn: &Conn) {
        conn.works.set(conn.works.get() + 1);
    }

    pub(super) fn work_done(&self, conn: &Conn) {
        conn.works.set(conn.works.get() - 1);
        self.changed.all();
    }

    pub(super) fn reply(&self, conn: &Conn, packet: Down) {
        if !conn.is_closed.get() && !self.is_fenced.get() {
            conn.socket.to_client(&self.world, packet);
        }
    }

    fn acknowledge(&self, conn: &Conn, id: u32, packet: Down) {
        if !conn.is_closed.get() && !self.is_fenced.get() && conn.socket.is_open() {
            self.world.note(Event::Acked {
                id,
                conn: conn.socket.id,
            });
            conn.socket.to_client(&self.world, packet);
        }
    }

    /// The connection is over. The client is free when nothing of it is under way.
    pub(super) async fn end(self: &Rc<Self>, conn: &Rc<Conn>, how: How) {
        if conn.is_closed.replace(true) {
            return;
        }
        self.world.note(Event::ConnEnd {
            conn: conn.socket.id,
            is_left: how == How::Left,
        });
        conn.socket.to_client(&self.world, Down::Closed);
        self.changed.all();
        self.drop_local(conn);
        if self.has(Guard::ReleaseAfterWorks) {
            self.changed.until(|| conn.works.get() == 0).await;
        }
        self.release(conn.cid, conn.token, how).await;
        self.conns.borrow_mut().retain(|other| !Rc::ptr_eq(other, conn));
        self.memory.borrow_mut().touch(self.world.now(), conn);
        self.changed.all();
    }

    pub(super) async fn release(self: &Rc<Self>, cid: Cid, token: Token, how: How) {
        let (home, mid) = (Home::of_client(cid), self.new_mid());
        let released = self.call(home, Call::Release { cid, token, how, mid }).await;
        self.log_end(&released);
        self.run_jobs(home, &[mid]).await;
    }

    /// A session has ended with its connection.
    pub(super) fn log_end(&self, released: &Answer) {
        if let Answer::Left { ended: Some(uid) } = released {
            drop(self.post(Home::Global, Call::Log(vec![Entry::End(*uid)])));
        }
    }

    /// Gives up clients that have connected elsewhere.
    pub(super) async fn yield_clients(self: Rc<Self>) {
        loop {
            self.world.poll().await;
            for home in Home::buckets() {
                let Answer::Cids(cids) = self.read(home, Call::Wanted(self.inc.get())).await else {
                    continue;
                };
                let wanted: Vec<_> = self
                    .conns
                    .borrow()
                    .iter()
                    .filter(|conn| cids.contains(&conn.cid))
                    .cloned()
                    .collect();
                for conn in wanted {
                    let node = Rc::clone(&self);
                    self.spawn(async move { node.end(&conn, How::Lost).await });
                }
            }
        }
    }
}
