//! PUBACK, PUBREC, PUBREL and PUBCOMP from a client (sections 3.4 to 3.7).

use std::sync::Arc;

use super::{Client, Closing, publish};
use crate::broker::RouteScratch;
use crate::codec::encode::AckKind;
use crate::events::Event;
use crate::packet::Ack;
use crate::reason::ReasonCode;
use crate::session::{Acked, Finished};
use crate::store::Op;

/// A QoS 1 message has arrived, whatever the Reason Code [MQTT-4.4.0-2].
pub(super) fn puback(client: &mut Client, ack: &Ack<'_>, scratch: &mut RouteScratch) -> Result<(), Closing> {
    let id = ack.packet_id;
    match client.acknowledged(scratch, id, |inflight| inflight.puback(id)) {
        Acked::Finished(message) => finished(client, message),
        Acked::WrongState => return Err(Closing::protocol_error("PUBACK for a QoS 2 message")),
        Acked::Unknown | Acked::Release(_) | Acked::Completed => {}
    }
    Ok(())
}

/// A QoS 2 message has arrived: release it [MQTT-4.3.3-4], unless the client refused it [MQTT-4.8.2-6].
pub(super) fn pubrec(client: &mut Client, ack: &Ack<'_>, scratch: &mut RouteScratch) -> Result<(), Closing> {
    let (id, is_refused) = (ack.packet_id, ack.reason.is_error());
    match client.acknowledged(scratch, id, |inflight| inflight.pubrec(id, is_refused)) {
        Acked::Finished(message) => finished(client, message),
        Acked::Release(message) => {
            if let Some(message) = message {
                finished(client, message);
            }
            client.acknowledge(AckKind::Pubrel, ack.packet_id, ReasonCode::Success, None);
        }
        Acked::Unknown if ack.reason.is_error() => {}
        Acked::Unknown => {
            client.acknowledge(
                AckKind::Pubrel,
                ack.packet_id,
                ReasonCode::PacketIdentifierNotFound,
                None,
            );
        }
        Acked::WrongState => return Err(Closing::protocol_error("PUBREC for a QoS 1 message")),
        Acked::Completed => {}
    }
    Ok(())
}

/// The client has the PUBREC of its QoS 2 message: its Packet Identifier is free again [MQTT-4.3.3-11].
///
/// PUBCOMP waits until that is kept: the client may use the identifier for another message then.
pub(super) fn pubrel(client: &mut Client, ack: &Ack<'_>, scratch: &mut RouteScratch) -> Result<(), Closing> {
    let packet_id = ack.packet_id;
    let reason = match client.session.inbound.release(packet_id) {
        true if client.session.accepted.is_some() => {
            publish::release(client, packet_id, scratch);
            ReasonCode::Success
        }
        true => {
            client.record(scratch, |uid| Op::ReceivedEnd { uid, packet_id });
            ReasonCode::Success
        }
        false => ReasonCode::PacketIdentifierNotFound,
    };
    client.acknowledge(AckKind::Pubcomp, ack.packet_id, reason, None);
    Ok(())
}

/// A QoS 2 delivery is complete.
pub(super) fn pubcomp(client: &mut Client, ack: &Ack<'_>, scratch: &mut RouteScratch) -> Result<(), Closing> {
    let id = ack.packet_id;
    match client.acknowledged(scratch, id, |inflight| inflight.pubcomp(id)) {
        Acked::WrongState => Err(Closing::protocol_error("PUBCOMP before PUBREC")),
        _ => Ok(()),
    }
}

#[inline]
fn finished(client: &mut Client, Finished { message, charge }: Finished) {
    client.settle(charge);
    client.core.events.emit(|| Event::Acknowledged {
        client: Arc::clone(&client.info),
        message,
    });
}
