//! The events, in an order that can be asked: connections, sessions and messages.

use std::collections::BTreeMap;

use super::{Event, Seen};
use crate::ids::{Cid, Message, Time, Token, Topic, Uid, Will};

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
}

#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) cid: Cid,
    pub(super) name: Option<Uid>,
    pub(super) is_over: bool,
    /// Since when it has each subscription, if it was not given up.
    pub(super) subs: BTreeMap<Topic, At>,
    /// Those that were ever asked for, since when.
    pub(super) asked: BTreeMap<Topic, At>,
    pub(super) delivered: Vec<(At, Message)>,
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
}

impl Story {
    pub(super) fn new(history: &[Seen]) -> Story {
        let mut story = Story::default();
        for (at, (time, event)) in history.iter().enumerate() {
            story.add(at, *time, event);
        }
        story
    }

    fn add(&mut self, at: At, time: Time, event: &Event) {
        match event {
            Event::Connack { .. } => self.on_connack(at, time, event),
            Event::ConnEnd { conn } | Event::Lost { conn } => self.end(*conn, at, time),
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
            Event::SubSent { conn, topic, .. } => {
                if let Some(session) = self.session_of(*conn) {
                    session.asked.entry(*topic).or_insert(at);
                }
            }
            Event::Suback { conn, topic, .. } => {
                if let Some(session) = self.session_of(*conn) {
                    session.subs.insert(*topic, at);
                }
            }
            Event::UnsubSent { cid, topic } => {
                for session in self.sessions.iter_mut().filter(|session| session.cid == *cid) {
                    session.subs.remove(topic);
                }
            }
            Event::Delivered { conn, message, .. } => {
                if let Some(session) = self.session_of(*conn) {
                    session.delivered.push((at, *message));
                }
            }
            _ => {}
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
                    self.sessions[last].is_over = true;
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
