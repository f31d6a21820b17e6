//! Commits batches: each as a whole, and once.
//!
//! Against one server all calls of a batch are one transaction, sent and answered in one round trip. Each call carries the
//! incarnation and its number within its home: a call that has been done already answers so, and a broker that another one
//! has replaced is told that.

use std::sync::Arc;

use parking_lot::RwLock;
use redis::{Cmd, Value};

use super::attempt::{Failed, accepted, for_now, insist, last_calls, lost_writes, wait, waited};
use super::keys::{BUCKETS, Home, Keys};
use super::link::Link;
use super::plan::{Call, Places, Plan};
use super::reply::{bytes, list, number};
use super::script::Scripts;
use crate::store::{Batch, RedisSettings, StoreError};

/// What goes to Redis in order, by one thread.
#[derive(Debug)]
pub(super) struct Writer {
    settings: RedisSettings,
    keys: Keys,
    scripts: Scripts,
    incarnation: u64,
    places: Arc<RwLock<Places>>,
    link: Option<Link>,
    is_cluster: bool,
    /// How many calls of each home have been confirmed.
    calls_made: Box<[u64]>,
    /// The last batch that was confirmed.
    last: u64,
    /// The batch that is to be confirmed, with its number.
    plan: Option<(u64, Plan)>,
    /// Why nothing will be written any more.
    stopped: Option<StoreError>,
}

impl Writer {
    pub(super) fn new(
        settings: &RedisSettings,
        keys: &Keys,
        scripts: &Scripts,
        (incarnation, last): (u64, u64),
        places: &Arc<RwLock<Places>>,
        link: Link,
    ) -> Writer {
        Writer {
            settings: settings.clone(),
            keys: keys.clone(),
            scripts: scripts.clone(),
            incarnation,
            places: Arc::clone(places),
            is_cluster: link.is_cluster(),
            link: Some(link),
            calls_made: vec![0; usize::from(BUCKETS) + 1].into(),
            last,
            plan: None,
            stopped: None,
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn commit(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        if let Some(why) = &self.stopped {
            return Err(why.clone());
        }
        if batch.number <= self.last {
            return Ok(());
        }
        let mut plan = match self.plan.take() {
            Some((number, plan)) if number == batch.number => plan,
            _ => self.plan(batch)?,
        };
        let result = self.send(&mut plan);
        match result {
            Ok(()) => self.confirm(batch.number, plan),
            Err(_) => self.plan = Some((batch.number, plan)),
        }
        result
    }

    #[cfg(any(feature = "cli", test))]
    /// Nothing will be written any more.
    pub(super) fn stop(&mut self, why: StoreError) {
        self.stopped = Some(why);
    }

    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        let Some(mut link) = self.link.take() else {
            return Ok(());
        };
        if self.is_cluster && self.plan.is_none() && self.stopped.is_none() {
            link.ask(self.forget_note())?;
        }
        Ok(())
    }

    fn plan(&self, batch: &Batch<'_>) -> Result<Plan, StoreError> {
        let mut plan = Plan::new(batch, &self.places.read(), &self.calls_made)?;
        if self.is_cluster {
            plan.note(self.incarnation);
        }
        Ok(plan)
    }

    fn confirm(&mut self, number: u64, plan: Plan) {
        self.last = number;
        for call in &plan.calls {
            self.calls_made[call.home.index()] = call.number;
        }
        if plan.moved.is_empty() {
            return;
        }
        let mut places = self.places.write();
        for (uid, place) in plan.moved {
            match place {
                Some(place) => drop(places.insert(uid, place)),
                None => drop(places.remove(&uid)),
            }
        }
    }

    fn send(&mut self, plan: &mut Plan) -> Result<(), StoreError> {
        let (timeout, was_idle) = (self.settings.timeout, self.link.is_some());
        let failed = match insist(timeout, was_idle, || self.attempt(plan)) {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        let is_over = matches!(failed, Failed::Stopped(_));
        let error = failed.into_error();
        if is_over {
            self.stopped = Some(error.clone());
        }
        Err(error)
    }

    fn attempt(&mut self, plan: &mut Plan) -> Result<(), Failed> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connect()?,
        };
        let result = match self.is_cluster {
            true => self.steps(&mut link, plan),
            false => match self.transaction(&mut link, plan) {
                // No command can be added to a transaction then.
                Err(Failed::Full(_)) if plan.only_frees => self.free(&mut link, plan),
                result => result,
            },
        };
        let result = match result {
            Err(Failed::Forgotten) => match Scripts::load(&mut link) {
                Ok(_) => Err(Failed::Forgotten),
                Err(error) => Err(Failed::Refused(error)),
            },
            other => other,
        };
        // A note that stays does no harm: the next one takes its place, or the next start takes it away.
        let is_tidy = result.is_err() || self.is_cluster || !plan.is_noted() || link.ask(self.forget_note()).is_ok();
        if is_tidy && !link.is_lost && !matches!(result, Err(Failed::Lost(_))) {
            self.link = Some(link);
        }
        result
    }

