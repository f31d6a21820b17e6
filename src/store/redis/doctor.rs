//! Looks whether all that is in Redis belongs together: nothing without an owner, a due time, or a session.
//!
//! It changes nothing, and may look while a broker is at work. What is in motion then looks like a fault for a moment; so
//! it looks twice, and tells what it has seen both times.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use redis::{Cmd, Value};

use super::cluster;
use super::keys::{Home, Keys, Schema};
use super::link::Link;
use super::open::schema_of;
use super::read;
use super::reply::{bytes, bytes_or_none, list, number, parse};
use super::script::Scripts;
use crate::store::op::{Lane, Uid};
use crate::store::{Page, RedisSettings, StoreError, StoredSession};

/// What there is, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The broker that may write, or was the last that might.
    pub(crate) incarnation: u64,
    pub(crate) keys: u64,
    pub(crate) sessions: u64,
    pub(crate) messages: u64,
    pub(crate) wills: u64,
    pub(crate) retained: u64,
    /// In the store of a cluster.
    pub(crate) members: Option<Members>,
    pub(crate) faults: BTreeSet<String>,
}

/// What there is in a cluster beside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// Nodes that live, or have died and were not declared dead.
    pub(crate) living: BTreeSet<u64>,
    /// Nodes whose remains are being recovered.
    pub(crate) recovered: BTreeSet<u64>,
    /// Of which there is a session, a will or a connection.
    pub(crate) clients: u64,
    /// Messages that have begun, and must have effect once.
    pub(crate) jobs: u64,
    /// Messages of which buckets have noted that they have them; one counts in each of them.
    pub(crate) onces: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "incarnation: {}", self.incarnation)?;
        if let Some(members) = &self.members {
            writeln!(f, "nodes: {:?}", members.living)?;
            writeln!(f, "dead nodes: {:?}", members.recovered)?;
            writeln!(f, "clients: {}", members.clients)?;
            writeln!(f, "messages that have begun: {}", members.jobs)?;
            writeln!(f, "messages that are noted as put into queues: {}", members.onces)?;
        }
        writeln!(f, "keys: {}", self.keys)?;
        writeln!(f, "sessions: {}", self.sessions)?;
        writeln!(f, "queued messages: {}", self.messages)?;
        writeln!(f, "wills: {}", self.wills)?;
        writeln!(f, "retained messages: {}", self.retained)?;
        for fault in &self.faults {
            writeln!(f, "fault: {fault}")?;
        }
        match self.faults.len() {
            0 => write!(f, "no faults"),
            faults => write!(f, "faults: {faults}"),
        }
    }
}

/// Looks at all that is under the prefix.
///
/// # Errors
/// If Redis can't be reached, or refuses to show it.
pub(crate) fn doctor(settings: &RedisSettings) -> Result<Report, StoreError> {
    let keys = Keys::new(&settings.prefix)?;
    let mut link = Link::connect(settings)?;
    match schema_of(&mut link, &keys)? {
        Some(Schema::One) => of_one(&mut link, &keys),
        Some(Schema::Cluster) => cluster::doctor(&mut link, &keys.in_cluster()),
        None => Err(StoreError::Refused(format!(
            "there is nothing of a broker under the prefix {} in Redis at {}",
            keys.prefix(),
            link.address()
        ))),
    }
}

/// The store of one broker.
fn of_one(link: &mut Link, keys: &Keys) -> Result<Report, StoreError> {
    let scripts = Scripts::load(link)?;
    let first = Examination::run(link, keys, &scripts)?;
    if first.faults.is_empty() {
        return Ok(first);
    }
    let mut second = Examination::run(link, keys, &scripts)?;
    second.faults.retain(|fault| first.faults.contains(fault));
    Ok(second)
}

/// Keys of sessions, queues and wills that one bucket has.
#[derive(Default)]
struct Found {
    records: BTreeSet<Uid>,
    live: BTreeSet<Uid>,
    replayed: BTreeSet<Uid>,
    wills: BTreeSet<Uid>,
    owners: BTreeSet<u64>,
}

