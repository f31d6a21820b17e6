//! PUBLISH from a client (section 3.3).

use std::sync::Arc;

use super::{Client, Closing};
use crate::access::DeniedPublish;
use crate::broker::{Origin, RouteScratch};
use crate::codec::encode::AckKind;
use crate::hooks::PublishVerdict;
use crate::message::{Message, Publication};
use crate::packet::{Publish, QoS};
use crate::reason::ReasonCode;
use crate::store::Op;
use crate::store::cluster::ClusterOp;
use crate::topic;

/// Routes the message and acknowledges it, once it is as safe as the broker makes it [MQTT-3.3.4-1].
pub(super) fn handle(client: &mut Client, publish: &Publish<'_>, scratch: &mut RouteScratch) -> Result<(), Closing> {
    let alias = resolve_alias(client, publish)?;
    let topic = alias.as_deref().unwrap_or(publish.topic);
    if is_settled(client, topic, publish)? {
        return Ok(());
    }
    if !client.may_publish(topic) {
        return deny(client, topic, publish);
    }
    let properties = publish.properties.forwardable();
    let publication = publication(client, topic, &properties, publish);
    if is_published_at_release(client, publish) {
        return accept_for_release(client, publish, &publication, scratch);
    }
    let reason = route(client, &publication, scratch);
    accepted(client, publish, reason, scratch);
    Ok(())
}

/// Whether the message is kept until its PUBREL, and published then: in a cluster it takes many steps to publish it, and what has
/// begun must be finished by whoever comes after.
fn is_published_at_release(client: &Client, publish: &Publish<'_>) -> bool {
    publish.qos == QoS::ExactlyOnce && client.session.kept && client.core.cluster.is_some()
}

fn accept_for_release(
    client: &mut Client,
    publish: &Publish<'_>,
    publication: &Publication<'_>,
    scratch: &mut RouteScratch,
) -> Result<(), Closing> {
    let message = Arc::new(Message::new(publication));
    let bound = client.core.config().max_queued_bytes;
    if !client
        .session
        .accepted
        .get_or_insert_default()
        .has_room(&message, bound)
    {
        return refuse(client, publish, "too many messages wait for their PUBREL").map(drop);
    }
    let packet_id = publish.packet_id;
    client.record(scratch, |uid| {
        Op::Cluster(ClusterOp::Received {
            uid,
            packet_id,
            message: *publication,
        })
    });
    client
        .session
        .accepted
        .get_or_insert_default()
        .insert(packet_id, message);
    acknowledge(client, publish, ReasonCode::Success, None);
    Ok(())
}

/// PUBREL of a message that was kept until then: in one step it begins, and is published.
pub(super) fn release(client: &mut Client, packet_id: u16, scratch: &mut RouteScratch) {
    let core = Arc::clone(&client.core);
    let message = client
        .session
        .accepted
        .as_mut()
        .and_then(|accepted| accepted.remove(packet_id));
    let (Some(cluster), Some(message)) = (&core.cluster, message) else {
        // An import has published it.
        return client.record(scratch, |uid| Op::ReceivedEnd { uid, packet_id });
    };
    let once = cluster.begin_job(&client.info.client_id);
    client.record(scratch, |uid| {
        Op::Cluster(ClusterOp::Begin {
            uid,
            packet_id,
            mid: once.mid,
        })
    });
    let origin = Origin {
        key: client.session.outbox.key,
        client: Some(&client.info),
    };
    core.publish_once(cluster, &message.as_publication(), &origin, once, scratch);
    client.wait_for_writes(scratch);
}

/// Checks whether the message may be published at all; whether it has been answered, and is not to be routed.
fn is_settled(client: &mut Client, topic: &str, publish: &Publish<'_>) -> Result<bool, Closing> {
    client.stats.publish_received += 1;
    client.stats.publish_bytes_received += publish.payload.len() as u64;
    check_support(client, topic, publish)?;
    if publish.qos == QoS::ExactlyOnce && is_known(client, publish.packet_id)? {
        client.acknowledge(AckKind::Pubrec, publish.packet_id, ReasonCode::Success, None);
        return Ok(true);
    }
    if is_reserved(topic) {
        tracing::debug!(
            client = &*client.info.client_id,
            topic,
            "publication denied: $SYS belongs to the broker"
        );
        let text = Some("$SYS belongs to the broker");
        acknowledge(client, publish, ReasonCode::NotAuthorized, text);
        return Ok(true);
    }
    if publish.qos > QoS::AtMostOnce && client.core.memory.is_full() {
        return refuse(client, publish, "the broker's memory is full");
    }
    Ok(false)
}

