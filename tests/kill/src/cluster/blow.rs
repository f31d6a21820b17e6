//! What is done to a cluster: faults, and the deeds of which each is made.

use std::time::Duration;

use crate::cluster::proxy::Order;
use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL of a node, which is started again at once or later.
    Kill,
    /// A node is stopped for about its lease, or longer.
    Freeze,
    /// A node is stopped for half of its lease at most.
    FreezeShort,
    /// A node's connections to Redis are cut, and refused for about the lease or longer.
    Cut,
    /// Or for a shorter time.
    CutShort,
    /// What a node and Redis say, or one of them, is held back for about the lease or longer.
    Hold,
    /// Or for a shorter time.
    HoldShort,
    /// Commands are executed, and their answers dropped.
    Mute,
    /// A node's connections are cut, and what it has said arrives later, behind what it says by new ones.
    Late,
    /// Redis is killed, and started again.
    StoreKill,
    /// SIGTERM of a node, which is started again.
    Term,
    /// SIGTERM of one node after the other.
    Roll,
    /// Redis is killed, and started again without the last part of what it had confirmed.
    Lose,
}

/// Something that is done at some time after the blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Kill(usize),
    Stop(usize),
    Continue(usize),
    Term(usize),
    /// SIGTERM, once all others are there.
    TermNext(usize),
    /// Starts a node, if it does not run; once it has ended, if it was asked to.
    Start(usize),
    Order(usize, Order),
    KillStore,
    /// Clients do nothing more that all nodes are told.
    Hush,
    /// Kills it, and takes the last part away that it has written.
    LoseStore,
    StartStore,
}

impl Deed {
    /// Whether it ends this node.
    pub fn ends(self, node: usize) -> bool {
        matches!(self, Deed::Kill(at) | Deed::Term(at) | Deed::TermNext(at) if at == node)
    }
}

pub type Timeline = Vec<(Duration, Deed)>;

/// The longest of the short blows, in leases. A node says three times in a lease that it lives, so that it is silent for a third of one
/// more.
const SHORT: f64 = 0.5;
/// The others, from where a node may be declared dead.
const LONG: (f64, f64) = (0.6, 3.0);

/// How many are usual: all but [`Blow::Lose`], which is the last one. With 13 it is one of them.
const USUAL: usize = 12;

impl Blow {
    const ALL: [(Blow, &'static str); 13] = [
        (Blow::Kill, "kill"),
        (Blow::Freeze, "freeze"),
        (Blow::FreezeShort, "freeze-short"),
        (Blow::Cut, "cut"),
        (Blow::CutShort, "cut-short"),
        (Blow::Hold, "hold"),
        (Blow::HoldShort, "hold-short"),
        (Blow::Mute, "mute"),
        (Blow::Late, "late"),
        (Blow::StoreKill, "store-kill"),
        (Blow::Term, "term"),
        (Blow::Roll, "roll"),
        (Blow::Lose, "lose"),
    ];

    fn name(self) -> &'static str {
        let found = Blow::ALL.iter().find(|(blow, _)| *blow == self);
        found.expect("all are listed").1
    }

    /// Blows that come at once: `kill`, or `kill+cut`.
    pub fn named(names: &str) -> Option<Vec<Blow>> {
        let one = |name| {
            Blow::ALL
                .iter()
                .find(|(_, other)| *other == name)
                .map(|(blow, _)| *blow)
        };
        names.split('+').map(one).collect()
    }

    pub fn names(blows: &[Blow]) -> String {
        let names: Vec<_> = blows.iter().map(|blow| blow.name()).collect();
        names.join("+")
    }

    /// Whether every node outlives it, since none is silent for a lease while others are heard.
    pub fn spares_all(self) -> bool {
        match self {
            Blow::FreezeShort | Blow::CutShort | Blow::HoldShort | Blow::Mute | Blow::Late | Blow::StoreKill => true,
            Blow::Kill | Blow::Freeze | Blow::Cut | Blow::Hold | Blow::Term | Blow::Roll | Blow::Lose => false,
        }
    }

    /// Whether every process outlives it, if it is not declared dead.
    pub fn spares_processes(self) -> bool {
        self == Blow::Lose || self.spares_all()
    }

