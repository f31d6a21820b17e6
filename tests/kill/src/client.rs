//! A client: what MQTT asks of it, and what it keeps over reconnections and restarts of the broker.
//!
//! It obeys the standard and judges nothing: all that it sends and receives goes to the log.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use crate::churn::Churn;
use crate::event::{Ack, Connect, NEVER, Name, Publish, Step, Subscribe, What, Will};
use crate::link::Link;
use crate::log::Log;
use crate::packet::{self, Packet, Version};
use crate::payload;
use crate::publisher::{Outgoing, Publisher, Stage};

pub struct Client {
    pub name: Name,
    pub settings: Settings,
    pub link: Option<Link>,
    /// CONNACK has come.
    pub accepted: bool,
    pub filters: Vec<Filter>,
    pub outgoing: VecDeque<Outgoing>,
    pub publisher: Option<Publisher>,
    pub churn: Option<Churn>,
    /// Labels of the messages that have come on topics of [`MARKS`].
    pub marks: HashSet<Name>,
    /// Messages that will never be acknowledged, since their session has ended.
    pub abandoned: usize,
    /// In a cluster: it comes back by itself when its connection ends.
    pub wanted: bool,
    /// Where it connects, if that is not left to chance.
    pub gate: Option<SocketAddr>,
    /// When it has last connected, or heard something.
    pub heard: Instant,
    /// Writes may be lost: if a CONNECT had no answer, the session that is present may be one that this has made.
    pub doubts: bool,
    /// Its last CONNECT has no answer, or had none when it sent another one.
    unanswered: bool,
    was_unanswered: bool,
    /// How many connections it has left open behind it.
    left: usize,
    /// The label of the will of this connection.
    pub will: Option<Name>,
    wills: usize,
    next_id: u16,
    /// Packet Identifiers of QoS 2 messages that were received and not released.
    incoming: HashSet<u16>,
    /// Acknowledgements that are held back.
    owed: VecDeque<(Ack, u16)>,
}

/// Topics begin so that somebody waits for: of wills, and of messages behind which there are no others.
const MARKS: [&str; 3] = ["will/", "end/", "mark/"];

#[derive(Clone)]
pub struct Settings {
    pub version: Version,
    /// Clean Session or Clean Start.
    pub clean: bool,
    /// Session Expiry Interval.
    pub expiry: u32,
    pub receive_maximum: Option<u16>,
    /// How many acknowledgements it holds back.
    pub lag: usize,
    pub will: Option<WillPlan>,
}

#[derive(Clone)]
pub struct WillPlan {
    pub qos: u8,
    pub retain: bool,
    /// Seconds.
    pub delay: u32,
}

/// A Topic Filter that the client wants, or does not want any more.
pub struct Filter {
    pub name: Name,
    pub qos: u8,
    pub sid: u32,
    pub state: Wish,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To be asked for.
    New,
    /// Asked for, with this Packet Identifier.
    Asked(u16),
    Granted,
    /// To be left.
    Unwanted,
    Leaving(u16),
    Left,
}

impl Filter {
    /// What a session before had, this one has not.
    fn lose_session(&mut self) {
        self.state = match self.state {
            Wish::Granted => Wish::New,
            Wish::Unwanted => Wish::Left,
            other => other,
        };
    }
}

impl Settings {
    /// A session that outlives its connections.
    pub fn persistent(version: Version) -> Settings {
        let expiry = if version.is_v5() { 3600 } else { NEVER };
        Settings {
            version,
            clean: false,
            expiry,
            receive_maximum: None,
            lag: 0,
            will: None,
        }
    }

    /// A session that ends with its connection.
    pub fn volatile(version: Version) -> Settings {
        Settings {
            clean: true,
            expiry: 0,
            ..Settings::persistent(version)
        }
    }
}

impl Client {
    pub fn new(name: &str, settings: Settings) -> Client {
        Client {
            name: name.into(),
            settings,
            link: None,
            accepted: false,
            filters: Vec::new(),
            outgoing: VecDeque::new(),
            publisher: None,
            churn: None,
            marks: HashSet::new(),
            abandoned: 0,
            wanted: false,
            gate: None,
            heard: Instant::now(),
            doubts: false,
            unanswered: false,
            was_unanswered: false,
            left: 0,
            will: None,
            wills: 0,
            next_id: 1,
            incoming: HashSet::new(),
            owed: VecDeque::new(),
        }
    }

    /// With a subscription, which an MQTT 5.0 client gives an identifier.
    pub fn wants(mut self, filter: &str, qos: u8) -> Client {
        self.want(filter, qos);
        self
    }

