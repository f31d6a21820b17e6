//! How much there is in a store.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::line::Line;
use crate::message::Message;
use crate::store::{Lane, Store, StoreError, StoredSession};

/// Counts of what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) sessions: u64,
    /// Sessions whose client is away.
    pub(super) away: u64,
    pub(super) subscriptions: u64,
    /// Packet Identifiers of QoS 2 messages from clients.
    pub(super) received: u64,
    /// Places in the queues, those of released messages included.
    pub(super) queued: u64,
    /// Places that retained messages for new subscriptions take.
    pub(super) replayed: u64,
    pub(super) queued_bytes: u64,
    pub(super) wills: u64,
    pub(super) retained: u64,
    pub(super) retained_bytes: u64,
}

impl Totals {
    /// Counts all, without reading the queues.
    pub(super) fn of(store: &dyn Store) -> Result<Totals, StoreError> {
        let mut totals = Totals::default();
        store.sessions(&mut |session| {
            totals.add_session(&session);
            totals.queued += session.live.count;
            totals.replayed += session.replayed.count;
            totals.queued_bytes += session.live.bytes + session.replayed.bytes;
        })?;
        store.wills(&mut |_| totals.wills += 1)?;
        store.retained(&mut |message| totals.add_retained(&message))?;
        Ok(totals)
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Totals::default()
    }

    /// Counts what the line has.
    pub(super) fn add(&mut self, line: &Line) {
        match line {
            Line::Session(session) => self.add_session(session),
            Line::Delivery(_, lane, delivery) => {
                match lane {
                    Lane::Live => self.queued += 1,
                    Lane::Replayed => self.replayed += 1,
                }
                self.queued_bytes += delivery.bytes() as u64;
            }
            Line::Will(_) => self.wills += 1,
            Line::Retained(message) => self.add_retained(message),
            Line::Begin | Line::End(_) => {}
        }
    }

    fn add_session(&mut self, session: &StoredSession) {
        self.sessions += 1;
        self.away += u64::from(session.away_since.is_some());
        self.subscriptions += session.subscriptions.len() as u64;
        self.received += session.received.len() as u64;
    }

    fn add_retained(&mut self, message: &Message) {
        let message = message.as_publication();
        self.retained += 1;
        self.retained_bytes += (message.topic.len() + message.properties.len() + message.payload.len()) as u64;
    }

    /// By name, in the order in which they are printed.
    pub(super) fn named(&self) -> [(&'static str, u64); 10] {
        [
            ("sessions", self.sessions),
            ("away", self.away),
            ("subscriptions", self.subscriptions),
            ("received", self.received),
            ("queued", self.queued),
            ("replayed", self.replayed),
            ("queued_bytes", self.queued_bytes),
            ("wills", self.wills),
            ("retained", self.retained),
            ("retained_bytes", self.retained_bytes),
        ]
    }

    pub(super) fn to_value(self) -> Value {
        let named = self.named().into_iter();
        named
            .map(|(name, count)| (name.to_owned(), count.into()))
            .collect::<Map<_, _>>()
            .into()
    }

    pub(super) fn read(fields: &mut Fields) -> Result<Totals, String> {
        Ok(Totals {
            sessions: fields.number("sessions")?,
            away: fields.number("away")?,
            subscriptions: fields.number("subscriptions")?,
            received: fields.number("received")?,
            queued: fields.number("queued")?,
            replayed: fields.number("replayed")?,
            queued_bytes: fields.number("queued_bytes")?,
            wills: fields.number("wills")?,
            retained: fields.number("retained")?,
            retained_bytes: fields.number("retained_bytes")?,
        })
    }
}

/// What it comes to, in a line.
impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let messages = self.queued + self.replayed;
        write!(
            f,
            "{} sessions with {} subscriptions and {messages} messages, {} wills, {} retained messages",
            self.sessions, self.subscriptions, self.wills, self.retained
        )
    }
}
