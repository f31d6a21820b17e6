//! What is to be done for a node that is dead. Each step can be made again, by another node.

use std::rc::Rc;

use super::Node;
use crate::guard::Guard;
use crate::home::{Answer, Call, Job};
use crate::ids::{Home, Inc};

impl Node {
    /// Declares a node dead that has never beaten, and recovers it.
    pub fn bury(self: &Rc<Self>, dead: Inc) {
        let node = Rc::clone(self);
        self.spawn(async move {
            if node
                .call(
                    Home::Global,
                    Call::Dead {
                        inc: dead,
                        counter: 0,
                        lost: Vec::new(),
                    },
                )
                .await
                == Answer::Ok
            {
                node.recover(dead).await;
            }
        });
    }

    pub(super) async fn recover(self: Rc<Self>, dead: Inc) {
        self.world.trace(|| format!("I{} recovers I{dead}", self.inc.get()));
        if self.has(Guard::FenceFirst) {
            self.fence_everywhere(dead).await;
        }
        self.call(Home::Global, Call::TakeOver(dead)).await;
        if self.has(Guard::JobsBeforeFree) {
            self.finish_jobs_of(dead).await;
        }
        self.free_clients_of(dead).await;
        self.finish_jobs_of(dead).await;
        if !self.has(Guard::FenceFirst) {
            self.fence_everywhere(dead).await;
        }
        self.call_destroy(dead).await;
        self.forget_all_of(dead).await;
        self.call(Home::Global, Call::Recovered(dead)).await;
        self.recovering.borrow_mut().remove(&dead);
        self.changed.all();
    }

    async fn fence_everywhere(&self, dead: Inc) {
        for home in Home::buckets() {
            self.call(home, Call::Fence(dead)).await;
        }
    }

    async fn finish_jobs_of(self: &Rc<Self>, dead: Inc) {
        for home in Home::buckets() {
            for rest in self.rests_of(home, dead).await {
                Rc::clone(self).run_rest(home, rest).await;
            }
            for job in self.jobs_of(home, dead).await {
                let finished = job.mid;
                let run = match self.has(Guard::SameMid) {
                    true => job,
                    false => Job {
                        mid: self.new_mid(),
                        ..job
                    },
                };
                Rc::clone(self).run_job(home, run).await;
                self.call(home, Call::Finish(finished)).await;
            }
        }
    }

    async fn free_clients_of(self: &Rc<Self>, dead: Inc) {
        for home in Home::buckets() {
            let Answer::Cids(cids) = self.read(home, Call::OwnedBy(dead)).await else {
                continue;
            };
            for cid in cids {
                let (mid, is_older) = (self.new_mid(), dead <= self.generation.get());
                let ends = is_older && self.lost.borrow().contains(&home) && self.has(Guard::TouchedEnd);
                let freed = self
                    .call(
                        home,
                        Call::Free {
                            of: dead,
                            cid,
                            mid,
                            is_older,
                            ends,
                        },
                    )
                    .await;
                self.log_end(&freed);
            }
        }
    }

    async fn call_destroy(&self, dead: Inc) {
        self.call(Home::of_inbox(dead), Call::Destroy(dead)).await;
    }

    async fn forget_all_of(&self, dead: Inc) {
        for home in Home::buckets() {
            self.call(home, Call::ForgetOf(dead)).await;
        }
    }
}
