//! A node: what it keeps in memory, and how it begins and ends.

mod deliver;
mod heart;
mod jobs;
mod leave;
mod legacy;
mod link;
mod mirror;
mod publish;
mod recover;
mod serve;
mod share;
mod subscribe;
mod witness;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;

use self::legacy::{Legacy, Memory};
use self::link::{Link, Numbers};
use self::mirror::Mirror;
use self::publish::{Batch, Pending};
use self::serve::Conn;
use crate::check::Event;
use crate::exec::{Mailbox, Notify, Proc};
use crate::guard::Guard;
use crate::home::{Answer, Call};
use crate::ids::{Home, Inc, Message, Mid, Time, Topic, Uid};
use crate::net::{ConnId, Kind, SHARDS, Socket};
use crate::world::World;

/// One incarnation of a node.
pub struct Node {
    pub world: Rc<World>,
    pub proc: Proc,
    pub slot: u32,
    /// 0 until it has joined.
    pub inc: Cell<Inc>,
    /// Connections of clients.
    pub accepted: Mailbox<Rc<Socket>>,
    is_ready: Cell<bool>,
    is_fenced: Cell<bool>,
    memory: RefCell<Memory>,
    /// What came before, and is not put in order.
    legacies: RefCell<Vec<Legacy>>,
    /// Homes that have lost writes in the generation before.
    lost: RefCell<BTreeSet<Home>>,
    /// Homes that it may write to.
    entered: RefCell<BTreeSet<Home>>,
    /// Incarnations up to this one are over.
    generation: Cell<Inc>,
    /// Nothing of an older generation is there any more.
    may_recover: Cell<bool>,
    /// It takes no more clients.
    is_leaving: Cell<bool>,
    /// Connections that have no client yet.
    entering: Cell<usize>,
    /// Deaths that it has declared, and nobody has answered.
    deaths: Cell<usize>,
    links: BTreeMap<(Kind, u8), Link>,
    numbers: Numbers,
    changed: Notify,
    mirror: RefCell<Mirror>,
    pending: RefCell<Vec<Rc<Pending>>>,
    batch: RefCell<Batch>,
    conns: RefCell<Vec<Rc<Conn>>>,
    local: RefCell<BTreeMap<Topic, Vec<Rc<Conn>>>>,
    ids: Cell<u32>,
    /// When the last heartbeat that was answered had been sent.
    last_beat: Cell<Time>,
    recovering: RefCell<BTreeSet<Inc>>,
    inbox_read: Cell<u64>,
    reads_inbox: Cell<bool>,
    /// The last message that was read there.
    inbox_last: RefCell<Option<(u64, Message)>>,
}

impl Node {
    /// Starts a node in this place.
    pub fn start(world: &Rc<World>, slot: u32) -> Rc<Node> {
        Node::start_after(world, slot, Vec::new())
    }

    fn start_after(world: &Rc<World>, slot: u32, legacies: Vec<Legacy>) -> Rc<Node> {
        let proc = world.new_proc();
        let kinds = [Kind::Write, Kind::Read, Kind::Heart];
        let ids = kinds
            .into_iter()
            .flat_map(|kind| (0..SHARDS).map(move |shard| (kind, shard)));
        let node = Rc::new(Node {
            world: Rc::clone(world),
            proc,
            slot,
            inc: Cell::default(),
            accepted: Mailbox::default(),
            is_ready: Cell::default(),
            is_fenced: Cell::default(),
            memory: RefCell::default(),
            legacies: RefCell::new(legacies),
            lost: RefCell::default(),
            entered: RefCell::default(),
            generation: Cell::default(),
            may_recover: Cell::default(),
            is_leaving: Cell::default(),
            entering: Cell::default(),
            deaths: Cell::default(),
            links: ids
                .map(|(kind, shard)| ((kind, shard), Link::new(ConnId { proc, shard, kind })))
                .collect(),
            numbers: RefCell::default(),
            changed: Notify::default(),
            mirror: RefCell::default(),
            pending: RefCell::default(),
            batch: RefCell::default(),
            conns: RefCell::default(),
            local: RefCell::default(),
            ids: Cell::default(),
            last_beat: Cell::default(),
            recovering: RefCell::default(),
            inbox_read: Cell::default(),
            reads_inbox: Cell::default(),
            inbox_last: RefCell::default(),
        });
        world.slots.borrow_mut().insert(slot, Rc::clone(&node));
        node.spawn(Rc::clone(&node).run());
        node
    }