/// What a bucket says about its sessions and wills, beside their own keys.
#[derive(Default)]
struct Listed {
    sessions: BTreeSet<Uid>,
    wills: BTreeSet<Uid>,
    due: BTreeMap<Uid, u64>,
    owned: BTreeSet<Uid>,
    incarnations: BTreeMap<u64, u64>,
}

/// Fields of a session that nobody reads but the scripts, and when its will is due.
struct Terms {
    floor: u64,
    expiry: u64,
    away: u64,
    will_delay: Option<u64>,
}

struct Examination<'a> {
    link: &'a mut Link,
    keys: &'a Keys,
    scripts: &'a Scripts,
    report: Report,
}

impl Examination<'_> {
    fn run(link: &mut Link, keys: &Keys, scripts: &Scripts) -> Result<Report, StoreError> {
        let mut examination = Examination {
            link,
            keys,
            scripts,
            report: Report::default(),
        };
        examination.meta()?;
        let mut found = examination.find()?;
        for home in Home::buckets() {
            examination.bucket(home, &found.remove(&home).unwrap_or_default())?;
        }
        examination.retained()?;
        Ok(examination.report)
    }

    fn fault(&mut self, fault: String) {
        self.report.faults.insert(fault);
    }

    /// Notes what is damaged; every other error ends the examination.
    fn noted<T>(&mut self, result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Damaged(what)) => {
                self.fault(what);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn meta(&mut self) -> Result<(), StoreError> {
        let incarnations = self.incarnations(Home::Global)?;
        self.report.incarnation = incarnations.keys().max().copied().unwrap_or(0);
        let mut inc = redis::cmd("GET");
        inc.arg(self.keys.of(Home::Global, "inc"));
        let begun = self.link.ask(inc).and_then(number)?;
        if incarnations.len() != 1 || self.report.incarnation > begun {
            self.fault(format!(
                "{{g}}: incarnations {:?} of {begun} may write",
                incarnations.keys()
            ));
        }
        Ok(())
    }

    fn incarnations(&mut self, home: Home) -> Result<BTreeMap<u64, u64>, StoreError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.keys.of(home, "hw"));
        let fields = self.link.ask(command).and_then(list)?;
        pairs(fields)
    }

    /// All keys under the prefix.
    fn find(&mut self) -> Result<BTreeMap<Home, Found>, StoreError> {
        let mut found: BTreeMap<Home, Found> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let pattern = format!("{}:{{*", self.keys.prefix());
        for key in self.link.scan(&pattern)? {
            if !seen.insert(key.clone()) {
                continue;
            }
            self.report.keys += 1;
            let known = std::str::from_utf8(&key).ok().and_then(|key| self.keys.parse(key));
            let is_known = known.is_some_and(|(home, name)| found.entry(home).or_default().add(home, name));
            if !is_known {
                self.fault(format!(
                    "key {:?} is none of this schema",
                    String::from_utf8_lossy(&key)
                ));
            }
        }
        Ok(found)
    }

    fn bucket(&mut self, home: Home, found: &Found) -> Result<(), StoreError> {
        let listed = self.listed(home, found)?;
        let Some(listed) = self.noted(listed)? else {
            return Ok(());
        };
        self.report.sessions += listed.sessions.len() as u64;
        self.report.wills += listed.wills.len() as u64;
        if !listed.incarnations.keys().eq([self.report.incarnation].iter()) {
            let who: Vec<_> = listed.incarnations.keys().collect();
            self.fault(format!(
                "{home:?}: incarnations {who:?} may write, not only {}",
                self.report.incarnation
            ));
        }
        if found.owners.iter().any(|owner| *owner != self.report.incarnation) {
            self.fault(format!("{home:?}: {:?} own sessions", found.owners));
        }
        self.same(
            home,
            "sessions that are listed, and records",
            &listed.sessions,
            &found.records,
        );
        self.same(home, "wills that are listed, and wills", &listed.wills, &found.wills);
        for (what, uids) in [("queue", &found.live), ("lane of replays", &found.replayed)] {
            for uid in uids.difference(&found.records) {
                self.fault(format!("session {uid} has a {what}, and no record"));
            }
        }
        let everyone: BTreeSet<_> = found.records.union(&found.wills).copied().collect();
        for uid in listed
            .due
            .keys()
            .chain(&listed.owned)
            .filter(|uid| !everyone.contains(uid))
        {
            self.fault(format!(
                "{home:?}: {uid} has an owner or a due time, and is no session and no will"
            ));
        }
        for uid in everyone {
            self.one(home, uid, &listed)?;
        }
        Ok(())
    }

    /// An inner error says what is damaged.
    fn listed(&mut self, home: Home, found: &Found) -> Result<Result<Listed, StoreError>, StoreError> {
        let key = |name: &str| self.keys.of(home, name);
        let mut commands = vec![
            command("SMEMBERS", &key("sessions"), &[]),
            command("SMEMBERS", &key("wills"), &[]),
            command("ZRANGE", &key("t"), &["0", "-1", "WITHSCORES"]),
            command("HGETALL", &key("hw"), &[]),
        ];
        commands.extend(
            found
                .owners
                .iter()
                .map(|owner| command("SMEMBERS", &key(&format!("own:{owner}")), &[])),
        );
        let mut replies = self.link.run(&commands)?.into_iter();
        let mut next = || self.link.checked(replies.next().unwrap_or(Value::Nil)).and_then(list);
        let mut read = || {
            let mut listed = Listed {
                sessions: numbers(next()?)?,
                wills: numbers(next()?)?,
                due: pairs(next()?)?,
                incarnations: pairs(next()?)?,
                owned: BTreeSet::new(),
            };
            for _ in &found.owners {
                listed.owned.extend(numbers(next()?)?);
            }
            Ok(listed)
        };
        Ok(read())
    }

    fn same(&mut self, home: Home, what: &str, one: &BTreeSet<Uid>, other: &BTreeSet<Uid>) {
        let difference: Vec<_> = one.symmetric_difference(other).take(10).collect();
        if !difference.is_empty() {
            self.fault(format!("{home:?}: {what} are not the same: {difference:?}"));
        }
    }

    /// A session or a will.
    fn one(&mut self, home: Home, uid: Uid, listed: &Listed) -> Result<(), StoreError> {
        let terms = self.terms(home, uid);
        let Some(terms) = self.noted(terms)? else {
            return Ok(());
        };
        let (due, is_owned) = match &terms {
            Some(terms) if terms.away > 0 => (terms.due(), false),
            _ => (None, true),
        };
        if listed.due.get(&uid).copied() != due {
            self.fault(format!(
                "session {uid} is due at {due:?}, and {:?} is noted",
                listed.due.get(&uid)
            ));
        }
        if listed.owned.contains(&uid) != is_owned {
            self.fault(format!(
                "session or will {uid} has {} owner",
                if is_owned { "no" } else { "an" }
            ));
        }
        if listed.wills.contains(&uid) {
            let will = read::wills(self.link, self.keys, &[(uid, home)], &mut |_| {});
            self.noted(will)?;
        }
        let mut session = None;
        let read = read::sessions(self.link, self.keys, &[(uid, home)], &mut |read| session = Some(read));
        self.noted(read)?;
        match (session, terms) {
            (Some(session), Some(terms)) => self.queues(home, &session, terms.floor),
            _ => Ok(()),
        }
    }

    /// `None` if there is no record.
    fn terms(&mut self, home: Home, uid: Uid) -> Result<Option<Terms>, StoreError> {
        let replies = self.link.run(&[
            command("HMGET", &self.keys.session(home, uid), &["floor", "expiry", "away"]),
            command("GETRANGE", &self.keys.will(home, uid), &["0", "3"]),
        ])?;
        let mut replies = replies.into_iter().map(|reply| self.link.checked(reply));
        let mut next = || replies.next().unwrap_or(Ok(Value::Nil));
        let mut fields = list(next()?)?.into_iter().map(bytes_or_none);
        let mut field = || fields.next().unwrap_or(Ok(None));
        let (floor, expiry, away) = (field()?, field()?, field()?);
        let will = bytes(next()?)?;
        let (Some(floor), Some(expiry), Some(away)) = (floor, expiry, away) else {
            return Ok(None);
        };
        Ok(Some(Terms {
            floor: parse(&floor)?,
            expiry: parse(&expiry)?,
            away: parse(&away)?,
            will_delay: will.try_into().ok().map(|delay| u64::from(u32::from_be_bytes(delay))),
        }))
    }

    fn queues(&mut self, home: Home, session: &StoredSession, floor: u64) -> Result<(), StoreError> {
        let uid = session.uid;
        for (lane, extent, floor) in [(Lane::Live, session.live, floor), (Lane::Replayed, session.replayed, 0)] {
            let (mut count, mut bytes, mut from) = (0, 0, 0);
            loop {
                let page = read::queue(self.link, (self.keys, home, uid, lane), self.scripts, from, PAGE);
                let Some(page) = self.noted(page)? else {
                    return Ok(());
                };
                let Some(last) = page.last() else {
                    break;
                };
                if page[0].index < floor {
                    self.fault(format!(
                        "session {uid} has place {} below its floor {floor}",
                        page[0].index
                    ));
                }
                from = last.index.saturating_add(1);
                count += page.len() as u64;
                bytes += page.iter().map(|entry| entry.bytes() as u64).sum::<u64>();
            }
            self.report.messages += count;
            if (count, bytes) != (extent.count, extent.bytes) {
                self.fault(format!(
                    "session {uid} has {count} messages of {bytes} bytes in lane {lane:?}, and {} of {} are noted",
                    extent.count, extent.bytes
                ));
            }
        }
        Ok(())
    }

    fn retained(&mut self) -> Result<(), StoreError> {
        let mut count = 0;
        let read = read::retained(self.link, self.keys, &mut |_| count += 1);
        self.noted(read)?;
        self.report.retained = count;
        Ok(())
    }
}

