//! What is done to the broker.

use crate::broker::Backend;
use crate::cluster::blow::Blow;
use crate::random::Random;

/// What may be done in a round, and what is.
pub enum Faults {
    One(Vec<Fault>),
    /// To a cluster, several at once. If there are none, any.
    Cluster(Vec<Vec<Blow>>),
    /// To a cluster: its Redis loses writes.
    Loss,
}

pub enum Chosen {
    One(Fault),
    Cluster(Vec<Blow>),
}

impl Faults {
    /// Those with these names; without names, the usual ones.
    pub fn of(backend: Backend, names: &[String]) -> Result<Faults, String> {
        let unknown = |name: &String| format!("unknown fault {name}; see --help");
        if backend.is_cluster() {
            let blows = names.iter().map(|name| Blow::named(name).ok_or_else(|| unknown(name)));
            return blows.collect::<Result<_, _>>().map(Faults::Cluster);
        }
        let faults = names.iter().map(|name| Fault::named(name).ok_or_else(|| unknown(name)));
        let faults: Vec<_> = faults.collect::<Result<_, _>>()?;
        Ok(Faults::One(if faults.is_empty() {
            Fault::usual(backend)
        } else {
            faults
        }))
    }

    pub fn choose(&self, random: &mut Random) -> Chosen {
        match self {
            Faults::One(faults) => Chosen::One(Fault::choose(faults, random)),
            Faults::Cluster(blows) if blows.is_empty() => Chosen::Cluster(Blow::usual(random)),
            Faults::Loss => Chosen::Cluster(Blow::with_loss(random)),
            Faults::Cluster(blows) => Chosen::Cluster(blows[random.index(blows.len())].clone()),
        }
    }
}

impl Chosen {
    pub fn name(&self) -> String {
        match self {
            Chosen::One(fault) => fault.name().to_owned(),
            Chosen::Cluster(blows) => Blow::names(blows),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGKILL, and again while the clients resume.
    KillTwice,
    /// SIGKILL, and again while the broker starts.
    KillStarting,
    /// SIGSTOP, and SIGKILL after a while.
    StopKill,
    /// SIGSTOP, and SIGCONT after a while. Nothing is started again.
    Stop,
    /// SIGTERM.
    Term,
    /// SIGKILL of the server that the broker stores in, which is started again. The broker goes on.
    StoreKill,
    /// SIGKILL of both.
    BothKill,
    /// The clients close their connections. The broker goes on.
    Cut,
}

impl Fault {
    const ALL: [(Fault, &'static str); 9] = [
        (Fault::Kill, "kill"),
        (Fault::KillTwice, "kill-twice"),
        (Fault::KillStarting, "kill-starting"),
        (Fault::StopKill, "stop-kill"),
        (Fault::Stop, "stop"),
        (Fault::Term, "term"),
        (Fault::StoreKill, "store-kill"),
        (Fault::BothKill, "both-kill"),
        (Fault::Cut, "cut"),
    ];

    fn name(self) -> &'static str {
        Fault::ALL
            .iter()
            .find(|(fault, _)| *fault == self)
            .expect("all are listed")
            .1
    }

    fn named(name: &str) -> Option<Fault> {
        Fault::ALL
            .iter()
            .find(|(_, other)| *other == name)
            .map(|(fault, _)| *fault)
    }

    /// Those that a backend is put through if nobody says which; the more often one is here, the more often it comes.
    fn usual(backend: Backend) -> Vec<Fault> {
        use Fault::*;
        match backend {
            Backend::Memory => vec![Cut, Stop],
            Backend::Mosquitto => vec![Term, Cut, Stop],
            Backend::DiskFsync | Backend::DiskOs => {
                vec![
                    Kill,
                    Kill,
                    Kill,
                    Kill,
                    Kill,
                    Kill,
                    KillTwice,
                    KillTwice,
                    KillStarting,
                    StopKill,
                    Term,
                    Cut,
                ]
            }
            Backend::Redis | Backend::Cluster => {
                vec![
                    Kill,
                    Kill,
                    Kill,
                    Kill,
                    KillTwice,
                    KillStarting,
                    StopKill,
                    StoreKill,
                    StoreKill,
                    BothKill,
                    BothKill,
                    Term,
                ]
            }
        }
    }

    fn choose(among: &[Fault], random: &mut Random) -> Fault {
        among[random.index(among.len())]
    }
}
