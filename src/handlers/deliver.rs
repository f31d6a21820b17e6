//! From the outbox to the client: PUBLISH to a client (section 3.3).

use std::sync::Arc;

use super::Client;
use crate::codec::encode::{self, AckKind, PublishFrame};
use crate::hooks::ForwardVerdict;
use crate::message::Message;
use crate::packet::QoS;
use crate::reason::ReasonCode;
use crate::session::{Delivery, Naming, Qos0, Resend, Taken};
use crate::stats::Discard;
use crate::time::Millis;

impl Client {
    /// Moves messages from the outbox to the output, as many as the client may be sent now.
    ///
    /// What an earlier connection left unacknowledged goes first, in its order [MQTT-4.6.0-1].
    pub(crate) async fn deliver(&mut self, taken: &mut Taken) {
        self.resend();
        let Some(appetite) = self.appetite() else { return };
        self.session.outbox.take(appetite, taken);
        if self.core.interests.authorize_forward {
            return Box::pin(self.ask_and_deliver(taken)).await;
        }
        for item in taken.qos0.drain(..) {
            match item {
                Qos0::Frames {
                    bytes,
                    count,
                    payload_bytes,
                } => self.append_frames(bytes, count, payload_bytes),
                Qos0::Message(delivery) => self.send(&delivery, 0, false),
            }
        }
        for delivery in taken.deliveries.drain(..) {
            self.send_new(delivery);
        }
    }

    fn append_frames(&mut self, bytes: Vec<u8>, count: u32, payload_bytes: u32) {
        self.stats.packets_sent += u64::from(count);
        self.stats.publish_sent += u64::from(count);
        self.stats.publish_bytes_sent += u64::from(payload_bytes);
        if self.output.is_empty() && bytes.len() > self.output.capacity() {
            self.output = bytes;
        } else {
            self.output.extend_from_slice(&bytes);
        }
    }

    /// A QoS 1 or 2 message enters the window.
    fn send_new(&mut self, delivery: Delivery) {
        if delivery.message.is_expired(self.core.clock.now()) {
            // [MQTT-3.3.2-5]
            return self.give_up(&delivery, Discard::Expired);
        }
        if !self.fits(&delivery) {
            return self.give_up(&delivery, Discard::TooLarge);
        }
        let identifier = self.session.inflight.push(delivery.clone());
        self.send(&delivery, identifier, false);
    }

    fn give_up(&mut self, delivery: &Delivery, cause: Discard) {
        self.settle(delivery);
        self.session.outbox.count_discard(cause);
    }

    /// Sends again what is unacknowledged [MQTT-4.4.0-1], with DUP set [MQTT-3.3.1-1].
    fn resend(&mut self) {
        while self.session.inflight.is_resending() && self.appetite().is_some() {
            let window = self.window();
            match self.session.inflight.next_resend(window) {
                Some(Resend::Pubrel(identifier)) => {
                    self.acknowledge(AckKind::Pubrel, identifier, ReasonCode::Success, None);
                }
                Some(Resend::Publish(identifier, delivery)) if self.fits(&delivery) => {
                    self.send(&delivery, identifier, true);
                }
                Some(Resend::Publish(identifier, _)) => {
                    if let Some(delivery) = self.session.inflight.discard(identifier) {
                        self.give_up(&delivery, Discard::TooLarge);
                    }
                }
                None => return,
            }
        }
    }

    /// Whether the client accepts a packet of that size [MQTT-3.1.2-24].
    fn fits(&self, delivery: &Delivery) -> bool {
        self.accepts(&delivery.frame(self.core.clock.now()))
    }

    fn accepts(&self, frame: &PublishFrame<'_>) -> bool {
        let limit = self.agreed.maximum_packet_size;
        limit.is_none_or(|limit| encode::publish_size(self.agreed.version, frame) <= limit as usize)
    }

    fn send(&mut self, delivery: &Delivery, identifier: u16, dup: bool) {
        let now = self.core.clock.now();
        if delivery.qos == QoS::AtMostOnce && delivery.message.is_expired(now) {
            return self.session.outbox.count_discard(Discard::Expired);
        }
        if delivery.qos == QoS::AtMostOnce && !self.fits(delivery) {
            return self.session.outbox.count_discard(Discard::TooLarge);
        }
        self.append_publish(delivery, identifier, dup, now);
        self.stats.packets_sent += 1;
        self.stats.publish_sent += 1;
        self.stats.publish_bytes_sent += delivery.message.payload().len() as u64;
    }

    fn append_publish(&mut self, delivery: &Delivery, identifier: u16, dup: bool, now: Millis) {
        let mut frame = delivery.frame(now);
        frame.packet_id = identifier;
        frame.dup = dup;
        match self.aliases_out.naming(frame.topic) {
            Naming::Plain => {}
            Naming::Introduce(alias) => {
                frame.topic_alias = Some(alias);
                if self.accepts(&frame) {
                    self.aliases_out
                        .introduced(Arc::clone(delivery.message.topic_arc()), alias);
                } else {
                    frame.topic_alias = None;
                }
            }
            Naming::Alias(alias) => {
                let aliased = PublishFrame {
                    topic_alias: Some(alias),
                    topic: "",
                    ..frame
                };
                // An alias takes more bytes than a very short topic.
                if self.accepts(&aliased) {
                    frame = aliased;
                }
            }
        }
        encode::publish(&mut self.output, self.agreed.version, &frame);
    }

    /// Asks the hook about each delivery before it is sent.
    ///
    /// QoS 1 and 2 messages stay in the session while the hook is asked, so that they are still there if the
    /// connection ends meanwhile.
    async fn ask_and_deliver(&mut self, taken: &mut Taken) {
        self.session.forwarding.extend(taken.deliveries.drain(..));
        for item in taken.qos0.drain(..) {
            // With this hook the outbox has no ready-made frames.
            let Qos0::Message(delivery) = item else { continue };
            if let Some(delivery) = self.ask_forward(delivery).await {
                self.send(&delivery, 0, false);
            }
        }
        while self.session.inflight.room(self.window()) > 0 {
            let Some(delivery) = self.session.forwarding.front().cloned() else {
                return;
            };
            let allowed = self.ask_forward(delivery).await;
            let Some(asked) = self.session.forwarding.pop_front() else {
                return;
            };
            match allowed {
                Some(delivery) => self.send_new(delivery),
                None => self.settle(&asked),
            }
        }
    }

    async fn ask_forward(&self, mut delivery: Delivery) -> Option<Delivery> {
        let Some(hooks) = &self.core.hooks else {
            return Some(delivery);
        };
        match hooks.authorize_forward(&self.info, &delivery.message).await {
            ForwardVerdict::Allow => Some(delivery),
            ForwardVerdict::Rewrite(message) => {
                let publication = message.as_publication(self.core.clock.now());
                delivery.message = Arc::new(Message::new(&publication));
                Some(delivery)
            }
            ForwardVerdict::Discard => {
                self.session.outbox.count_discard(Discard::NotAuthorized);
                None
            }
        }
    }
}
