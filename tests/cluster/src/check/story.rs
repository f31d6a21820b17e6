//! The events, in an order that can be asked: connections, sessions and messages.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Seen};
use crate::ids::{Cid, Filter, Group, Inc, Message, Time, Token, Uid, Will};

/// A place in the history.
pub(super) type At = usize;

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) cid: Cid,
    pub(super) token: Token,
    pub(super) begin: At,
    pub(super) session: usize,
    pub(super) present: bool,
    pub(super) will: Option<Will>,
    /// The first sign of its end.
    pub(super) end: Option<(At, Time)>,
    pub(super) is_clean: bool,
    /// Its node has ended it because it leaves.
    pub(super) is_left: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) cid: Cid,
    pub(super) name: Option<Uid>,
    /// When something shows that it has ended; it may have before.
    pub(super) over: Option<At>,
    /// Since when it has each subscription, if it was not given up.
    pub(super) subs: BTreeMap<Filter, At>,
    /// Those that were ever asked for, since when.
    pub(super) asked: BTreeMap<Filter, At>,
    pub(super) delivered: Vec<(At, Message)>,
    /// As a member of a group.
    pub(super) given: Vec<(At, Group, Message)>,
}

#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) message: Message,
    pub(super) cid: Cid,
    pub(super) sent: At,
    pub(super) reads: Vec<(At, u64)>,
    pub(super) acked: Option<(At, u64)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Story {
    pub(super) conns: BTreeMap<u64, Connection>,
    pub(super) sessions: Vec<Session>,
    pub(super) messages: BTreeMap<u32, Publication>,
    /// Nodes that have left with nothing to recover.
    pub(super) left: BTreeSet<Inc>,
    pub(super) loss: Option<Loss>,
}

/// From the first write that a failover has lost to when all nodes have put that in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    pub(super) from: At,
    pub(super) to: At,
    /// A node was killed or declared dead meanwhile: what it had written and remembered is lost.
    pub(super) is_total: bool,
}

impl Story {
    pub(super) fn new(history: &[Seen]) -> Story {
        let mut story = Story::default();
        for (at, (time, event)) in history.iter().enumerate() {
            story.add(at, *time, event);
        }
        story.loss = loss(history);
        story
    }

