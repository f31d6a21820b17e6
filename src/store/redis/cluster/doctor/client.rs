//! Clients: who owns each, which session it has, and when something of it is due.

use std::collections::{BTreeMap, BTreeSet};

use redis::Value;

use super::Examination;
use super::bucket::optional;
use super::fault::{Advice, Fault, quoted};
use crate::store::cluster::{Incarnation, Token, bucket_of_client, bucket_of_uid};
use crate::store::redis::entry::read_will;
use crate::store::redis::keys::Home;
use crate::store::redis::read::pairs;
use crate::store::redis::reply::{list, number, parse, text};
use crate::store::redis::script;
use crate::store::{StoreError, Uid, read_client};

/// A client at one moment.
#[derive(Debug, Default)]
struct Look {
    fields: BTreeMap<String, Vec<u8>>,
    due: Option<u64>,
    /// Nodes in whose set it is.
    owners: BTreeSet<Incarnation>,
    /// Of its session: the client, the owner, and the Session Expiry Interval.
    session: Vec<Option<Vec<u8>>>,
    /// Of its wills that have begun to be published, those that are no jobs.
    lost_wills: Vec<String>,
}

/// What the fields say.
#[derive(Debug, Default)]
struct Client {
    owner: Option<Token>,
    next: Option<Token>,
    opened: Option<Token>,
    uid: Option<Uid>,
    will: Option<Vec<u8>>,
    will_at: Option<u64>,
    ends_at: Option<u64>,
    /// A will has begun to be published.
    has_wills: bool,
    /// Its node has left.
    is_left: bool,
}

/// Clients that are looked at with one pipeline.
const AT_A_TIME: usize = 500;
/// A Session Expiry Interval without end.
const NEVER: u64 = u32::MAX as u64;

impl Examination<'_> {
    pub(super) fn clients(
        &mut self,
        bucket: u8,
        clients: &BTreeSet<&String>,
        owners: &BTreeSet<Incarnation>,
    ) -> Result<(), StoreError> {
        let home = Home::Bucket(bucket);
        let clients: Vec<_> = clients.iter().copied().collect();
        for part in clients.chunks(AT_A_TIME) {
            let commands: Vec<_> = part
                .iter()
                .map(|cid| {
                    let mut command = script::call(&self.looks.client, &self.key(home, &format!("c:{cid}")));
                    command.arg(*cid).arg(owners.iter().collect::<Vec<_>>());
                    command
                })
                .collect();
            let replies = self.link.run(&commands)?;
            for (cid, reply) in part.iter().zip(replies) {
                let look = self.link.checked(reply).and_then(look);
                if let Some(look) = self.noted(home, &format!("c:{cid}"), look)? {
                    self.client(bucket, cid, &look);
                }
            }
        }
        Ok(())
    }

    fn client(&mut self, bucket: u8, cid: &str, look: &Look) {
        let key = self.key(Home::Bucket(bucket), &format!("c:{cid}"));
        if look.fields.is_empty() {
            return self.absent(bucket, cid, look);
        }
        self.report.clients += 1;
        let client = match Client::read(&look.fields) {
            Ok(client) => client,
            Err(what) => return self.fault(Fault::new(key, what, Advice::Lost)),
        };
        self.report.wills += u64::from(client.will.is_some());
        if bucket_of_client(cid) != bucket {
            let what = "this client belongs into another bucket";
            return self.fault(Fault::new(key, what, Advice::Stranger));
        }
        self.owner(bucket, cid, &client, look);
        let faults = [
            fault_of_wills(&key, look),
            client.fault_of_time(look),
            client.fault_of_will(),
        ];
        for (what, advice) in faults.into_iter().flatten() {
            self.fault(Fault::new(&*key, what, advice));
        }
        if let Some((kind, what)) = fault_of_session(&client, cid, look) {
            self.fault(Fault::new(&*key, what, Advice::BeginAnew).of_kind(kind));
        }
        if look.due != client.due() {
            self.due(bucket, cid, client.due(), look.due);
        }
    }

    /// There is nothing of the client: there must be no mention of it either.
    fn absent(&mut self, bucket: u8, cid: &str, look: &Look) {
        for node in &look.owners {
            let own = self.key(Home::Bucket(bucket), &format!("own:{node}"));
            let command = format!("SREM {own} {}", quoted(cid));
            let what = format!("there is nothing of the client {cid:?}, which is in it");
            self.fault(Fault::new(own, what, Advice::Run(command)));
        }
        if look.due.is_some() {
            self.due(bucket, cid, None, look.due);
        }
    }

    fn owner(&mut self, bucket: u8, cid: &str, client: &Client, look: &Look) {
        let home = Home::Bucket(bucket);
        let key = self.key(home, &format!("c:{cid}"));
        let owner = client.owner.map(|token| token.incarnation);
        if let Some(node) = owner {
            self.mention(node, &key, "it owns this client");
        }
        if let Some(node) = owner.filter(|node| !look.owners.contains(node)) {
            let own = self.key(home, &format!("own:{node}"));
            let what = format!("node {node} owns it, and {own} does not say so: if that node dies, it stays");
            let command = format!("SADD {own} {}", quoted(cid));
            self.fault(Fault::new(&*key, what, Advice::Run(command)));
        }
        for node in look.owners.iter().filter(|node| Some(**node) != owner) {
            let own = self.key(home, &format!("own:{node}"));
            let what = format!("the client {cid:?} is in it, which {owner:?} owns");
            let command = format!("SREM {own} {}", quoted(cid));
            self.fault(Fault::new(own, what, Advice::Run(command)).of_kind(format!("not the owner of {cid:?}")));
        }
    }

    fn due(&mut self, bucket: u8, cid: &str, right: Option<u64>, noted: Option<u64>) {
        let t = self.key(Home::Bucket(bucket), "t");
        let command = match right {
            Some(time) => format!("ZADD {t} {time} {}", quoted(cid)),
            None => format!("ZREM {t} {}", quoted(cid)),
        };
        let what = format!("something of the client {cid:?} is due at {right:?}, and {noted:?} is noted");
        self.fault(Fault::new(t, what, Advice::Run(command)).of_kind(format!("due of {cid:?}")));
    }
}

