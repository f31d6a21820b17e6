//! The sessions of a client: what it may expect of Session Present, and how its connections end.

use super::history::History;
use super::wills::{End, WillRecord};
use super::{Place, Rule};
use crate::event::{Connect, Name, World};

/// "Server shutting down", "Use another server" and "Server moved".
const ENDS: [u8; 3] = [0x8B, 0x9C, 0x9D];

/// A session as its client expects it.
pub struct Session {
    /// Where the client has ended it, or may have; or was told that it has ended.
    pub until: Option<Place>,
    /// It was told.
    pub is_told: bool,
    /// Where a new one may have been taken for it: what had been subscribed to before may be gone.
    pub anew: Option<Place>,
}

/// Whether the broker has a session of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Known {
    #[default]
    No,
    Yes,
    Maybe,
}

#[derive(Default)]
pub(super) struct Life {
    known: Known,
    /// Index of the session that goes on.
    pub(super) session: Option<usize>,
    /// Of the connection: what was asked for.
    asked: Option<Connect>,
    /// Where the connection was opened.
    pub(super) opened: Option<Place>,
    /// Where the client was accepted last.
    pub(super) accepted_at: Option<Place>,
    /// CONNACK has come for this connection, whatever it says.
    answered: bool,
    /// Where the last connection has ended for which none has come, since the client was accepted last.
    pub(super) unanswered: Option<Place>,
    /// Where connections have ended.
    pub(super) ends: Vec<Place>,
    accepted: bool,
    goodbye: Option<Place>,
    /// The session was ended by a DISCONNECT here.
    ended: Option<Place>,
}

impl Life {
    /// Whether a connection that ends now would be closed without a reason: no goodbye, and no fault since it was opened.
    pub(super) fn may_be_closed(&self, faults: &[(Place, World)]) -> bool {
        let broken = faults.iter().any(|(at, world)| {
            matches!(world, World::Kill | World::Term) && self.opened.is_none_or(|opened| *at > opened)
        });
        self.goodbye.is_none() && !broken
    }
}

