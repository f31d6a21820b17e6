//! What happens in a broker, as a stream of typed events.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::identity::ClientInfo;
use crate::message::Message;
use crate::reason::ReasonCode;
use crate::topic::TopicFilter;

/// Something that happened in the broker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A CONNECT was accepted.
    Connected(Arc<ClientInfo>),
    /// The CONNACK has been queued and the session is in place: the client receives messages.
    Ready(Arc<ClientInfo>),
    /// The connection of a client has ended.
    Disconnected {
        /// Which client.
        client: Arc<ClientInfo>,
        /// Why; [`ReasonCode::Success`] if the client said DISCONNECT, [`ReasonCode::UnspecifiedError`] if the network
        /// connection was lost.
        reason: ReasonCode,
    },
    /// The broker has refused a connection, or closed one: for an error of the client, or because of a takeover, a
    /// shutdown or the program. [`Event::Disconnected`] follows if the CONNECT was accepted.
    Error {
        /// Which client, if its CONNECT was accepted.
        client: Option<Arc<ClientInfo>>,
        /// Why.
        reason: ReasonCode,
        /// The same in words.
        detail: Arc<str>,
    },
    /// A client sent nothing for one and a half times its Keep Alive.
    KeepAliveTimeout(Arc<ClientInfo>),
    /// A message was accepted and routed.
    Published {
        /// Who published it; `None` for messages of the program and those of the broker under `$SYS`.
        client: Option<Arc<ClientInfo>>,
        /// The message.
        message: Arc<Message>,
    },
    /// A client has acknowledged a QoS 1 or 2 message: PUBACK, or PUBREC.
    Acknowledged {
        /// Which client.
        client: Arc<ClientInfo>,
        /// The message.
        message: Arc<Message>,
    },
    /// A PINGREQ has arrived.
    Ping(Arc<ClientInfo>),
    /// Subscriptions were granted.
    Subscribed {
        /// Which client.
        client: Arc<ClientInfo>,
        /// The granted Topic Filters.
        filters: Arc<[TopicFilter]>,
    },
    /// An UNSUBSCRIBE was handled.
    Unsubscribed {
        /// Which client.
        client: Arc<ClientInfo>,
        /// The Topic Filters of the packet, whether the client had subscribed to them or not.
        filters: Arc<[Box<str>]>,
    },
    /// The broker has stopped.
    Closed,
}

/// Events from the moment of subscription on.
///
/// The stream is bounded: a program that does not keep up loses the oldest events, and is told how many. Up to 4,096
/// events wait, and the messages that they carry stay in memory for as long.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

/// What [`Events::next`] yields.
#[derive(Clone, Debug)]
pub enum NextEvent {
    /// The next event.
    Event(Event),
    /// So many events were lost, since the program did not keep up.
    Missed(u64),
}

impl Events {
    /// The next event; `None` when the broker is gone.
    pub async fn next(&mut self) -> Option<NextEvent> {
        match self.receiver.recv().await {
            Ok(event) => Some(NextEvent::Event(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(NextEvent::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// The sending side: costs one atomic load while nobody listens.
#[derive(Debug)]
pub(crate) struct EventSender {
    sender: broadcast::Sender<Event>,
}

/// Events that may wait for a listener.
const CAPACITY: usize = 4096;

impl EventSender {
    pub(crate) fn new() -> EventSender {
        EventSender {
            sender: broadcast::Sender::new(CAPACITY),
        }
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events {
            receiver: self.sender.subscribe(),
        }
    }

    /// Whether anybody listens: the event need not be made otherwise.
    pub(crate) fn wanted(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if self.wanted() {
            // An error means that the last listener has gone meanwhile.
            let _ = self.sender.send(event());
        }
    }
}