const PAGE: Page = Page {
    messages: 1_000,
    bytes: 4 * 1024 * 1024,
};

impl Found {
    /// Whether the key is one of the schema.
    fn add(&mut self, home: Home, name: &str) -> bool {
        if home == Home::Global {
            return matches!(name, "meta" | "inc" | "hw" | "ret" | "j");
        }
        let (kind, of) = name.split_once(':').unwrap_or((name, ""));
        let Ok(number) = of.parse() else {
            return matches!(name, "hw" | "sessions" | "wills" | "t");
        };
        let set = match kind {
            "s" => &mut self.records,
            "q" => &mut self.live,
            "r" => &mut self.replayed,
            "w" => &mut self.wills,
            "own" => &mut self.owners,
            _ => return false,
        };
        set.insert(number)
    }
}

impl Terms {
    /// As the script notes it.
    fn due(&self) -> Option<u64> {
        let expiry = (self.expiry != u64::from(u32::MAX)).then_some(self.expiry);
        let delay = [expiry, self.will_delay].into_iter().flatten().min();
        delay.map(|delay| self.away + delay * 1000)
    }
}

fn command(name: &str, key: &str, arguments: &[&str]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key).arg(arguments);
    command
}

fn numbers(items: Vec<Value>) -> Result<BTreeSet<u64>, StoreError> {
    items.into_iter().map(number).collect()
}

fn pairs(items: Vec<Value>) -> Result<BTreeMap<u64, u64>, StoreError> {
    let (pairs, _) = items.as_chunks::<2>();
    let pair = |[name, value]: &[Value; 2]| Ok((number(name.clone())?, number(value.clone())?));
    pairs.iter().map(pair).collect()
}