    fn add(&mut self, at: At, time: Time, event: &Event) {
        match event {
            Event::Connack { .. } => self.on_connack(at, time, event),
            Event::ConnEnd { conn, is_left } => {
                if let Some(connection) = self.conns.get_mut(conn) {
                    connection.is_left = *is_left;
                }
                self.end(*conn, at, time);
            }
            Event::Lost { conn } => self.end(*conn, at, time),
            Event::NodeLeft { inc } => drop(self.left.insert(*inc)),
            Event::CleanEnd { conn } => {
                if let Some(connection) = self.conns.get_mut(conn) {
                    connection.is_clean = true;
                }
                self.end(*conn, at, time);
            }
            Event::NodeEnd { inc } | Event::Dead { inc } => {
                let of_node: Vec<_> = self.conns.iter().filter(|(_, conn)| conn.token.inc == *inc).collect();
                let of_node: Vec<_> = of_node.into_iter().map(|(id, _)| *id).collect();
                of_node.into_iter().for_each(|conn| self.end(conn, at, time));
            }
            Event::Sent { cid, message } => {
                let (message, cid) = (*message, *cid);
                let publication = Publication {
                    message,
                    cid,
                    sent: at,
                    reads: Vec::new(),
                    acked: None,
                };
                self.messages.insert(message.id, publication);
            }
            Event::Read { id, conn } => {
                if let Some(message) = self.messages.get_mut(id) {
                    message.reads.push((at, *conn));
                }
            }
            Event::Acked { id, conn } => {
                if let Some(message) = self.messages.get_mut(id) {
                    message.acked.get_or_insert((at, *conn));
                }
            }
            Event::SubSent { conn, filter, .. } => {
                if let Some(session) = self.session_of(*conn) {
                    session.asked.entry(*filter).or_insert(at);
                }
            }
            Event::Suback { conn, filter, .. } => {
                if let Some(session) = self.session_of(*conn) {
                    session.subs.insert(*filter, at);
                }
            }
            Event::UnsubSent { cid, filter } => {
                for session in self.sessions.iter_mut().filter(|session| session.cid == *cid) {
                    session.subs.remove(filter);
                }
            }
            Event::Delivered {
                conn, message, group, ..
            } => {
                if let Some(session) = self.session_of(*conn) {
                    match group {
                        Some(group) => session.given.push((at, *group, *message)),
                        None => session.delivered.push((at, *message)),
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether it was there before all was in order again.
    pub(super) fn is_before_order(&self, at: At) -> bool {
        self.loss.is_some_and(|loss| at < loss.to)
    }

    /// Whether a message, or the connection whose will it is, was there before.
    pub(super) fn is_old(&self, id: u32) -> bool {
        let of_will = |conn: &&Connection| conn.will.is_some_and(|will| will.message.id == id);
        let will = self.conns.values().find(of_will).map(|conn| conn.begin);
        let begin = self.messages.get(&id).map(|publication| publication.sent).or(will);
        // Wills of connections without CONNACK are not known.
        begin.map_or(self.loss.is_some(), |begin| self.is_before_order(begin))
    }

    /// A client may be told that its session is there, and it is the one before: of the last one nobody knows any more.
    pub(super) fn may_resume_older(&self) -> bool {
        self.loss.is_some_and(|loss| loss.is_total)
    }

    /// Whether a message of such a time is promised to those who have subscribed at such a time. Of what was acknowledged
    /// while writes were lost, to those who had subscribed before; and not if a node was killed or declared dead meanwhile.
    pub(super) fn is_promised(&self, publication: &Publication, since: At) -> bool {
        let Some(Loss { from, to, is_total }) = self.loss else {
            return true;
        };
        let is_before = publication.acked.is_some_and(|(at, _)| at < from);
        let is_after = publication.reads.first().is_some_and(|(at, _)| *at > to);
        let is_since_loss = since > from && since < to;
        match is_before || is_after {
            true => !(is_total && is_since_loss),
            false => !is_total && since < from,
        }
    }

    fn on_connack(&mut self, at: At, time: Time, event: &Event) {
        let Event::Connack {
            cid,
            conn,
            token,
            present,
            session: name,
            will,
        } = *event
        else {
            return;
        };
        let before: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, other)| other.cid == cid)
            .map(|(id, _)| *id)
            .collect();
        before.into_iter().for_each(|other| self.end(other, at, time));
        let last = self.sessions.iter().rposition(|session| session.cid == cid);
        let is_it = |last: &usize| name.is_some() && self.sessions[*last].name == name;
        let session = match last.filter(is_it) {
            Some(session) => session,
            None => {
                if let Some(last) = last {
                    self.sessions[last].over.get_or_insert(at);
                }
                self.sessions.push(Session {
                    cid,
                    name,
                    ..Session::default()
                });
                self.sessions.len() - 1
            }
        };
        let connection = Connection {
            cid,
            token,
            begin: at,
            session,
            present,
            will,
            end: None,
            is_clean: false,
            is_left: false,
        };
        self.conns.insert(conn, connection);
    }

    fn end(&mut self, conn: u64, at: At, time: Time) {
        if let Some(connection) = self.conns.get_mut(&conn) {
            connection.end.get_or_insert((at, time));
        }
    }

    fn session_of(&mut self, conn: u64) -> Option<&mut Session> {
        let session = self.conns.get(&conn)?.session;
        self.sessions.get_mut(session)
    }
}

fn loss(history: &[Seen]) -> Option<Loss> {
    let position = |is_it: fn(&Event) -> bool| history.iter().position(|(_, event)| is_it(event));
    let from = position(|event| matches!(event, Event::LosesFrom))?;
    let is_order = |event: &Event| matches!(event, Event::FailedOver { .. } | Event::Settled);
    let to = history.iter().rposition(|(_, event)| is_order(event))?;
    let mut meanwhile = history.get(from..to)?.iter();
    let is_total = meanwhile.any(|(_, event)| matches!(event, Event::Killed | Event::Dead { .. }));
    Some(Loss { from, to, is_total })
}