impl History<'_> {
    pub(super) fn connect(&mut self, place: Place, client: &Name, connect: &Connect) {
        let ended = self.client(client).life.ended.take();
        let doubtful = ended.is_some_and(|at| self.is_doubtful(at));
        let life = &mut self.client(client).life;
        if ended.is_some() {
            life.known = if doubtful { Known::Maybe } else { Known::No };
        }
        let over = if connect.clean { life.session.take() } else { None };
        life.asked = Some(connect.clone());
        (life.opened, life.accepted, life.goodbye) = (Some(place), false, None);
        life.answered = false;
        if let Some(session) = over {
            self.sessions[session].until = Some(place);
        }
        self.client(client).asked.clear();
        self.wake(client, place, connect.clean);
        if let Some(will) = &connect.will {
            self.client(client).will = Some(self.wills.len());
            self.wills.push(WillRecord::new(will, connect.expiry, place));
        }
    }

    pub(super) fn connack(&mut self, place: Place, client: &Name, present: bool, code: u8) {
        let (may_have_ended, may_be_older) = (self.may_have_ended(place, client), self.may_be_older(place));
        let may_be_another = present && self.may_be_another(place, client);
        let life = &mut self.client(client).life;
        life.answered = true;
        let Some(asked) = life.asked.clone().filter(|_| code == 0 && !life.accepted) else {
            if !self.is_excused(place, client) {
                self.fault(place, Rule::Closed, format!("{client}: CONNACK with code {code:#04x}"));
            }
            return;
        };
        let expected = match life.known {
            _ if asked.clean => Known::No,
            Known::Yes if may_have_ended => Known::Maybe,
            Known::No if may_be_older => Known::Maybe,
            known => known,
        };
        life.accepted = true;
        (life.accepted_at, life.unanswered) = (Some(place), None);
        life.known = Known::Yes;
        let over = life.session.filter(|_| !present && may_have_ended);
        if let Some(session) = over {
            life.session = None;
            self.sessions[session] = Session {
                until: Some(place),
                is_told: true,
                anew: None,
            };
        }
        self.loses(place, client);
        if !present {
            self.client(client).outbound.clear();
            self.client(client).inbound.new_session(false);
        }
        if may_be_another {
            self.take_for_another(place, client);
        }
        if self.client(client).life.session.is_none() {
            self.client(client).life.session = Some(self.sessions.len());
            self.sessions.push(Session {
                until: None,
                is_told: false,
                anew: None,
            });
        }
        if let Some(will) = self.client(client).will {
            self.wills[will].accepted = Some(place);
        }
        if let Some(will) = self.client(client).last_will.take() {
            self.wills[will].back_accepted = Some(place);
        }
        if (expected == Known::Yes && !present) || (expected == Known::No && present) {
            let text = format!("{client}: Session Present is {}", u8::from(present));
            self.fault(place, Rule::Session, text);
        }
    }

    /// DISCONNECT of a client.
    pub(super) fn goodbye(&mut self, place: Place, client: &Name, code: u8, expiry: Option<u32>) {
        let life = &mut self.client(client).life;
        life.goodbye = Some(place);
        let asked = life.asked.as_ref().map_or(0, |connect| connect.expiry);
        let ends = expiry.unwrap_or(asked) == 0;
        if ends {
            life.ended = Some(place);
            if let Some(session) = life.session.take() {
                self.sessions[session].until = Some(place);
            }
        }
        if let Some(will) = self.client(client).will {
            self.wills[will].said_goodbye(code, expiry, place);
        }
    }

    /// DISCONNECT of the broker.
    pub(super) fn told(&mut self, place: Place, client: &Name, code: u8) {
        if let Some(will) = self.client(client).will.filter(|_| ENDS.contains(&code)) {
            self.wills[will].told = Some(place);
        }
    }

    /// The connection of a client has ended.
    pub(super) fn ended(&mut self, place: Place, client: &Name) {
        let life = &mut self.client(client).life;
        life.ends.push(place);
        let expiry = life.asked.take().map_or(0, |connect| connect.expiry);
        if !life.answered {
            life.unanswered = Some(place);
        }
        if !life.accepted {
            // Whether the broker has seen the CONNECT is not known.
            life.known = match (life.known, expiry) {
                (Known::No, 0) => Known::No,
                (Known::Yes, 1..) => Known::Yes,
                _ => Known::Maybe,
            };
        } else if expiry == 0 && life.goodbye.is_none() {
            life.known = Known::No;
            if let Some(session) = life.session.take() {
                self.sessions[session].until = Some(place);
            }
        }
        if let Some(will) = self.client(client).will {
            self.wills[will].end.get_or_insert(End::Lost(place));
        }
    }

    /// What the client's next CONNECT means for its last will.
    fn wake(&mut self, client: &Name, place: Place, clean: bool) {
        // Only the first of several CONNECTs is what it comes back with.
        if let Some(will) = self.client(client).will.take() {
            self.client(client).last_will = Some(will);
            self.wills[will].back = Some((place, clean));
        }
    }

    pub(super) fn expect_close(&mut self, place: Place, client: &Name) {
        let faults = std::mem::take(&mut self.faults);
        let unexpected = self.client(client).life.may_be_closed(&faults);
        self.faults = faults;
        if unexpected && !self.is_excused(place, client) {
            self.fault(
                place,
                Rule::Closed,
                format!("{client}: the broker has closed the connection"),
            );
        }
    }

    /// Nothing comes after this.
    pub(super) fn end(&mut self, place: Place) {
        self.ghosts_are_gone(place);
        let clients = std::mem::take(&mut self.clients);
        for (name, client) in clients.iter().filter(|(_, client)| client.life.asked.is_some()) {
            let mut waiting: Vec<_> = client.outbound.waiting().collect();
            waiting.sort_unstable();
            for index in waiting {
                let text = format!("{name}: {} is not acknowledged", self.messages[index].label);
                self.fault(place, Rule::Unanswered, text);
            }
            for what in client.asked.waiting() {
                self.fault(place, Rule::Unanswered, format!("{name}: {what}"));
            }
            if !client.life.accepted {
                self.fault(place, Rule::Unanswered, format!("{name}: CONNECT"));
            }
        }
        self.clients = clients;
    }
}
