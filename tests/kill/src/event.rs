//! What the clients of a round have sent and received, in the order in which it happened, and what was done to the broker.
//!
//! One thread runs all clients, so that the order is total: "the SUBACK had been received when the PUBLISH was sent" is a
//! comparison of two places in the log.

use std::fmt;
use std::rc::Rc;

pub type Name = Rc<str>;

/// Never, as a Session Expiry Interval.
pub const NEVER: u32 = u32::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since the round began.
    pub at: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A client has written this to its connection; whether it has arrived is not known.
    Sent(Name, Step),
    /// A client has received this.
    Got(Name, Step),
    /// The connection has ended, and not by the client.
    Closed(Name),
    /// The client has closed its connection without a DISCONNECT.
    Dropped(Name),
    /// The client has left its connection open, which has this name from now on.
    Left(Name, Name),
    /// For who reads the log.
    Note(String),
    World(World),
}

/// What happens around the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// The broker is killed with SIGKILL.
    Kill,
    /// The broker is asked to end with SIGTERM.
    Term,
    /// The broker is stopped, and does nothing until it goes on or is killed.
    Stop,
    /// It goes on.
    Cont,
    /// The server that the broker stores in is killed.
    StoreKill,
    /// That server serves again.
    StoreReady,
    /// The broker is a cluster: what is said of the broker is said of one of its nodes.
    Cluster,
    /// Something is wrong between a node and the store.
    Apart,
    /// What the store confirms from here on it loses when it is killed.
    Loses,
    /// A node of a cluster was declared dead, here or before.
    Dead,
    /// The broker serves; of a cluster, each node.
    Ready,
    /// All has been sent and waited for.
    End,
}

/// A Control Packet, as far as the checker looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Connect(Connect),
    Connack { present: bool, code: u8 },
    Publish(Publish),
    Ack(Ack, u16, u8),
    Subscribe(Subscribe),
    Suback { id: u16, code: u8 },
    Unsubscribe { id: u16, filter: Name },
    Unsuback { id: u16, code: u8 },
    Disconnect { code: u8, expiry: Option<u32> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub clean: bool,
    /// Seconds for which the session outlives the connection; of an MQTT 3 client 0 or [`NEVER`].
    pub expiry: u32,
    pub will: Option<Will>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub topic: Name,
    pub label: Name,
    pub qos: u8,
    /// Will Delay Interval, in seconds.
    pub delay: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub id: u16,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub topic: Name,
    /// Names the message; what is received and is not what anybody has sent has a name that nobody has given.
    pub label: Name,
    /// Without a payload, which removes the retained message. The receiver has no label then.
    pub empty: bool,
    /// Subscription Identifiers, of a received message.
    pub sids: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    pub id: u16,
    pub filter: Name,
    pub qos: u8,
    /// Subscription Identifier; 0 is none.
    pub sid: u32,
}

impl World {
    const ALL: [(World, &'static str); 12] = [
        (World::Kill, "kill"),
        (World::Term, "term"),
        (World::Stop, "stop"),
        (World::Cont, "cont"),
        (World::StoreKill, "store-kill"),
        (World::StoreReady, "store-ready"),
        (World::Cluster, "cluster"),
        (World::Apart, "apart"),
        (World::Loses, "loses"),
        (World::Dead, "dead"),
        (World::Ready, "ready"),
        (World::End, "end"),
    ];
}

impl Ack {
    const ALL: [(Ack, &'static str); 4] = [
        (Ack::Puback, "PUBACK"),
        (Ack::Pubrec, "PUBREC"),
        (Ack::Pubrel, "PUBREL"),
        (Ack::Pubcomp, "PUBCOMP"),
    ];

    pub fn name(self) -> &'static str {
        name_in(&Ack::ALL, self)
    }
}

fn name_in<T: PartialEq>(all: &[(T, &'static str)], one: T) -> &'static str {
    all.iter().find(|(other, _)| *other == one).expect("all are listed").1
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let What::Note(text) = &self.what {
            return write!(f, "# {} {text}", self.at);
        }
        write!(f, "{} ", self.at)?;
        match &self.what {
            What::Sent(client, step) => write!(f, "{client} > {step}"),
            What::Got(client, step) => write!(f, "{client} < {step}"),
            What::Closed(client) => write!(f, "{client} = closed"),
            What::Dropped(client) => write!(f, "{client} = dropped"),
            What::Left(client, ghost) => write!(f, "{client} = left {ghost}"),
            What::Note(_) => Ok(()),
            What::World(world) => write!(f, "* {}", name_in(&World::ALL, *world)),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Connect(connect) => write!(f, "{connect}"),
            Step::Connack { present, code } => write!(f, "CONNACK present={} code={code}", u8::from(*present)),
            Step::Publish(publish) => write!(f, "{publish}"),
            Step::Ack(ack, id, code) => write!(f, "{} id={id} code={code}", ack.name()),
            Step::Subscribe(s) => write!(
                f,
                "SUBSCRIBE id={} filter={} qos={} sid={}",
                s.id, s.filter, s.qos, s.sid
            ),
            Step::Suback { id, code } => write!(f, "SUBACK id={id} code={code}"),
            Step::Unsubscribe { id, filter } => write!(f, "UNSUBSCRIBE id={id} filter={filter}"),
            Step::Unsuback { id, code } => write!(f, "UNSUBACK id={id} code={code}"),
            Step::Disconnect { code, expiry: None } => write!(f, "DISCONNECT code={code}"),
            Step::Disconnect {
                code,
                expiry: Some(expiry),
            } => write!(f, "DISCONNECT code={code} expiry={expiry}"),
        }
    }
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CONNECT clean={} expiry={}", u8::from(self.clean), self.expiry)?;
        match &self.will {
            Some(w) => write!(f, " will={} label={} qos={} delay={}", w.topic, w.label, w.qos, w.delay),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PUBLISH id={} qos={} topic={}", self.id, self.qos, self.topic)?;
        if !self.label.is_empty() {
            write!(f, " label={}", self.label)?;
        }
        for (flag, name) in [(self.dup, "dup"), (self.retain, "retain"), (self.empty, "empty")] {
            if flag {
                write!(f, " {name}=1")?;
            }
        }
        self.sids.iter().try_for_each(|sid| write!(f, " sid={sid}"))
    }
}

/// Reads a log. Empty lines and those that begin with `#` are left out.
pub fn parse(text: &str) -> Result<Vec<Event>, String> {
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| event(line).ok_or_else(|| format!("line {}: {line:?} is no event", number + 1)))
        .collect()
}

fn event(line: &str) -> Option<Event> {
    let mut words = line.split_whitespace();
    let at = words.next()?.parse().ok()?;
    let client = words.next()?;
    if client == "*" {
        let word = words.next()?;
        let world = World::ALL.iter().find(|(_, name)| *name == word)?.0;
        return Some(Event {
            at,
            what: What::World(world),
        });
    }
    let direction = words.next()?;
    let verb = words.next()?;
    let client = Name::from(client);
    let what = match (direction, verb) {
        ("=", "closed") => What::Closed(client),
        ("=", "dropped") => What::Dropped(client),
        ("=", "left") => What::Left(client, words.next()?.into()),
        (">", _) => What::Sent(client, step(verb, &Fields(words.collect()))?),
        ("<", _) => What::Got(client, step(verb, &Fields(words.collect()))?),
        _ => return None,
    };
    Some(Event { at, what })
}

/// The `key=value` words of a line.
struct Fields<'a>(Vec<&'a str>);

impl Fields<'_> {
    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        let pairs = self.0.iter().filter_map(|word| word.split_once('='));
        pairs.filter(move |(name, _)| *name == key).map(|(_, value)| value)
    }

    fn text(&self, key: &str) -> Option<Name> {
        self.all(key).next().map(Name::from)
    }

    /// A number; 0 if it is not there.
    fn number<T: std::str::FromStr + Default>(&self, key: &str) -> Option<T> {
        match self.all(key).next() {
            Some(value) => value.parse().ok(),
            None => Some(T::default()),
        }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.number::<u8>(key).map(|value| value != 0)
    }
}