/// What is acknowledged must be kept. So this is not: an MQTT 5.0 client is told, another one finds its connection closed,
/// and sends the message again.
fn refuse(client: &mut Client, publish: &Publish<'_>, text: &'static str) -> Result<bool, Closing> {
    if !client.version().is_v5() {
        return Err(Closing::told(ReasonCode::QuotaExceeded, text));
    }
    acknowledge(client, publish, ReasonCode::QuotaExceeded, Some(text));
    Ok(true)
}

fn publication<'a>(client: &Client, topic: &'a str, properties: &'a [u8], publish: &Publish<'a>) -> Publication<'a> {
    Publication {
        topic,
        payload: publish.payload,
        properties,
        expires_at: publish
            .message_expiry_interval
            .map(|seconds| client.core.clock.now().plus_seconds(seconds)),
        qos: publish.qos,
        retain: publish.retain,
    }
}

/// The topic that a Topic Alias stands for, which is set if the packet has both (section 3.3.2.3.4).
fn resolve_alias(client: &mut Client, publish: &Publish<'_>) -> Result<Option<Arc<str>>, Closing> {
    let Some(alias) = publish.topic_alias else {
        return Ok(None);
    };
    let resolved = client.aliases_in.resolve(alias, publish.topic);
    resolved.map(Some).map_err(|reason| match reason {
        ReasonCode::TopicAliasInvalid => Closing::told(reason, "Topic Alias above the Topic Alias Maximum"),
        _ => Closing::told(reason, "Topic Alias that has not been set"),
    })
}

fn check_support(client: &Client, topic: &str, publish: &Publish<'_>) -> Result<(), Closing> {
    let config = &client.config;
    if topic.len() > config.max_topic_length || topic::levels(topic) > config.max_topic_levels {
        return Err(Closing::told(
            ReasonCode::TopicNameInvalid,
            "Topic Name has too many bytes or levels",
        ));
    }
    // [MQTT-3.2.2-11]
    if publish.qos > config.max_qos {
        return Err(Closing::told(ReasonCode::QoSNotSupported, "QoS above the Maximum QoS"));
    }
    // [MQTT-3.2.2-14]
    if publish.retain && !config.retain {
        return Err(Closing::told(
            ReasonCode::RetainNotSupported,
            "retained messages are turned off",
        ));
    }
    Ok(())
}

/// Whether this QoS 2 message has been accepted before and not been released: it must not be delivered again
/// [MQTT-4.3.3-10].
fn is_known(client: &Client, identifier: u16) -> Result<bool, Closing> {
    let inbound = &client.session.inbound;
    if inbound.contains(identifier) {
        return Ok(true);
    }
    // [MQTT-3.3.4-7]: QoS 1 is acknowledged at once, so only QoS 2 messages can add up. MQTT 3 clients have not been
    // told, and are bounded by their Packet Identifiers.
    if client.version().is_v5() && inbound.len() >= usize::from(client.config.receive_maximum) {
        return Err(Closing::told(
            ReasonCode::ReceiveMaximumExceeded,
            "more messages in flight than Receive Maximum",
        ));
    }
    Ok(false)
}

