//! Keeps batches: each change once, also if a connection breaks at any moment.
//!
//! Each call carries the incarnation and its number within its home. What was not answered is sent again as it was; so is
//! what Redis has refused, and all later calls of that home.

use std::sync::Arc;

use parking_lot::Mutex;
use redis::{Cmd, Value};

use super::asking;
use super::call::{Call, Outcome, Reached, read_reached};
use super::calls_made::CallsMade;
use super::life::{Life, raised};
use super::owed::Owed;
use super::plan::{Context, Plan};
use super::recent::Recent;
use super::rematch::Additions;
use super::scripts::ClusterScripts;
use super::serving;
use super::witness::Witnesses;
use crate::store::cluster::{Follower, Homes, Incarnation, Serving};
use crate::store::redis::attempt::{Failed, accepted, for_now, insist, last_calls, lost_writes, wait, waited};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::{bytes, number};
use crate::store::{Batch, RedisSettings, StoreError};

/// What goes to Redis in order, by one thread.
#[derive(Debug)]
pub(super) struct Writer {
    settings: RedisSettings,
    pub(super) keys: Keys,
    scripts: ClusterScripts,
    context: Context,
    link: Option<Link>,
    calls_made: CallsMade,
    /// The last batch that was kept.
    last: u64,
    /// The batch that is to be kept.
    plan: Option<Plan>,
    /// What is to be done with the next batch.
    owed: Owed,
    life: Arc<Life>,
    /// The servers that have all that was confirmed.
    serving: Arc<Mutex<Serving>>,
    witnesses: Witnesses,
    /// All buckets have been given up, or are about to be.
    pub(super) has_departed: bool,
    /// Why nothing will be written any more.
    stopped: Option<StoreError>,
}

impl Writer {
    pub(super) fn new(
        settings: &RedisSettings,
        keys: &Keys,
        scripts: &ClusterScripts,
        context: Context,
        link: Link,
        (life, serving, witnesses): (&Arc<Life>, &Arc<Mutex<Serving>>, Witnesses),
    ) -> Writer {
        Writer {
            settings: settings.clone(),
            keys: keys.clone(),
            scripts: scripts.clone(),
            context,
            link: Some(link),
            calls_made: CallsMade::default(),
            last: 0,
            plan: None,
            owed: Owed::default(),
            life: Arc::clone(life),
            serving: Arc::clone(serving),
            witnesses,
            has_departed: false,
            stopped: None,
        }
    }

    pub(super) fn context(&self) -> Context {
        self.context
    }

    /// How many calls each home has confirmed.
    pub(super) fn calls_made(&self) -> &[u64] {
        self.calls_made.all()
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Keeps a batch: what has become of it, unless it was kept before.
    pub(super) fn keep(
        &mut self,
        batch: &Batch<'_>,
        recent: &Recent,
        follower: Option<&dyn Follower>,
    ) -> Result<Option<Plan>, StoreError> {
        if let Some(why) = &self.stopped {
            return Err(why.clone());
        }
        if batch.number <= self.last {
            return Ok(None);
        }
        self.ask_new_server()?;
        let mut plan = match self.plan.take() {
            Some(plan) if plan.batch == batch.number => plan,
            _ => {
                let additions = self.additions(batch, recent)?;
                Plan::new(batch, self.context, &additions, self.calls_made.all(), &self.owed)?
            }
        };
        let result = self.go_on(&mut plan, batch, recent, follower);
        match result {
            Ok(()) => {
                self.last = batch.number;
                self.owed.paid(&plan.onces, plan.identities.values());
                Ok(Some(plan))
            }
            Err(error) => {
                self.plan = Some(plan);
                Err(error)
            }
        }
    }

    /// Keeps a batch that has nothing but messages which nobody is known to want, unless it must be read.
    pub(super) fn pass(&mut self, batch: u64, recent: &Recent) -> Result<bool, StoreError> {
        if let Some(why) = &self.stopped {
            return Err(why.clone());
        }
        self.ask_new_server()?;
        let must_be_read = |recent: &Recent| !recent.of_batch(batch).is_empty();
        if self.plan.is_some() || !self.owed.is_empty() || must_be_read(recent) {
            return Ok(false);
        }
        let mut plan = Plan::to_pass(batch, self.context);
        self.send(&mut plan)?;
        self.catch_up(&plan, recent)?;
        if must_be_read(recent) {
            return Ok(false);
        }
        self.last = self.last.max(batch);
        Ok(true)
    }

    /// A node that writes nothing would not notice what a new server lacks.
    fn ask_new_server(&mut self) -> Result<(), StoreError> {
        if !self.life.is_doubted() {
            return Ok(());
        }
        self.link = None;
        match self.connect() {
            Ok(link) => {
                self.life.trust();
                self.link = Some(link);
                Ok(())
            }
            Err(failed) => {
                let is_over = matches!(failed, Failed::Stopped(_));
                let error = failed.into_error();
                self.stopped = is_over.then(|| error.clone());
                Err(error)
            }
        }
    }

    /// Whether something is to be done with the next batch, whatever that is.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    pub(super) fn close(&mut self) {
        self.link = None;
    }