    /// A new connection, to a server that has all that was confirmed.
    fn connect(&self) -> Result<Link, Failed> {
        let mut link = Link::connect(&self.settings).map_err(|error| Failed::Refused(for_now(error)))?;
        for (home, last) in last_calls(&mut link, &self.keys, self.incarnation)? {
            match last {
                None => return Err(self.shut_out(&mut link)),
                Some(last) if last < self.calls_made[home.index()] => return Err(Failed::Stopped(lost_writes(&link))),
                Some(_) => {}
            }
        }
        Ok(link)
    }

    fn transaction(&self, link: &mut Link, plan: &Plan) -> Result<(), Failed> {
        let mut commands = Vec::with_capacity(plan.calls.len() + 3);
        commands.push(redis::cmd("MULTI"));
        commands.extend(
            plan.calls
                .iter()
                .map(|call| self.command(plan, call, Some(Home::Global))),
        );
        commands.push(redis::cmd("EXEC"));
        commands.extend(wait(&self.settings));
        let mut replies = link.run(&commands).map_err(Failed::Lost)?.into_iter();
        // An error says why the transaction was not made; EXEC only that.
        for reply in replies.by_ref().take(plan.calls.len() + 1) {
            accepted(link, reply)?;
        }
        let results = replies.next().unwrap_or(Value::Nil);
        let results = accepted(link, results)?;
        for result in list(results).map_err(Failed::Refused)? {
            self.done(link, result)?;
        }
        match replies.next() {
            None => Ok(()),
            Some(reply) => {
                let reply = accepted(link, reply)?;
                waited(&self.settings, link, reply)
            }
        }
    }

    /// The batch as a whole is noted by the call for the global home. Then the others are made. If that ends half-way,
    /// whoever opens the store makes them.
    fn steps(&self, link: &mut Link, plan: &Plan) -> Result<(), Failed> {
        let (global, others) = plan.calls.split_at(1);
        for calls in [global, others] {
            let commands: Vec<_> = calls.iter().map(|call| self.command(plan, call, None)).collect();
            for result in link.run(&commands).map_err(Failed::Lost)? {
                self.done(link, result)?;
            }
        }
        let Some(wait) = wait(&self.settings) else {
            return Ok(());
        };
        for reply in link.ask_each(&wait).map_err(Failed::Refused)? {
            waited(&self.settings, link, reply)?;
        }
        Ok(())
    }

    /// Frees memory when there is none left.
    fn free(&self, link: &mut Link, plan: &mut Plan) -> Result<(), Failed> {
        plan.note(self.incarnation);
        self.steps(link, plan)
    }

    fn forget_note(&self) -> Cmd {
        let mut command = redis::cmd("UNLINK");
        command.arg(self.keys.of(Home::Global, "j"));
        command
    }

    fn command(&self, plan: &Plan, call: &Call, fence: Option<Home>) -> Cmd {
        let name = match plan.only_frees {
            true => &self.scripts.free,
            false => &self.scripts.write,
        };
        call.command(name, &self.keys, self.incarnation, fence)
    }

    /// What a call of the script has answered.
    fn done(&self, link: &mut Link, result: Value) -> Result<(), Failed> {
        let result = accepted(link, result)?;
        match &*bytes(result).map_err(Failed::Refused)? {
            b"OK" | b"DONE" => Ok(()),
            b"GAP" => Err(Failed::Stopped(lost_writes(link))),
            _ => Err(self.shut_out(link)),
        }
    }

    /// Why this incarnation is not in a home any more.
    fn shut_out(&self, link: &mut Link) -> Failed {
        let mut command = redis::cmd("HKEYS");
        command.arg(self.keys.of(Home::Global, "hw"));
        let others = match link.ask(command).and_then(list) {
            Ok(others) => others.into_iter().filter_map(|other| number(other).ok()).max(),
            Err(error) => return Failed::Refused(error),
        };
        let (address, prefix, own) = (link.address(), self.keys.prefix(), self.incarnation);
        Failed::Stopped(StoreError::Refused(match others {
            Some(other) => format!(
                "another broker has taken over the prefix {prefix} in Redis at {address} (incarnation {other} after \
                 {own}): this one can't keep anything any more, and must be stopped"
            ),
            None => format!(
                "what this broker kept under the prefix {prefix} in Redis at {address} is gone: it must be started again"
            ),
        }))
    }
}