/// Topics that the broker alone publishes to.
pub(super) fn is_reserved(topic: &str) -> bool {
    topic
        .strip_prefix("$SYS")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn route(client: &mut Client, publication: &Publication<'_>, scratch: &mut RouteScratch) -> ReasonCode {
    let origin = Origin {
        key: client.session.outbox.key,
        client: Some(&client.info),
    };
    let last = client.last_match.get_or_insert_default();
    match client.core.route(publication, Some(&origin), scratch, last) {
        true => ReasonCode::Success,
        false => ReasonCode::NoMatchingSubscribers,
    }
}

/// [`handle`], with hooks.
pub(super) async fn ask_and_handle(
    client: &mut Client,
    publish: &Publish<'_>,
    scratch: &mut RouteScratch,
) -> Result<(), Closing> {
    let alias = resolve_alias(client, publish)?;
    let topic = alias.as_deref().unwrap_or(publish.topic);
    if is_settled(client, topic, publish)? {
        return Ok(());
    }
    if !client.may_publish(topic) {
        return deny(client, topic, publish);
    }
    let properties = publish.properties.forwardable();
    let publication = &publication(client, topic, &properties, publish);
    // Those who were sent something before this must not wait for the hook.
    scratch.wake_subscribers();
    let core = Arc::clone(&client.core);
    let rewritten = match core.ask_publish(&client.info, publication, false).await {
        None | Some(PublishVerdict::Allow) => None,
        Some(PublishVerdict::Rewrite(message)) => Some(message),
        Some(PublishVerdict::Refuse(reason)) => {
            let reason = if reason.is_error() {
                reason
            } else {
                ReasonCode::NotAuthorized
            };
            tracing::debug!(client = &*client.info.client_id, topic, %reason, "publication refused by the program");
            acknowledge(client, publish, reason, None);
            return Ok(());
        }
    };
    let publication = &rewritten
        .as_ref()
        .map_or(*publication, |message| message.as_publication(core.clock.now()));
    // Nothing may come between these two: a QoS 2 message that was routed must be known by its identifier.
    if is_published_at_release(client, publish) {
        return accept_for_release(client, publish, publication, scratch);
    } else {
        let reason = route(client, publication, scratch);
        accepted(client, publish, reason, scratch);
    }
    if core.interests.published {
        scratch.wake_subscribers();
        core.tell_published(Some(&client.info), publication, false).await;
    }
    Ok(())
}

/// Acknowledges a message that was routed, when all that it has changed is kept.
fn accepted(client: &mut Client, publish: &Publish<'_>, reason: ReasonCode, scratch: &mut RouteScratch) {
    let packet_id = publish.packet_id;
    if publish.qos == QoS::ExactlyOnce {
        client.note(scratch, |uid| Op::Received { uid, packet_id });
    }
    // In a cluster QoS 0 is written down for other nodes, and nobody waits for that.
    if publish.qos > QoS::AtMostOnce || client.core.cluster.is_none() {
        client.wait_for_writes(scratch);
    }
    acknowledge(client, publish, reason, None);
}

/// The client may not publish this. An MQTT 3 client is told by the end of its connection, or not at all
/// [MQTT3-3.3.5-2].
fn deny(client: &mut Client, topic: &str, publish: &Publish<'_>) -> Result<(), Closing> {
    tracing::debug!(client = &*client.info.client_id, topic, "publication denied");
    if !client.version().is_v5() && client.access.denied_publish() == DeniedPublish::Close {
        return Err(Closing::told(ReasonCode::NotAuthorized, "publication denied"));
    }
    acknowledge(client, publish, ReasonCode::NotAuthorized, None);
    Ok(())
}

/// Answers by the QoS [MQTT-3.3.4-1]. An MQTT 3 client can't be told that its message was refused: it gets a positive
/// acknowledgement [MQTT3-3.3.5-2].
fn acknowledge(client: &mut Client, publish: &Publish<'_>, reason: ReasonCode, text: Option<&str>) {
    match publish.qos {
        QoS::AtMostOnce => {}
        QoS::AtLeastOnce => client.acknowledge(AckKind::Puback, publish.packet_id, reason, text),
        QoS::ExactlyOnce => {
            // A refused identifier is free for a new message [MQTT-4.3.3-9]; an MQTT 3 client will release it.
            if !reason.is_error() || !client.version().is_v5() {
                client.session.inbound.insert(publish.packet_id);
            }
            client.acknowledge(AckKind::Pubrec, publish.packet_id, reason, text);
        }
    }
}
