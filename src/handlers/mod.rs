//! What each Control Packet does: one file per packet, one flat dispatch.

mod access;
mod acks;
pub(crate) mod auth;
mod client;
pub(crate) mod connect;
mod deliver;
mod disconnect;
mod kept;
mod publish;
mod subscribe;
pub(crate) mod trace;
mod unsubscribe;

use std::borrow::Cow;
use std::io;
use std::pin::Pin;

use crate::broker::RouteScratch;
use crate::codec::{DecodeError, encode};
use crate::events::Event;
use crate::packet::Packet;
use crate::reason::ReasonCode;
pub(crate) use client::Client;

/// Why a connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The client has sent DISCONNECT.
    Disconnected,
    /// The network connection has gone, or can't be used; why, if it has not just ended.
    Lost(Option<Box<str>>),
    /// The broker closes it, and an MQTT 5.0 client is told why [MQTT-4.13.1-1].
    Told {
        reason: ReasonCode,
        detail: Cow<'static, str>,
    },
}

impl Closing {
    pub(crate) fn told(reason: ReasonCode, detail: impl Into<Cow<'static, str>>) -> Closing {
        Closing::Told {
            reason,
            detail: detail.into(),
        }
    }

    pub(crate) fn protocol_error(detail: &'static str) -> Closing {
        Closing::told(ReasonCode::ProtocolError, detail)
    }

    pub(crate) fn reason(&self) -> ReasonCode {
        match self {
            Closing::Disconnected => ReasonCode::Success,
            Closing::Lost(_) => ReasonCode::UnspecifiedError,
            Closing::Told { reason, .. } => *reason,
        }
    }
}

impl From<io::Error> for Closing {
    fn from(error: io::Error) -> Closing {
        if error.kind() == io::ErrorKind::QuotaExceeded {
            return Closing::told(ReasonCode::QuotaExceeded, error.to_string());
        }
        let is_end = error.kind() == io::ErrorKind::UnexpectedEof;
        Closing::Lost((!is_end).then(|| error.to_string().into()))
    }
}

impl From<DecodeError> for Closing {
    fn from(error: DecodeError) -> Closing {
        Closing::told(error.reason, error.detail)
    }
}

/// What a packet does that may have to wait for a hook. Boxed, so that a connection has room for what waiting takes only
/// while it waits.
pub(crate) type Waiting<'a> = Pin<Box<dyn Future<Output = Result<(), Closing>> + Send + 'a>>;

/// Whether the packet is for [`handle_and_wait`], since there is a hook to be asked or told.
#[inline]
pub(crate) fn may_wait(client: &Client, packet: &Packet<'_>) -> bool {
    let interests = &client.core.interests;
    match packet {
        Packet::Publish(_) => interests.authorize_publish || interests.published,
        Packet::Subscribe(_) => interests.authorize_subscribe,
        _ => false,
    }
}

/// Handles a packet for which [`may_wait`] is true.
pub(crate) fn handle_and_wait<'a>(
    client: &'a mut Client,
    packet: Packet<'a>,
    scratch: &'a mut RouteScratch,
) -> Waiting<'a> {
    Box::pin(async move {
        match packet {
            Packet::Publish(publish) => publish::ask_and_handle(client, &publish, scratch).await,
            Packet::Subscribe(subscribe) => subscribe::ask_and_handle(client, &subscribe, scratch).await,
            other => handle(client, &other, scratch),
        }
    })
}

/// Handles one packet. What it answers is appended to the client's output.
#[inline]
pub(crate) fn handle(client: &mut Client, packet: &Packet<'_>, scratch: &mut RouteScratch) -> Result<(), Closing> {
    match packet {
        Packet::Publish(publish) => publish::handle(client, publish, scratch),
        Packet::Puback(ack) => acks::puback(client, ack, scratch),
        Packet::Pubrec(ack) => acks::pubrec(client, ack, scratch),
        Packet::Pubrel(ack) => acks::pubrel(client, ack, scratch),
        Packet::Pubcomp(ack) => acks::pubcomp(client, ack, scratch),
        Packet::Subscribe(subscribe) => subscribe::handle(client, subscribe, scratch),
        Packet::Unsubscribe(unsubscribe) => unsubscribe::handle(client, unsubscribe, scratch),
        Packet::Pingreq => {
            // [MQTT-3.12.4-1]
            encode::pingresp(&mut client.output);
            client.stats.packets_sent += 1;
            if client.traced {
                trace::sent(client, "PINGRESP");
            }
            client.core.events.emit(|| Event::Ping(client.info.clone()));
            Ok(())
        }
        Packet::Disconnect(disconnect) => Err(disconnect::handle(client, disconnect, scratch)),
        Packet::Auth(auth) => auth::handle(client, auth),
        // [MQTT-3.1.0-2]
        Packet::Connect => Err(Closing::protocol_error("second CONNECT")),
    }
}
