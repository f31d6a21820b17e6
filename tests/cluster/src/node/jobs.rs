//! Messages that must have effect once: they are jobs in the home of their client until every home has them.

use std::rc::Rc;

use super::Node;
use super::publish::Pending;
use crate::exec::Mailbox;
use crate::guard::Guard;
use crate::home::{Answer, Call, Job};
use crate::ids::{Home, Inc, Mid};

impl Node {
    /// Runs those of the jobs that a call may have made that it has made. A call is followed by this once.
    pub(super) async fn run_jobs(self: &Rc<Self>, home: Home, mids: &[Mid]) {
        for rest in self.rests_of(home, self.inc.get()).await {
            if mids.contains(&rest.mid) {
                self.spawn(Rc::clone(self).run_rest(home, rest));
            }
        }
        for job in self.jobs_of(home, self.inc.get()).await {
            if mids.contains(&job.mid) || !self.has(Guard::JobsOfCall) {
                let run = Rc::clone(self).run_job(home, job);
                self.spawn(async move {
                    run.await;
                });
            }
        }
    }

    pub(super) async fn jobs_of(&self, home: Home, of: Inc) -> Vec<Job> {
        match self.read(home, Call::JobsOf(of)).await {
            Answer::Jobs(jobs) => jobs,
            _ => Vec::new(),
        }
    }

    /// Publishes the message of a job, and ends it.
    pub(super) async fn run_job(self: Rc<Self>, home: Home, job: Job) {
        let pending = self.accept_job(home, &job);
        self.kept(&pending).await;
        self.finish_job(home, job.mid, &pending).next().await;
    }

    /// Once the job is gone for good, the homes may forget it.
    pub(super) fn finish_job(self: &Rc<Self>, home: Home, mid: Mid, pending: &Rc<Pending>) -> Mailbox<()> {
        let over = Mailbox::default();
        let (node, pending, signal) = (Rc::clone(self), Rc::clone(pending), over.clone());
        self.spawn(async move {
            if node.has(Guard::ForgetAfterFinish) {
                node.call(home, Call::Finish(mid)).await;
                node.forget(mid, &pending);
            } else {
                node.forgotten(mid, &pending).await;
                node.call(home, Call::Finish(mid)).await;
            }
            signal.push(());
        });
        over
    }

    /// In all homes that know it.
    pub(super) fn forget(&self, mid: Mid, pending: &Pending) {
        for home in pending.homes_with_identity() {
            drop(self.post(home, Call::Forget(mid)));
        }
    }

    async fn forgotten(&self, mid: Mid, pending: &Pending) {
        for home in pending.homes_with_identity() {
            self.call(home, Call::Forget(mid)).await;
        }
    }
}