    pub fn want(&mut self, filter: &str, qos: u8) {
        let sid = if self.settings.version.is_v5() {
            self.filters.len() as u32 + 1
        } else {
            0
        };
        self.filters.push(Filter {
            name: filter.into(),
            qos,
            sid,
            state: Wish::New,
        });
    }

    /// Unsubscribes from everything.
    pub fn leave_all(&mut self) {
        self.filters.iter_mut().for_each(|filter| filter.state = Wish::Unwanted);
    }

    /// Changes what it asks for with its next CONNECT, by which its session begins anew.
    pub fn begin_anew(&mut self, settings: Settings) {
        self.settings = settings;
        self.filters.iter_mut().for_each(|filter| filter.state = Wish::New);
    }

    pub fn is_probe(&self) -> bool {
        self.name.starts_with("probe")
    }

    /// Whether it subscribes to the last message of all.
    pub fn hears_the_end(&self) -> bool {
        self.filters.iter().any(|filter| &*filter.name == "end/#")
    }

    pub fn is_persistent(&self) -> bool {
        self.settings.expiry > 0
    }

    /// Whether nothing that it has sent waits for an answer.
    pub fn is_settled(&self) -> bool {
        let waits = |filter: &Filter| !matches!(filter.state, Wish::Granted | Wish::Left);
        self.accepted && self.outgoing.is_empty() && !self.filters.iter().any(waits)
    }

    /// Whether something that it has sent waits for an answer.
    pub fn is_waiting(&self) -> bool {
        let waits = |filter: &Filter| matches!(filter.state, Wish::Asked(_) | Wish::Leaving(_));
        !self.accepted || !self.outgoing.is_empty() || self.filters.iter().any(waits)
    }

    /// Connects; the answer comes later.
    pub fn connect(&mut self, addr: SocketAddr, log: &mut Log) -> std::io::Result<()> {
        self.link = Some(Link::open(addr, self.settings.version)?);
        self.accepted = false;
        self.heard = Instant::now();
        self.was_unanswered |= std::mem::replace(&mut self.unanswered, true);
        self.owed.clear();
        let settings = self.settings.clone();
        let will = settings.will.as_ref().map(|plan| self.new_will(plan));
        self.will = will.as_ref().map(|will| will.label.clone());
        let connect = Connect {
            clean: settings.clean,
            expiry: settings.expiry,
            will,
        };
        self.send(
            log,
            &encode_connect(&self.name, &settings, &connect),
            Step::Connect(connect),
        );
        Ok(())
    }

    /// Says goodbye, and waits until the broker closes.
    pub fn disconnect(&mut self, log: &mut Log, code: u8, expiry: Option<u32>) {
        let mut packet = packet::Disconnect::new(code);
        if let Some(expiry) = expiry {
            packet = packet.prop(packet::Prop::SessionExpiry(expiry));
        }
        if code == 0 {
            self.will = None;
        }
        self.send(log, &packet.into(), Step::Disconnect { code, expiry });
        self.accepted = false;
    }

    /// Closes the connection without a word.
    pub fn cut(&mut self, log: &mut Log) {
        if self.link.take().is_some() {
            log.push(What::Dropped(self.name.clone()));
            self.forget();
        }
    }

    /// Leaves its connection open, for another one: what it is called in the log, the connection, and the Packet
    /// Identifiers of QoS 2 messages that came by it and were not answered.
    pub fn leave_behind(&mut self, log: &mut Log) -> Option<(Name, Link, Vec<u16>)> {
        let link = self.link.take()?;
        self.left += 1;
        let ghost = Name::from(format!("{}~{}", self.name, self.left));
        log.push(What::Left(self.name.clone(), ghost.clone()));
        let owed = self.owed.iter().filter(|(ack, _)| *ack == Ack::Pubrec);
        let owed = owed.map(|(_, id)| *id).collect();
        self.forget();
        Some((ghost, link, owed))
    }

    /// Sends what there is to send, if the broker has accepted the client.
    pub fn act(&mut self, log: &mut Log) {
        if self.link.is_none() || !self.accepted {
            return;
        }
        if let Some(mut churn) = self.churn.take() {
            churn.act(&mut self.filters, self.settings.version, log.acked);
            self.churn = Some(churn);
        }
        self.ask(log);
        if let Some(mut publisher) = self.publisher.take() {
            while let Some(message) = publisher.next(&self.name, self.outgoing.len()) {
                let id = self.new_id();
                let outgoing = Outgoing::new(id, message);
                self.publish(log, &outgoing, false);
                self.outgoing.push_back(outgoing);
            }
            self.publisher = Some(publisher);
        }
    }