    /// What has been added to the log since the batch was begun, as far as that is known.
    fn additions(&self, batch: &Batch<'_>, recent: &Recent) -> Result<Additions, StoreError> {
        Additions::new(&recent.of_batch(batch.number), self.context.incarnation)
    }

    /// Writes what remains to be written. Then what others have added meanwhile is known, and the messages go there, too; and what
    /// members of groups could not take goes to other ones.
    fn go_on(
        &mut self,
        plan: &mut Plan,
        batch: &Batch<'_>,
        recent: &Recent,
        follower: Option<&dyn Follower>,
    ) -> Result<(), StoreError> {
        loop {
            self.send(plan)?;
            self.catch_up(plan, recent)?;
            let additions = self.additions(batch, recent)?;
            plan.go_on(batch, &additions, follower, self.calls_made.all())?;
            if !plan.is_pending() {
                return Ok(());
            }
        }
    }

    /// Waits until the log has been applied as far as it was when all had been written.
    fn catch_up(&mut self, plan: &Plan, recent: &Recent) -> Result<(), StoreError> {
        let Some(position) = plan.position else {
            return Ok(());
        };
        if recent.wait_for(position, self.settings.timeout) {
            return Ok(());
        }
        self.look_whether_it_lives()?;
        Err(StoreError::Unavailable(format!(
            "the log of the cluster in Redis has {position} entries, of which {} have come",
            recent.position()
        )))
    }

