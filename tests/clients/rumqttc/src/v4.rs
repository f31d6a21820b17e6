//! rumqttc's MQTT 3.1.1 module behind the common client.

use rumqttc::{
    AsyncClient, Event as Raw, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS, SubscribeReasonCode,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::client::{Event, Message, Opened, Properties, Sender, Settings};

pub fn open(port: u16, settings: Settings) -> Opened {
    let mut options = MqttOptions::new(settings.id, "127.0.0.1", port);
    options.set_clean_session(!settings.persistent);
    options.set_max_packet_size(1 << 20, 1 << 20);
    // Above what any scenario has under way, since rumqttc loses a QoS 2 message when its window wraps around.
    options.set_inflight(10_000);
    if let Some(will) = settings.will {
        options.set_last_will(LastWill::new(will.topic, will.payload, qos(will.qos), will.retain));
    }
    let (client, eventloop) = AsyncClient::new(options, 100);
    let (sender, events) = unbounded_channel();
    (Sender::V4(client), tokio::spawn(poll(eventloop, sender)), events)
}

async fn poll(mut eventloop: EventLoop, events: UnboundedSender<Event>) {
    loop {
        let event = match eventloop.poll().await {
            Ok(event) => translate(event),
            Err(error) => Some(Event::Lost {
                reason: None,
                error: error.to_string(),
            }),
        };
        let lost = matches!(event, Some(Event::Lost { .. }));
        // A failed send means that the client was dropped, and with it this task ends.
        let delivered = event.is_none_or(|event| events.send(event).is_ok());
        if lost || !delivered {
            return;
        }
    }
}

fn translate(event: Raw) -> Option<Event> {
    match event {
        Raw::Incoming(Packet::ConnAck(connack)) => Some(Event::Connected {
            session_present: connack.session_present,
        }),
        Raw::Incoming(Packet::SubAck(suback)) => Some(Event::Granted(suback.return_codes.iter().map(code).collect())),
        Raw::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Some(Event::Acknowledged),
        Raw::Incoming(Packet::Publish(publish)) => Some(Event::Message(Message {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            properties: Properties::default(),
        })),
        // At QoS 0 the write to the socket is all there is to wait for.
        Raw::Outgoing(Outgoing::Publish(0)) => Some(Event::Acknowledged),
        _ => None,
    }
}

fn code(code: &SubscribeReasonCode) -> u8 {
    match code {
        SubscribeReasonCode::Success(qos) => *qos as u8,
        SubscribeReasonCode::Failure => 0x80,
    }
}

pub async fn publish(client: &AsyncClient, message: Message) {
    let sent = client
        .publish(message.topic, qos(message.qos), message.retain, message.payload)
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
