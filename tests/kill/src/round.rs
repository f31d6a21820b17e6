//! One round: clients gather, publish at full load, something is done to the broker, they resume, and the log is checked.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::broker::{Backend, Broker};
use crate::event::World as What;
use crate::fault::Fault;
use crate::stage::{Report, Stage};

struct Round {
    stage: Stage,
    broker: Broker,
    /// The broker has been killed.
    has_struck: bool,
}

/// Runs a round in an empty directory.
pub fn run(backend: Backend, program: &Path, dir: &Path, fault: Fault, seed: u64) -> Result<Report, String> {
    let mut round = Round {
        broker: Broker::new(backend, program, dir)?,
        stage: Stage::new(seed),
        has_struck: false,
    };
    round.play(fault)?;
    Ok(round.stage.judge())
}

impl Round {
    fn play(&mut self, fault: Fault) -> Result<(), String> {
        self.broker.spawn()?;
        self.serve()?;
        self.stage.gather();
        self.stage.load();
        self.strike(fault)?;
        if fault == Fault::KillTwice {
            self.stage.publish(usize::MAX);
            let target = self.stage.world.log.acked + self.stage.random.between(0, 1500) as usize;
            self.stage.world.until(|world| world.log.acked >= target);
            self.kill_soon("killed-again");
            self.stage.publish(0);
            self.restart()?;
        }
        self.stage.finish();
        self.stage.world.log.world(What::End);
        match self.broker.status() {
            Some(status) => Err(format!("the broker has ended with {status}")),
            None => Ok(()),
        }
    }

    fn serve(&mut self) -> Result<(), String> {
        self.stage.world.gates = vec![self.broker.listening()?];
        self.stage.world.log.world(What::Ready);
        Ok(())
    }

    fn strike(&mut self, fault: Fault) -> Result<(), String> {
        self.stage.report.outstanding = self.stage.world.outstanding();
        match fault {
            Fault::Kill | Fault::KillTwice => self.kill_soon("killed"),
            Fault::KillStarting => {
                self.kill_soon("killed");
                self.broker.spawn()?;
                self.kill(15_000, "killed-again");
            }
            Fault::StopKill => {
                self.stop();
                self.kill(0, "killed");
            }
            Fault::Stop => {
                self.stop();
                self.stage.world.log.world(What::Cont);
                self.broker.signal(Signal::CONT);
            }
            Fault::Term => self.terminate(),
            Fault::StoreKill => {
                self.kill_store();
                let pause = Duration::from_millis(self.stage.random.between(0, 200));
                self.stage.world.run_for(pause);
                self.start_store()?;
            }
            Fault::BothKill => {
                let store_first = self.stage.random.percent(50);
                if store_first {
                    self.kill_store();
                    let pause = Duration::from_micros(self.stage.random.between(0, 5000));
                    self.stage.world.run_for(pause);
                }
                self.kill_soon("killed");
                if !store_first {
                    self.kill_store();
                }
                self.start_store()?;
            }
            Fault::Cut => (0..self.stage.world.clients.len()).for_each(|at| self.stage.world.cut(at)),
        }
        self.stage.publish(0);
        match fault {
            Fault::Stop | Fault::StoreKill | Fault::Cut => {
                self.stage.resume();
                Ok(())
            }
            _ => self.restart(),
        }
    }

    /// Kills the broker within the time of a commit, or of a few.
    fn kill_soon(&mut self, copy: &str) {
        let within = if self.stage.random.percent(50) { 3000 } else { 40_000 };
        self.kill(within, copy);
    }

    /// Kills the broker at some time within so many microseconds, whatever the clients are at.
    fn kill(&mut self, within: u64, copy: &str) {
        let time = Duration::from_micros(self.stage.random.between(0, within));
        self.stage.world.log.killer = Some(self.broker.kill_in(time));
        while self.stage.world.log.is_killer_awaited() {
            if !self.has_struck {
                self.stage.report.outstanding = self.stage.world.outstanding();
            }
            self.stage.world.turn(Duration::from_millis(1));
        }
        self.has_struck = true;
        self.broker.wait();
        let abandoned = self.stage.world.abandoned();
        self.stage.world.drain();
        self.stage.report.unanswered = self.stage.world.outstanding() + self.stage.world.abandoned() - abandoned;
        self.broker.copy_data(copy);
    }

    fn stop(&mut self) {
        self.stage.world.log.world(What::Stop);
        self.broker.signal(Signal::STOP);
        let pause = Duration::from_millis(self.stage.random.between(1, 200));
        self.stage.world.run_for(pause);
    }

    fn terminate(&mut self) {
        // A broker that takes its time must not get more than the queues of those who are away may hold.
        self.stage.publish(1000);
        self.stage.world.log.world(What::Term);
        self.broker.signal(Signal::TERM);
        let start = Instant::now();
        while self.broker.status().is_none() && start.elapsed() < Duration::from_secs(20) {
            self.stage.world.turn(Duration::from_millis(1));
        }
        self.broker.wait();
        self.stage.world.drain();
    }

    fn kill_store(&mut self) {
        self.stage.world.log.world(What::StoreKill);
        self.broker.kill_store();
    }

    fn start_store(&mut self) -> Result<(), String> {
        self.broker.start_store()?;
        self.stage.world.log.world(What::StoreReady);
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        let start = Instant::now();
        self.broker.spawn()?;
        self.serve()?;
        self.stage.report.restart = start.elapsed();
        self.stage.probe(None);
        self.stage.resume();
        Ok(())
    }
}
