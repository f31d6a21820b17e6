//! rumqttc's MQTT 5.0 module behind the common client.

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    LastWill, LastWillProperties, Packet, Publish, PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as Raw, EventLoop, MqttOptions, StateError};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::client::{Event, Message, Opened, Properties, Sender, Settings};

pub fn open(port: u16, settings: Settings) -> Opened {
    let mut options = MqttOptions::new(settings.id, "127.0.0.1", port);
    options.set_clean_start(!settings.persistent);
    options.set_max_packet_size(Some(1 << 20));
    if settings.persistent {
        options.set_session_expiry_interval(Some(3600));
    }
    options.set_topic_alias_max(settings.topic_alias_maximum);
    if let Some(will) = settings.will {
        let properties = Some(will_properties(will.properties));
        options.set_last_will(LastWill::new(
            will.topic,
            will.payload,
            qos(will.qos),
            will.retain,
            properties,
        ));
    }
    let (client, eventloop) = AsyncClient::new(options, 100);
    let (sender, events) = unbounded_channel();
    (Sender::V5(client), tokio::spawn(poll(eventloop, sender)), events)
}

async fn poll(mut eventloop: EventLoop, events: UnboundedSender<Event>) {
    loop {
        let event = match eventloop.poll().await {
            Ok(event) => translate(event),
            Err(error) => Some(lost(&error)),
        };
        let lost = matches!(event, Some(Event::Lost { .. }));
        // A failed send means that the client was dropped, and with it this task ends.
        let delivered = event.is_none_or(|event| events.send(event).is_ok());
        if lost || !delivered {
            return;
        }
    }
}

fn lost(error: &ConnectionError) -> Event {
    let reason = match error {
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => Some(*reason_code as u8),
        _ => None,
    };
    Event::Lost {
        reason,
        error: error.to_string(),
    }
}

fn translate(event: Raw) -> Option<Event> {
    match event {
        Raw::Incoming(Packet::ConnAck(connack)) => Some(Event::Connected {
            session_present: connack.session_present,
        }),
        Raw::Incoming(Packet::SubAck(suback)) => Some(Event::Granted(suback.return_codes.iter().map(code).collect())),
        Raw::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Some(Event::Acknowledged),
        Raw::Incoming(Packet::Publish(publish)) => Some(Event::Message(message(publish))),
        // At QoS 0 the write to the socket is all there is to wait for.
        Raw::Outgoing(Outgoing::Publish(0)) => Some(Event::Acknowledged),
        _ => None,
    }
}

fn code(code: &SubscribeReasonCode) -> u8 {
    match code {
        SubscribeReasonCode::Success(qos) => *qos as u8,
        _ => 0x80,
    }
}

fn message(publish: Publish) -> Message {
    let properties = publish.properties.unwrap_or_default();
    Message {
        topic: String::from_utf8(publish.topic.to_vec()).expect("a topic of UTF-8"),
        payload: publish.payload.to_vec(),
        qos: publish.qos as u8,
        retain: publish.retain,
        properties: Properties {
            user: properties.user_properties,
            content_type: properties.content_type,
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data.map(|data| data.to_vec()),
            payload_format: properties.payload_format_indicator,
            message_expiry: properties.message_expiry_interval,
            topic_alias: properties.topic_alias,
        },
    }
}

fn will_properties(properties: Properties) -> LastWillProperties {
    LastWillProperties {
        delay_interval: None,
        payload_format_indicator: properties.payload_format,
        message_expiry_interval: properties.message_expiry,
        content_type: properties.content_type,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data.map(Into::into),
        user_properties: properties.user,
    }
}

pub async fn publish(client: &AsyncClient, message: Message) {
    let Message {
        topic,
        payload,
        qos: level,
        retain,
        properties,
    } = message;
    let properties = PublishProperties {
        payload_format_indicator: properties.payload_format,
        message_expiry_interval: properties.message_expiry,
        topic_alias: properties.topic_alias,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data.map(Into::into),
        user_properties: properties.user,
        subscription_identifiers: Vec::new(),
        content_type: properties.content_type,
    };
    let sent = client
        .publish_with_properties(topic, qos(level), retain, payload, properties)
        .await;
    sent.expect("a running event loop");
}

pub fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}
