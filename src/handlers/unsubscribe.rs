//! UNSUBSCRIBE from a client (section 3.10).

use std::sync::Arc;

use super::{Client, Closing, subscribe, trace};
use crate::broker::{AedesEvent, RouteScratch};
use crate::codec::encode;
use crate::events::Event;
use crate::packet::Unsubscribe;
use crate::reason::ReasonCode;
use crate::topic::TopicFilter;

/// Ends subscriptions and answers with one code for each Topic Filter, also if there was nothing to end
/// [MQTT-3.10.4-5]. Messages that are queued already are still delivered [MQTT-3.10.4-3].
pub(super) fn handle(
    client: &mut Client,
    unsubscribe: &Unsubscribe<'_>,
    scratch: &mut RouteScratch,
) -> Result<(), Closing> {
    let codes: Vec<_> = unsubscribe.filters.map(|filter| end(client, filter, scratch)).collect();
    let (version, limit) = (client.agreed.version, client.agreed.maximum_packet_size);
    let identifier = unsubscribe.packet_id;
    client.wait_for_writes(scratch);
    if !encode::unsuback(client.answers(), version, identifier, &codes, None, limit) {
        return Err(Closing::told(
            ReasonCode::PacketTooLarge,
            "UNSUBACK above the client's Maximum Packet Size",
        ));
    }
    client.stats.packets_sent += 1;
    if client.traced {
        trace::sent_codes(client, "UNSUBACK", identifier, &codes);
    }
    client.core.events.emit(|| Event::Unsubscribed {
        client: Arc::clone(&client.info),
        filters: unsubscribe.filters.map(Box::from).collect(),
    });
    let event = AedesEvent::Unsubscribed(&client.info, unsubscribe);
    client.core.tell_aedes(event, scratch);
    Ok(())
}

/// Filters are compared character by character [MQTT-3.10.4-1].
fn end(client: &mut Client, text: &str, scratch: &mut RouteScratch) -> ReasonCode {
    let Ok(filter) = TopicFilter::parse(text) else {
        return ReasonCode::TopicFilterInvalid;
    };
    let is_there = client.session.subscriptions.contains_key(&filter);
    // A node may have died between the record of the session, where it had ended, and the log: others may have it still.
    let others_may_have_it = client.session.kept && client.core.cluster.is_some();
    if is_there || others_may_have_it {
        subscribe::end_routes(client, &filter, scratch);
    }
    if !is_there {
        return ReasonCode::NoSubscriptionExisted;
    }
    client.session.remove_subscription(&filter);
    client.note_unsubscribed(&filter, scratch);
    ReasonCode::Success
}