impl Client {
    fn read(fields: &BTreeMap<String, Vec<u8>>) -> Result<Client, String> {
        let mut client = Client::default();
        for (name, value) in fields {
            let wrong = || format!("its field {name:?} can't be read");
            let token = || {
                let text = std::str::from_utf8(value).ok();
                text.and_then(Token::parse).map(Some).ok_or_else(wrong)
            };
            let number = || parse(value).map(Some).map_err(|_| wrong());
            match &**name {
                "owner" => client.owner = token()?,
                "next" => client.next = token()?,
                "opened" => client.opened = token()?,
                "uid" => client.uid = number()?,
                "will_at" => client.will_at = number()?,
                "ends_at" => client.ends_at = number()?,
                "left" => client.is_left = true,
                "wills" => client.has_wills = true,
                "will" => client.will = Some(value.clone()),
                _ => return Err(format!("nothing has a field {name:?}")),
            }
        }
        Ok(client)
    }

    /// Somebody has begun with it, and nothing waits any more.
    fn is_open(&self) -> bool {
        self.owner.is_some() && self.opened == self.owner
    }

    /// As the scripts note it.
    fn due(&self) -> Option<u64> {
        let times = [self.will_at, self.ends_at].into_iter().flatten();
        times.min().filter(|_| self.owner.is_none())
    }

    /// What is due, and of whom, does not go together.
    fn fault_of_time(&self, look: &Look) -> Option<(String, Advice)> {
        let (is_free, is_open) = (self.owner.is_none(), self.is_open());
        let expiry = look.session.get(2).and_then(Option::as_deref);
        let expiry: Option<u64> = expiry.and_then(|expiry| parse(expiry).ok());
        let ends_when_it_should = expiry.is_none_or(|expiry| (expiry == NEVER) == self.ends_at.is_none());
        let faults = [
            (
                is_free && self.next.is_some(),
                "somebody waits for it, and nobody has it",
            ),
            (
                self.opened.is_some() && !is_open,
                "somebody has begun with it who does not own it",
            ),
            (
                is_free && self.uid.is_none() && self.will.is_none() && !self.has_wills,
                "there is nothing of it, and nobody owns it",
            ),
            (
                self.will.is_none() && self.will_at.is_some(),
                "a will is due that is not there",
            ),
            (
                self.is_left && self.will_at.is_none(),
                "its node has left, and no will waits",
            ),
            (
                self.uid.is_none() && self.ends_at.is_some(),
                "a session ends that is not there",
            ),
            (
                is_open && (self.will_at.is_some() || self.ends_at.is_some()),
                "its client is there, and something is due",
            ),
            (
                is_free && self.will.is_some() && self.will_at.is_none(),
                "its will waits, and is never due",
            ),
            (
                is_free && self.uid.is_some() && !ends_when_it_should,
                "when its session ends is not what its record says",
            ),
        ];
        let (_, what) = faults.into_iter().find(|(is_so, _)| *is_so)?;
        Some((what.to_owned(), Advice::Lost))
    }

    fn fault_of_will(&self) -> Option<(String, Advice)> {
        let error = match read_will(0, self.will.as_deref()?) {
            Ok(will) => read_client(&will.client).err()?,
            Err(error) => error,
        };
        let what = format!("its will can't be read: {}", error.0);
        Some((what, Advice::Lost))
    }
}

/// Nobody gets the client before they have been published.
fn fault_of_wills(key: &str, look: &Look) -> Option<(String, Advice)> {
    let lost = look.lost_wills.first()?;
    let what = format!("it waits for the will {lost:?}, which is no job: nobody can connect as this client");
    Some((what, Advice::Run(format!("HDEL {key} wills"))))
}

/// Its kind, and what is said.
fn fault_of_session(client: &Client, cid: &str, look: &Look) -> Option<(&'static str, String)> {
    let uid = client.uid?;
    let field = |number: usize| look.session.get(number).and_then(Option::as_deref);
    let owner = client.owner.filter(|_| client.is_open());
    let owner = owner.map(|token| token.incarnation.to_string());
    match field(0) {
        None => Some(("no session", format!("its session {uid} is not there"))),
        Some(of) if of != cid.as_bytes() => Some((
            "session of another",
            format!("its session {uid} is that of another client"),
        )),
        _ if bucket_of_uid(uid) != bucket_of_client(cid) => {
            Some(("session elsewhere", format!("its session {uid} is of another bucket")))
        }
        _ if field(1) != owner.as_deref().map(str::as_bytes) => {
            let other = field(1).map(String::from_utf8_lossy);
            let what = format!("{owner:?} has it, and its session {uid} belongs to {other:?}");
            Some(("owner of the session", what))
        }
        _ => None,
    }
}

fn look(reply: Value) -> Result<Look, StoreError> {
    let mut parts = list(reply)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let fields = pairs(next())?.into_iter();
    let fields = fields.map(|(name, value)| (String::from_utf8_lossy(&name).into_owned(), value));
    Ok(Look {
        fields: fields.collect(),
        due: match next() {
            Value::Nil => None,
            due => Some(number(due)?),
        },
        owners: list(next())?.into_iter().map(number).collect::<Result<_, _>>()?,
        session: optional(next())?,
        lost_wills: list(next())?.into_iter().map(text).collect::<Result<_, _>>()?,
    })
}