    /// Takes what the socket has; whether the connection goes on.
    pub fn receive(&mut self, log: &mut Log) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let (packets, ended) = link.read();
        if !packets.is_empty() {
            self.heard = Instant::now();
        }
        packets.into_iter().for_each(|packet| self.handle(log, packet));
        self.acknowledge(log, self.settings.lag);
        if ended {
            self.link = None;
            log.push(What::Closed(self.name.clone()));
            self.forget();
        }
        !ended
    }

    /// Takes the state of a connection that has ended for what it is now worth.
    fn forget(&mut self) {
        self.accepted = false;
        self.owed.clear();
        for filter in &mut self.filters {
            filter.state = match filter.state {
                Wish::Asked(_) => Wish::New,
                Wish::Leaving(_) => Wish::Unwanted,
                other => other,
            };
        }
        if !self.is_persistent() {
            self.abandon();
            self.filters.iter_mut().for_each(|filter| filter.state = Wish::New);
        }
    }

    /// The session is no more.
    fn abandon(&mut self) {
        self.abandoned += self.outgoing.len();
        self.outgoing.clear();
        self.incoming.clear();
    }

    fn handle(&mut self, log: &mut Log, packet: Packet) {
        match packet {
            Packet::Connack(connack) => self.connack(log, connack.session_present, connack.code),
            Packet::Publish(publish) => self.message(log, publish),
            Packet::Puback(ack) => self.answered(log, Ack::Puback, ack.id, ack.reason),
            Packet::Pubrec(ack) => self.answered(log, Ack::Pubrec, ack.id, ack.reason),
            Packet::Pubcomp(ack) => self.answered(log, Ack::Pubcomp, ack.id, ack.reason),
            Packet::Pubrel(ack) => {
                log.got(&self.name, Step::Ack(Ack::Pubrel, ack.id, ack.reason));
                self.incoming.remove(&ack.id);
                self.send_ack(log, Ack::Pubcomp, ack.id);
            }
            Packet::Suback(suback) => {
                let (id, code) = (suback.id, suback.codes[0]);
                log.got(&self.name, Step::Suback { id, code });
                self.set_filter(Wish::Asked(id), Wish::Granted);
            }
            Packet::Unsuback(unsuback) => {
                let (id, code) = (unsuback.id, unsuback.codes.first().copied().unwrap_or(0));
                log.got(&self.name, Step::Unsuback { id, code });
                self.set_filter(Wish::Leaving(id), Wish::Left);
            }
            Packet::Disconnect(disconnect) => {
                let (code, expiry) = (disconnect.reason, None);
                log.got(&self.name, Step::Disconnect { code, expiry });
            }
            _ => {}
        }
    }

    fn set_filter(&mut self, from: Wish, to: Wish) {
        if let Some(filter) = self.filters.iter_mut().rfind(|filter| filter.state == from) {
            filter.state = to;
        }
    }

    fn connack(&mut self, log: &mut Log, present: bool, code: u8) {
        log.got(&self.name, Step::Connack { present, code });
        self.accepted = code == 0;
        self.unanswered = false;
        if !self.accepted {
            return;
        }
        let is_doubtful = std::mem::take(&mut self.was_unanswered) && self.doubts;
        if !present {
            self.abandon();
            self.filters.iter_mut().for_each(Filter::lose_session);
        } else if is_doubtful {
            let granted = self.filters.iter_mut().filter(|filter| filter.state == Wish::Granted);
            granted.for_each(|filter| filter.state = Wish::New);
        }
        for mut outgoing in std::mem::take(&mut self.outgoing) {
            match outgoing.stage {
                Stage::Sent => self.publish(log, &outgoing, true),
                Stage::Released => self.send_ack(log, Ack::Pubrel, outgoing.id),
            }
            outgoing.again = true;
            self.outgoing.push_back(outgoing);
        }
    }

    /// A PUBLISH has come.
    fn message(&mut self, log: &mut Log, publish: packet::Publish) {
        let label = payload::label(&publish.payload);
        if MARKS.iter().any(|prefix| publish.topic.starts_with(prefix)) {
            self.marks.insert(label.clone());
        }
        log.delivered += 1;
        let step = Publish {
            id: publish.id,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            topic: publish.topic.as_str().into(),
            label,
            empty: publish.payload.is_empty(),
            sids: publish.props.subscription_ids(),
        };
        log.got(&self.name, Step::Publish(step));
        match publish.qos {
            1 => self.owed.push_back((Ack::Puback, publish.id)),
            2 => {
                self.incoming.insert(publish.id);
                self.owed.push_back((Ack::Pubrec, publish.id));
            }
            _ => {}
        }
    }

    /// Sends acknowledgements, but for so many.
    fn acknowledge(&mut self, log: &mut Log, but: usize) {
        while self.owed.len() > but
            && let Some((ack, id)) = self.owed.pop_front()
        {
            self.send_ack(log, ack, id);
        }
    }

    /// An acknowledgement for a message of the client.
    fn answered(&mut self, log: &mut Log, ack: Ack, id: u16, code: u8) {
        log.got(&self.name, Step::Ack(ack, id, code));
        let Some(at) = self.outgoing.iter().position(|outgoing| outgoing.id == id) else {
            return;
        };
        if ack == Ack::Pubrec && code < 0x80 {
            self.outgoing[at].stage = Stage::Released;
            self.send_ack(log, Ack::Pubrel, id);
        } else {
            self.outgoing.remove(at);
            log.acked += 1;
        }
    }

    fn publish(&mut self, log: &mut Log, outgoing: &Outgoing, again: bool) {
        let message = &outgoing.message;
        let content = if message.empty {
            Vec::new()
        } else {
            payload::of(&message.label)
        };
        let mut packet = packet::Publish::new(&message.topic, content).qos(message.qos, outgoing.id);
        (packet.retain, packet.dup) = (message.retain, again);
        let step = Publish {
            id: outgoing.id,
            qos: message.qos,
            retain: message.retain,
            dup: again,
            topic: message.topic.clone(),
            label: message.label.clone(),
            empty: message.empty,
            sids: Vec::new(),
        };
        self.send(log, &packet.into(), Step::Publish(step));
    }

    /// Sends SUBSCRIBE and UNSUBSCRIBE for what is wanted or not.
    fn ask(&mut self, log: &mut Log) {
        for at in 0..self.filters.len() {
            let state = self.filters[at].state;
            if !matches!(state, Wish::New | Wish::Unwanted) {
                continue;
            }
            let id = self.new_id();
            let Filter {
                name: filter, qos, sid, ..
            } = &self.filters[at];
            let (filter, qos, sid) = (filter.clone(), *qos, *sid);
            if state == Wish::New {
                let mut packet = packet::Subscribe::new(id).filter(&filter, qos);
                if sid > 0 {
                    packet = packet.prop(packet::Prop::subscription_id(sid));
                }
                self.filters[at].state = Wish::Asked(id);
                self.send(log, &packet.into(), Step::Subscribe(Subscribe { id, filter, qos, sid }));
            } else {
                let packet = packet::Unsubscribe::new(id).filter(&filter);
                self.filters[at].state = Wish::Leaving(id);
                self.send(log, &packet.into(), Step::Unsubscribe { id, filter });
            }
        }
    }

    fn send_ack(&mut self, log: &mut Log, ack: Ack, id: u16) {
        let content = packet::Ack::new(id);
        let packet = match ack {
            Ack::Puback => Packet::Puback(content),
            Ack::Pubrec => Packet::Pubrec(content),
            Ack::Pubrel => Packet::Pubrel(content),
            Ack::Pubcomp => Packet::Pubcomp(content),
        };
        self.send(log, &packet, Step::Ack(ack, id, 0));
    }

    fn send(&mut self, log: &mut Log, packet: &Packet, step: Step) {
        if let Some(link) = &mut self.link {
            link.send(packet);
            log.sent(&self.name, step);
        }
    }

    /// A Packet Identifier that is not in use.
    fn new_id(&mut self) -> u16 {
        loop {
            let id = self.next_id;
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            let asks = |filter: &Filter| filter.state == Wish::Asked(id) || filter.state == Wish::Leaving(id);
            if !self.outgoing.iter().any(|one| one.id == id) && !self.filters.iter().any(asks) {
                return id;
            }
        }
    }

    fn new_will(&mut self, plan: &WillPlan) -> Will {
        self.wills += 1;
        Will {
            topic: format!("will/{}", self.name).into(),
            label: format!("will-{}-{}", self.name, self.wills).into(),
            qos: plan.qos,
            delay: plan.delay,
        }
    }
}

fn encode_connect(name: &str, settings: &Settings, connect: &Connect) -> Packet {
    let mut packet = packet::Connect::new(settings.version, name).clean(connect.clean);
    if settings.version.is_v5() {
        if connect.expiry > 0 {
            packet = packet.expiry(connect.expiry);
        }
        if let Some(maximum) = settings.receive_maximum {
            packet = packet.prop(packet::Prop::ReceiveMaximum(maximum));
        }
    }
    if let Some(will) = &connect.will {
        let mut content = packet::Will::new(&will.topic, payload::of(&will.label)).qos(will.qos);
        if settings.will.as_ref().is_some_and(|plan| plan.retain) {
            content = content.retain();
        }
        if will.delay > 0 {
            content = content.delay(will.delay);
        }
        packet = packet.will(content);
    }
    packet.into()
}