    /// A node that is dead does not learn of it from its calls if there are none left to make.
    fn look_whether_it_lives(&mut self) -> Result<(), StoreError> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let mut command = redis::cmd("HEXISTS");
        command
            .arg(self.keys.of(Home::Global, "hw"))
            .arg(self.context.incarnation);
        match link.ask(command).and_then(number) {
            Ok(0) => {
                let error = self.fenced().into_error();
                self.stopped = Some(error.clone());
                Err(error)
            }
            Ok(_) => Ok(()),
            Err(error) => {
                self.link = None;
                Err(error)
            }
        }
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.context.incarnation
    }

    /// Nothing has been sent of which it is not known whether it has been done.
    pub(super) fn must_be_idle(&self) -> Result<(), StoreError> {
        match (&self.stopped, &self.plan) {
            (Some(why), _) => Err(why.clone()),
            (None, Some(_)) => Err(StoreError::Unavailable(
                "what was changed last has not been kept yet".to_owned(),
            )),
            (None, None) => Ok(()),
        }
    }

    /// Over the connection that writes, behind all that was written.
    pub(super) fn with_link<T>(
        &mut self,
        work: impl FnOnce(&mut Link) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connect().map_err(Failed::into_error)?,
        };
        let result = work(&mut link);
        if !link.is_lost {
            self.link = Some(link);
        }
        result
    }

    pub(super) fn send(&mut self, plan: &mut Plan) -> Result<(), StoreError> {
        if !plan.is_pending() {
            return Ok(());
        }
        let (timeout, was_idle) = (self.settings.timeout, self.link.is_some());
        let sent = insist(timeout, was_idle, || self.attempt(plan));
        let Err(failed) = sent.and_then(|()| self.check_generation(plan)) else {
            return Ok(());
        };
        let is_over = matches!(failed, Failed::Stopped(_));
        let error = failed.into_error();
        if is_over {
            self.stopped = Some(error.clone());
        }
        Err(error)
    }

    /// What has been done counts for nothing if the generation has ended before.
    fn check_generation(&self, plan: &Plan) -> Result<(), Failed> {
        if plan.generation < self.context.incarnation {
            return Ok(());
        }
        self.life.end_with_generation();
        Err(Failed::Stopped(raised()))
    }

    fn attempt(&mut self, plan: &mut Plan) -> Result<(), Failed> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connect()?,
        };
        let steps = self.steps(&mut link, plan);
        let mut result = steps.and_then(|()| ask(&mut link, &self.keys, plan));
        if matches!(result, Err(Failed::Forgotten))
            && let Err(error) = ClusterScripts::load(&mut link)
        {
            result = Err(Failed::Refused(error));
        }
        if !link.is_lost && !matches!(result, Err(Failed::Lost(_))) {
            self.link = Some(link);
        }
        result
    }

    /// A new connection, to a server that has all that was confirmed, and if it is a new one, all that was read.
    fn connect(&mut self) -> Result<Link, Failed> {
        let mut link = Link::connect(&self.settings).map_err(|error| Failed::Refused(for_now(error)))?;
        for (home, last) in last_calls(&mut link, &self.keys, self.context.incarnation)? {
            match last {
                // It may have said that it leaves, and not heard the answer.
                None if self.has_departed => {}
                None => return Err(self.fenced()),
                Some(last) if last < self.calls_made.of(home) => return Err(Failed::Stopped(lost_writes(&link))),
                Some(_) => {}
            }
        }
        let serving = serving::read(&mut link, &self.keys).map_err(Failed::Lost)?;
        let changed = serving.changed_since(&self.serving.lock());
        let missing = match changed.is_empty() {
            true => Homes::default(),
            false => self
                .witnesses
                .lost(&mut link, &self.keys, changed)
                .map_err(Failed::Lost)?,
        };
        if !missing.is_empty() {
            self.life.miss(missing, lost_writes(&link));
            return Err(Failed::Stopped(lost_writes(&link)));
        }
        *self.serving.lock() = serving;
        Ok(link)
    }

    /// The log has to be behind the rest if others read there of something that they must find then. On several servers, only
    /// answers tell that it is.
    fn steps(&mut self, link: &mut Link, plan: &mut Plan) -> Result<(), Failed> {
        let pending = plan.pending();
        let (firsts, rest): (Vec<_>, Vec<_>) = pending.iter().partition(|call| plan.calls[**call].is_first);
        let is_log = |call: &usize| plan.calls[*call].home == Home::Global;
        let (log, mut others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_log);
        if link.is_cluster() && !firsts.is_empty() && !(others.is_empty() && log.is_empty()) {
            self.step(link, plan, &firsts, false)?;
        } else {
            others.splice(0..0, firsts);
        }
        if !log.is_empty() && !others.is_empty() && (plan.log_tells || link.is_cluster()) {
            self.step(link, plan, &others, false)?;
            self.step(link, plan, &log, true)
        } else {
            self.step(link, plan, &[others, log].concat(), true)
        }
    }

    /// Makes these calls, and reads how far the log is then if it is the last step.
    fn step(&mut self, link: &mut Link, plan: &mut Plan, which: &[usize], is_last: bool) -> Result<(), Failed> {
        let wait = wait(&self.settings);
        let calls = which.iter().map(|call| self.command(plan, *call));
        let position = (is_last && plan.needs_position).then(|| self.position(wait.is_some()));
        let commands = calls.chain(position).chain(wait.clone().filter(|_| !link.is_cluster()));
        let mut replies = link.run(commands).map_err(Failed::Lost)?.into_iter();
        let outcomes: Vec<_> = which
            .iter()
            .map(|call| self.outcome(link, &plan.calls[*call], replies.next()))
            .collect();
        let asks = is_last && plan.needs_position;
        let rest = self.rest(link, &mut replies, asks, wait.as_ref());
        self.settle(plan, which, outcomes, rest.is_ok())?;
        if let Some(reached) = rest? {
            plan.reached(reached);
        }
        Ok(())
    }

    /// What is answered behind the calls: how far the log is, if it was asked for, and that all is as durable as it must be.
    fn rest(
        &self,
        link: &mut Link,
        replies: &mut impl Iterator<Item = Value>,
        asks: bool,
        wait: Option<&Cmd>,
    ) -> Result<Option<Reached>, Failed> {
        let mut next = || replies.next().unwrap_or(Value::Nil);
        let reached = match asks {
            true => Some(read_reached(accepted(link, next())?).map_err(Failed::Refused)?),
            false => None,
        };
        let waits = match wait {
            Some(wait) if link.is_cluster() => link.ask_each(wait).map_err(Failed::Refused)?,
            Some(_) => vec![accepted(link, next())?],
            None => Vec::new(),
        };
        for reply in waits {
            waited(&self.settings, link, reply)?;
        }
        Ok(reached)
    }

    /// What was answered is done if it is durable. If something was not, the first failure is the cause of the others.
    fn settle(
        &mut self,
        plan: &mut Plan,
        which: &[usize],
        outcomes: Vec<Result<Outcome, Failed>>,
        is_durable: bool,
    ) -> Result<(), Failed> {
        let mut result = Ok(());
        for (call, outcome) in which.iter().zip(outcomes) {
            match outcome {
                Ok(outcome) => {
                    let call = &mut plan.calls[*call];
                    call.answered(outcome);
                    if is_durable {
                        call.is_done = true;
                        self.calls_made.confirm(call.home, call.number);
                    }
                }
                Err(stopped @ Failed::Stopped(_)) => result = Err(stopped),
                Err(failed) if result.is_ok() => result = Err(failed),
                Err(_) => {}
            }
        }
        result
    }

    fn command(&self, plan: &Plan, call: usize) -> Cmd {
        plan.calls[call].command(&plan.messages, &self.scripts, &self.keys, self.context.incarnation)
    }

    /// Reads the position of the log, and which generation is over. What WAIT covers is writes: an old master must not answer with an old one.
    fn position(&self, is_waited_for: bool) -> Cmd {
        if is_waited_for {
            return self.scripts.position(&self.keys);
        }
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys.of(Home::Global, "meta")).arg(&["pos", "gen"]);
        command
    }

    fn outcome(&self, link: &Link, call: &Call, reply: Option<Value>) -> Result<Outcome, Failed> {
        let mut parts = match accepted(link, reply.unwrap_or(Value::Nil))? {
            Value::Array(parts) => parts.into_iter(),
            word => vec![word].into_iter(),
        };
        let mut next = || parts.next().unwrap_or(Value::Nil);
        match &*bytes(next()).map_err(Failed::Refused)? {
            b"OK" => call.read(parts).map_err(Failed::Refused),
            b"DONE" => Ok(Outcome::Unknown),
            b"GAP" => {
                let last = number(next()).map_err(Failed::Refused)?;
                Err(self.gap(link, call.home, last))
            }
            _ => Err(self.fenced()),
        }
    }

    /// A call came before another one of its home, which Redis has refused; or which it has forgotten.
    fn gap(&self, link: &Link, home: Home, last: u64) -> Failed {
        match last < self.calls_made.of(home) {
            true => Failed::Stopped(lost_writes(link)),
            false => Failed::Refused(StoreError::Unavailable(format!(
                "Redis at {} has refused a call before this one",
                link.address()
            ))),
        }
    }

    fn fenced(&self) -> Failed {
        Failed::Stopped(StoreError::Refused(format!(
            "this node was declared dead by another one of the cluster, as Redis had not heard of it for too long, or what is under \
             the prefix {} is gone: incarnation {} can't keep anything any more, and must begin anew",
            self.keys.prefix(),
            self.context.incarnation
        )))
    }
}

/// What was answered by calls that had been done already.
fn ask(link: &mut Link, keys: &Keys, plan: &mut Plan) -> Result<(), Failed> {
    for call in plan.calls.iter_mut().filter(|call| call.must_be_asked()) {
        let mut read = Vec::new();
        for reply in link.run(asking::commands(call, keys)).map_err(Failed::Lost)? {
            read.push(accepted(link, reply)?);
        }
        call.outcome = Some(asking::outcome(call, read).map_err(Failed::Refused)?);
    }
    Ok(())
}