    /// Ends it, as kill -9 does, between any two steps.
    pub fn kill(&self) {
        self.world
            .trace(|| format!("kill node {} (I{})", self.slot, self.inc.get()));
        self.world.note(Event::NodeEnd { inc: self.inc.get() });
        self.world.exec.kill(self.proc);
        self.world.net.process_ended(&self.world, self.proc);
        let mut slots = self.world.slots.borrow_mut();
        if slots.get(&self.slot).is_some_and(|node| node.proc == self.proc) {
            slots.remove(&self.slot);
        }
    }

    /// Whether it serves clients.
    pub fn is_ready(&self) -> bool {
        self.is_ready.get()
    }

    /// What it would send to a new subscriber.
    pub fn retained(&self) -> Vec<Message> {
        self.mirror.borrow().retained.values().copied().collect()
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.world.exec.spawn(self.proc, task);
    }

    fn has(&self, guard: Guard) -> bool {
        self.world.guards.has(guard)
    }

    fn new_id(&self) -> u32 {
        self.ids.set(self.ids.get() + 1);
        self.ids.get()
    }

    fn new_mid(&self) -> Mid {
        Mid {
            inc: self.inc.get(),
            n: self.new_id(),
        }
    }

    fn new_uid(&self) -> Uid {
        Uid {
            inc: self.inc.get(),
            n: self.new_id(),
        }
    }

    async fn run(self: Rc<Self>) {
        for (kind, shard) in self.links.keys() {
            self.spawn(Rc::clone(&self).keep_link(*kind, *shard));
        }
        self.examine().await;
        self.join().await;
        self.spawn(Rc::clone(&self).follow_log());
        self.spawn(Rc::clone(&self).flush_batches());
        self.spawn(Rc::clone(&self).read_inbox());
        self.spawn(Rc::clone(&self).yield_clients());
        if self.world.has_clockwork.get() {
            // Not before the mirror is whole: what is recovered is matched with it.
            self.spawn(Rc::clone(&self).watch());
        }
        self.settle().await;
        if self.world.has_clockwork.get() {
            self.spawn(Rc::clone(&self).sweep());
        }
        self.is_ready.set(true);
        self.changed.all();
        self.world
            .trace(|| format!("node {} is ready as I{}", self.slot, self.inc.get()));
        loop {
            let socket = self.accepted.next().await;
            self.spawn(Rc::clone(&self).serve(socket));
        }
    }

    /// Becomes a member. What a call that is repeated leaves behind is declared dead like any other node.
    async fn join(self: &Rc<Self>) {
        let Answer::Joined { inc, generation } = self.beat_call(Call::Join).await else {
            unreachable!("joining has one answer");
        };
        self.inc.set(inc);
        self.generation.set(generation);
        self.entered.borrow_mut().insert(Home::Global);
        self.world.note(Event::NodeStart { inc });
        if self.world.has_clockwork.get() {
            self.spawn(Rc::clone(self).beat());
        }
        for home in Home::buckets() {
            self.post_read(home, Call::Enter).next().await;
            self.entered.borrow_mut().insert(home);
        }
        let Answer::Snapshot(snapshot) = self.read(Home::Global, Call::Snapshot).await else {
            unreachable!("a read has one answer");
        };
        self.mirror.borrow_mut().load(&snapshot);
        for home in Home::buckets() {
            if let Answer::Subscriptions(subs) = self.read(home, Call::Subscriptions).await {
                self.mirror.borrow_mut().add(&subs);
            }
        }
    }

    /// This incarnation is over: nothing of it goes out any more, and a new one starts.
    fn fence(&self) {
        if self.is_fenced.replace(true) {
            return;
        }
        let mut legacies = self.legacies.take();
        legacies.extend(Legacy::of(self));
        self.world.trace(|| format!("I{} is fenced", self.inc.get()));
        let (slot, proc, is_leaving) = (self.slot, self.proc, self.is_leaving());
        self.world.at(self.world.now(), None, move |world| {
            let node = world.slots.borrow().get(&slot).cloned();
            if let Some(node) = node.filter(|node| node.proc == proc) {
                node.kill();
                if !is_leaving {
                    Node::start_after(world, slot, legacies);
                }
            }
        });
    }

    /// Up to where it has dealt with the log.
    fn applied(&self) -> u64 {
        self.mirror.borrow().position
    }
}