    /// One, or two at once.
    pub fn usual(random: &mut Random) -> Vec<Blow> {
        let count = if random.percent(60) { 1 } else { 2 };
        (0..count).map(|_| Blow::any(random)).collect()
    }

    /// Redis loses writes, and every other time something else happens, too.
    pub fn with_loss(random: &mut Random) -> Vec<Blow> {
        match random.between(1, 4) {
            1 => vec![Blow::Lose, Blow::any(random)],
            2 => vec![Blow::any(random), Blow::Lose],
            _ => vec![Blow::Lose],
        }
    }

    fn any(random: &mut Random) -> Blow {
        Blow::ALL[random.index(USUAL)].0
    }

    /// What is done to this node of so many, and when.
    pub fn deeds(self, node: usize, nodes: usize, lease: Duration, random: &mut Random) -> Timeline {
        let mut within = |least: f64, most: f64| lease.mul_f64(least + (most - least) * random.share());
        let now = Duration::ZERO;
        let order = |time, order| (time, Deed::Order(node, order));
        match self {
            Blow::Kill => vec![(now, Deed::Kill(node)), (within(0.0, 2.5), Deed::Start(node))],
            Blow::Freeze => vec![(now, Deed::Stop(node)), (within(LONG.0, LONG.1), Deed::Continue(node))],
            Blow::FreezeShort => vec![(now, Deed::Stop(node)), (within(0.1, SHORT), Deed::Continue(node))],
            Blow::Cut => vec![order(now, Order::Refuse), order(within(LONG.0, LONG.1), Order::Accept)],
            Blow::CutShort => vec![order(now, Order::Refuse), order(within(0.02, SHORT), Order::Accept)],
            Blow::Hold => hold(node, within(LONG.0, LONG.1), random),
            Blow::HoldShort => hold(node, within(0.05, SHORT), random),
            Blow::Mute => mute(node, lease, random),
            Blow::Late => {
                let (left, arrival) = (within(0.02, 0.3), within(0.02, 4.0));
                vec![
                    order(now, Order::Hold { up: true, down: false }),
                    order(left, Order::Late(arrival)),
                    order(left, Order::Release),
                ]
            }
            Blow::StoreKill => vec![(now, Deed::KillStore), (within(0.0, 2.0), Deed::StartStore)],
            Blow::Lose => lose(lease, random),
            Blow::Term => vec![(now, Deed::Term(node)), (within(0.0, 0.5), Deed::Start(node))],
            Blow::Roll => {
                let steps = (0..nodes).map(|at| (lease.mul_f64(0.2 * at as f64), (node + at) % nodes));
                steps
                    .flat_map(|(time, node)| [(time, Deed::TermNext(node)), (time, Deed::Start(node))])
                    .collect()
            }
        }
    }
}

/// Up, down or both; in the end it is delivered, or cut off.
fn hold(node: usize, time: Duration, random: &mut Random) -> Timeline {
    let (up, down) = [(true, true), (true, false), (false, true)][random.index(3)];
    let mut deeds = vec![(Duration::ZERO, Deed::Order(node, Order::Hold { up, down }))];
    if random.percent(40) {
        deeds.push((time, Deed::Order(node, Order::Cut)));
    }
    deeds.push((time, Deed::Order(node, Order::Release)));
    deeds
}

/// Half of the time nothing is added to the log before.
fn lose(lease: Duration, random: &mut Random) -> Timeline {
    let within = |random: &mut Random, least: f64, most: f64| lease.mul_f64(least + (most - least) * random.share());
    let killed = within(random, 0.4, 1.2);
    let hushed = killed - within(random, 0.1, 0.4);
    let mut deeds = vec![
        (killed, Deed::LoseStore),
        (killed + within(random, 0.0, 2.0), Deed::StartStore),
    ];
    if random.percent(50) {
        deeds.push((hushed, Deed::Hush));
    }
    deeds
}

/// One to four times.
fn mute(node: usize, lease: Duration, random: &mut Random) -> Timeline {
    let mut time = Duration::ZERO;
    let mut deeds = Vec::new();
    for _ in 0..random.between(1, 4) {
        deeds.push((time, Deed::Order(node, Order::Mute)));
        time += Duration::from_millis(random.between(2, 120));
        deeds.push((time, Deed::Order(node, Order::Cut)));
        time += lease.mul_f64(0.05 + 0.4 * random.share());
    }
    deeds
}
