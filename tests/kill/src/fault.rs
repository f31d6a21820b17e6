//! What is done to the broker.

use crate::broker::Backend;
use crate::random::Random;

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

    pub fn name(self) -> &'static str {
        Fault::ALL
            .iter()
            .find(|(fault, _)| *fault == self)
            .expect("all are listed")
            .1
    }

    pub fn named(name: &str) -> Option<Fault> {
        Fault::ALL
            .iter()
            .find(|(_, other)| *other == name)
            .map(|(fault, _)| *fault)
    }

    /// Those that a backend is put through if nobody says which; the more often one is here, the more often it comes.
    pub fn usual(backend: Backend) -> Vec<Fault> {
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
            Backend::Redis => {
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

    pub fn choose(among: &[Fault], random: &mut Random) -> Fault {
        among[random.index(among.len())]
    }
}