fn step(verb: &str, fields: &Fields<'_>) -> Option<Step> {
    let (id, code) = (fields.number("id")?, fields.number("code")?);
    if let Some((ack, _)) = Ack::ALL.iter().find(|(_, name)| *name == verb) {
        return Some(Step::Ack(*ack, id, code));
    }
    Some(match verb {
        "CONNECT" => Step::Connect(connect(fields)?),
        "CONNACK" => Step::Connack {
            present: fields.flag("present")?,
            code,
        },
        "PUBLISH" => Step::Publish(publish(fields)?),
        "SUBSCRIBE" => Step::Subscribe(Subscribe {
            id,
            filter: fields.text("filter")?,
            qos: fields.number("qos")?,
            sid: fields.number("sid")?,
        }),
        "SUBACK" => Step::Suback { id, code },
        "UNSUBSCRIBE" => Step::Unsubscribe {
            id,
            filter: fields.text("filter")?,
        },
        "UNSUBACK" => Step::Unsuback { id, code },
        "DISCONNECT" => Step::Disconnect {
            code,
            expiry: fields.text("expiry").map(|value| value.parse()).transpose().ok()?,
        },
        _ => return None,
    })
}

fn connect(fields: &Fields<'_>) -> Option<Connect> {
    let will = match fields.text("will") {
        Some(topic) => Some(Will {
            topic,
            label: fields.text("label")?,
            qos: fields.number("qos")?,
            delay: fields.number("delay")?,
        }),
        None => None,
    };
    Some(Connect {
        clean: fields.flag("clean")?,
        expiry: fields.number("expiry")?,
        will,
    })
}

fn publish(fields: &Fields<'_>) -> Option<Publish> {
    Some(Publish {
        id: fields.number("id")?,
        qos: fields.number("qos")?,
        retain: fields.flag("retain")?,
        dup: fields.flag("dup")?,
        topic: fields.text("topic")?,
        label: fields.text("label").unwrap_or_else(|| Name::from("")),
        empty: fields.flag("empty")?,
        sids: fields.all("sid").map(|sid| sid.parse().ok()).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "0 * ready\n\
            1 c > CONNECT clean=0 expiry=60 will=w/c label=w-1 qos=2 delay=5\n\
            2 c < CONNACK present=1 code=0\n\
            3 c > PUBLISH id=7 qos=2 topic=a/b label=m1 dup=1 retain=1 empty=1\n\
            4 c < PUBREC id=7 code=16\n\
            5 c < PUBLISH id=0 qos=0 topic=a label=x sid=1 sid=2\n\
            6 c > SUBSCRIBE id=8 filter=a/# qos=1 sid=3\n\
            7 c < SUBACK id=8 code=1\n\
            8 c > UNSUBSCRIBE id=9 filter=a/#\n\
            9 c < UNSUBACK id=9 code=0\n\
            10 c > DISCONNECT code=4 expiry=0\n\
            11 c = closed\n\
            12 d = dropped\n\
            13 * store-kill\n\
            14 c = left c~1";
        let events = parse(text).expect("a log");
        let again: Vec<String> = events.iter().map(Event::to_string).collect();
        assert_eq!(again.join("\n"), text);
    }

    #[test]
    fn what_is_no_event_is_named() {
        assert_eq!(
            parse("1 * end\n\n2 * bang"),
            Err("line 3: \"2 * bang\" is no event".into())
        );
    }
}
