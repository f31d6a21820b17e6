//! The protocol state of one connection.

use std::sync::Arc;
use std::time::Duration;

use super::auth::Authentication;
use super::kept::Held;
use super::trace;
use crate::access::{Access, LastDecision};
use crate::broker::{AedesEvent, Core, Owned, RouteScratch};
use crate::codec::encode::{self, AckKind};
use crate::config::Config;
use crate::identity::ClientInfo;
use crate::packet::Version;
use crate::reason::ReasonCode;
use crate::router::LastMatch;
use crate::session::{AliasesIn, AliasesOut, Appetite};
use crate::stats::LocalStats;

/// What CONNECT and CONNACK have agreed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub(crate) version: Version,
    /// QoS 1 and 2 messages that may be in flight to the client.
    pub(crate) receive_maximum: u16,
    /// Bytes of a packet to the client.
    pub(crate) maximum_packet_size: Option<u32>,
    /// Whether Reason Strings may be sent on any packet [MQTT-3.1.2-29].
    pub(crate) problem_information: bool,
    /// One and a half times the Keep Alive [MQTT-3.1.2-22].
    pub(crate) silence_allowed: Option<Duration>,
    /// Whether the Session Expiry Interval of the CONNECT was above 0.
    pub(crate) session_survives: bool,
}

/// A connected client: its session, and what belongs to this connection alone. It does no input or output: answers
/// are appended to `output`, which the connection writes.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) core: Arc<Core>,
    /// The limits that it was told in its CONNACK.
    pub(crate) config: Arc<Config>,
    /// Who may do what on its listener.
    pub(crate) access: Access,
    pub(crate) info: Arc<ClientInfo>,
    pub(crate) session: Owned,
    pub(crate) agreed: Agreed,
    pub(crate) aliases_in: AliasesIn,
    pub(crate) aliases_out: AliasesOut,
    pub(crate) output: Vec<u8>,
    pub(crate) stats: LocalStats,
    /// Whether it could publish the last message; only of clients that publish where there is an access list.
    pub(super) last_decision: Option<Box<LastDecision>>,
    /// It has subscriptions that are wider than what it may read: each message is checked.
    pub(super) checks_reads: bool,
    /// Each of its packets is logged.
    pub(crate) traced: bool,
    /// Where the last message went; only of clients that publish.
    pub(super) last_match: Option<Box<LastMatch>>,
    /// What goes on of authentication; only of clients whose CONNECT began something, or that are to go.
    pub(super) authentication: Option<Box<Authentication>>,
    /// A retained message has no room beside what is in flight: something must be acknowledged first.
    pub(super) replay_waits: bool,
    /// Messages and bytes finished since the outbox was told.
    pub(super) settled: (usize, usize),
    /// Answers that wait for the store; only of clients that have had some.
    pub(super) held: Option<Box<Held>>,
}

/// Output that is collected before it is written: more is left in the outbox, where it is bounded.
const OUTPUT_TARGET: usize = 64 * 1024;

impl Client {
    pub(crate) fn version(&self) -> Version {
        self.agreed.version
    }

    /// What can be taken out of the outbox now; `None` while the client has not read what is there already.
    pub(crate) fn appetite(&self) -> Option<Appetite> {
        let bytes = OUTPUT_TARGET
            .checked_sub(self.output.len())
            .filter(|bytes| *bytes > 0)?;
        if self.is_stale() {
            return Some(Appetite {
                bytes,
                window: 0,
                below: 0,
            });
        }
        let room = self.session.inflight.room(self.window());
        Some(Appetite {
            bytes,
            window: room.saturating_sub(self.session.forwarding.len()),
            below: self.session.below(self.durable()),
        })
    }

    /// Whether its successor may be sending what has an identifier: then only QoS 0 is sent.
    pub(super) fn is_stale(&self) -> bool {
        self.core.cluster.as_ref().is_some_and(|cluster| cluster.is_stale())
    }

    /// How many more messages may be in flight.
    pub(super) fn room(&self) -> usize {
        match self.is_stale() || self.appetite().is_none() {
            true => 0,
            false => self.session.inflight.room(self.window()),
        }
    }

    /// Whether [`deliver`](Client::deliver) would find something to send.
    pub(crate) fn can_deliver(&self) -> bool {
        let Some(appetite) = self.appetite() else { return false };
        if self.is_stale() {
            return self.session.outbox.has_for(appetite);
        }
        let inflight = &self.session.inflight;
        let room = inflight.room(self.window());
        if self.session.is_replaying() {
            let may_go_on = room > 0 && !self.replay_waits && !self.holds_answers();
            return inflight.can_resend(self.window()) || may_go_on;
        }
        if self.holds_messages() {
            return inflight.can_resend(self.window());
        }
        inflight.can_resend(self.window())
            || (self.session.forwarding.len() > 0 && room > 0)
            || self.session.outbox.has_for(appetite)
    }

    /// The appetite for live messages, which wait until the retained ones have been sent.
    pub(crate) fn appetite_for_live(&self) -> Option<Appetite> {
        let waits = self.session.is_replaying() || self.holds_messages();
        self.appetite().filter(|_| !waits)
    }

    /// The client does not want its will to be published.
    pub(super) fn drop_will(&mut self, scratch: &mut RouteScratch) {
        if self.session.will.take().is_some() {
            self.core.note_will_end(self.session.outbox.key, scratch);
        }
    }

    /// Publishes the will now, since the broker shuts down; `done` is dropped when that is done.
    pub(crate) fn publish_will(&mut self, done: impl Send + 'static) {
        if let Some(will) = self.session.will.take() {
            self.core.publish_will(will, self.session.outbox.key, done);
        }
    }

    /// Tells, as Aedes does, that the connection has ended, and then which subscriptions end with it.
    pub(crate) fn tell_end(&self) {
        let mut scratch = RouteScratch::default();
        self.core.tell_aedes(AedesEvent::Disconnected(&self.info), &mut scratch);
        let subscriptions = &self.session.subscriptions;
        if !self.session.is_persistent() && !subscriptions.is_empty() {
            let event = AedesEvent::SessionEnded(&self.info, subscriptions);
            self.core.tell_aedes(event, &mut scratch);
        }
    }

    pub(super) fn window(&self) -> usize {
        usize::from(self.agreed.receive_maximum)
    }

    /// Answers a packet of the QoS 1 or 2 flow.
    pub(super) fn acknowledge(&mut self, kind: AckKind, identifier: u16, reason: ReasonCode, text: Option<&str>) {
        if self.traced {
            trace::sent_ack(self, kind, identifier, reason);
        }
        let text = text.filter(|_| self.agreed.problem_information);
        let (version, limit) = (self.agreed.version, self.agreed.maximum_packet_size);
        if encode::ack(self.answers(), version, kind, identifier, reason, text, limit) {
            self.stats.packets_sent += 1;
        }
    }

    /// A message is finished: it no longer counts against the session's queue.
    pub(super) fn settle(&mut self, charge: u32) {
        self.replay_waits = false;
        self.settled.0 += 1;
        self.settled.1 += charge as usize;
    }

    /// Reports to the outbox and to the broker's counters what has gathered since the last call.
    pub(crate) fn end_batch(&mut self) {
        let (messages, bytes) = std::mem::take(&mut self.settled);
        if messages > 0 {
            self.session.outbox.settle(messages, bytes);
        }
        self.stats.flush(&self.core.stats);
    }
}

impl Drop for Client {
    /// What was finished must be reported however the connection ends, or the session's queue would seem full for good.
    fn drop(&mut self) {
        self.end_batch();
    }
}
