//! One client for both of rumqttc's protocol modules, so that each scenario is written once.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::harness::{DEADLINE, within};
use crate::{v4, v5};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Version {
    V4,
    V5,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    pub user: Vec<(String, String)>,
    pub content_type: Option<String>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Vec<u8>>,
    pub payload_format: Option<u8>,
    pub message_expiry: Option<u32>,
    pub topic_alias: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Properties,
}

impl Message {
    pub fn new(topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos,
            ..Self::default()
        }
    }

    pub fn retained(self) -> Self {
        Self { retain: true, ..self }
    }

    pub fn with(self, properties: &Properties) -> Self {
        Self {
            properties: properties.clone(),
            ..self
        }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("a payload of text")
    }
}

#[derive(Clone, Default)]
pub struct Settings {
    pub id: String,
    pub persistent: bool,
    pub will: Option<Message>,
    pub topic_alias_maximum: Option<u16>,
}

impl Settings {
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    pub fn persistent(id: &str) -> Self {
        Self {
            persistent: true,
            ..Self::new(id)
        }
    }
}

/// What an event loop reports.
#[derive(Debug)]
pub enum Event {
    Connected {
        session_present: bool,
    },
    Granted(Vec<u8>),
    Acknowledged,
    Message(Message),
    /// The connection ended, with the reason code of the broker's DISCONNECT.
    Lost {
        reason: Option<u8>,
        error: String,
    },
}

pub enum Sender {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// What a protocol module hands over: the sender, the task that polls the event loop, and its events.
pub type Opened = (Sender, JoinHandle<()>, UnboundedReceiver<Event>);

/// A connected client. Dropping it closes the socket without DISCONNECT.
pub struct Client {
    sender: Sender,
    polling: JoinHandle<()>,
    events: UnboundedReceiver<Event>,
    messages: VecDeque<Message>,
    granted: VecDeque<Vec<u8>>,
    acknowledged: usize,
    published: usize,
    session_present: Option<bool>,
    lost: Option<Option<u8>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

impl Client {
    /// Connects, and checks the session present bit.
    pub async fn connect(port: u16, version: Version, settings: Settings, session_present: bool) -> Self {
        let (sender, polling, events) = match version {
            Version::V4 => v4::open(port, settings),
            Version::V5 => v5::open(port, settings),
        };
        let mut client = Self {
            sender,
            polling,
            events,
            messages: VecDeque::new(),
            granted: VecDeque::new(),
            acknowledged: 0,
            published: 0,
            session_present: None,
            lost: None,
        };
        while client.session_present.is_none() {
            client.pull("CONNACK", DEADLINE).await;
        }
        assert_eq!(client.session_present, Some(session_present), "session present");
        client
    }

    async fn pull(&mut self, what: &str, deadline: Duration) {
        let event = within(what, deadline, self.events.recv()).await;
        match event.unwrap_or_else(|| panic!("the connection ended while waiting for {what}")) {
            Event::Connected { session_present } => self.session_present = Some(session_present),
            Event::Granted(codes) => self.granted.push_back(codes),
            Event::Acknowledged => self.acknowledged += 1,
            Event::Message(message) => self.messages.push_back(message),
            Event::Lost { reason, error } => {
                assert!(
                    what == "end of the connection",
                    "the connection ended while waiting for {what}: {error}"
                );
                self.lost = Some(reason);
            }
        }
    }

    /// Subscribes, and checks the codes of the SUBACK.
    pub async fn subscribe(&mut self, filter: &str, qos: u8) {
        match &self.sender {
            Sender::V4(client) => client
                .subscribe(filter, v4::qos(qos))
                .await
                .expect("a running event loop"),
            Sender::V5(client) => client
                .subscribe(filter, v5::qos(qos))
                .await
                .expect("a running event loop"),
        }
        while self.granted.is_empty() {
            self.pull("SUBACK", DEADLINE).await;
        }
        assert_eq!(self.granted.pop_front(), Some(vec![qos]), "codes of the SUBACK");
    }

    /// Publishes without waiting for the acknowledgement.
    pub async fn start_publish(&mut self, message: Message) {
        self.published += 1;
        match &self.sender {
            Sender::V4(client) => v4::publish(client, message).await,
            Sender::V5(client) => v5::publish(client, message).await,
        }
    }

    /// Waits until all that was published is acknowledged in full.
    pub async fn finish_publishing(&mut self, deadline: Duration) {
        while self.acknowledged < self.published {
            self.pull("acknowledgement", deadline).await;
        }
    }

    /// Publishes and waits until the message is acknowledged in full.
    pub async fn publish(&mut self, message: Message) {
        self.start_publish(message).await;
        self.finish_publishing(DEADLINE).await;
    }

    /// The next message.
    pub async fn message(&mut self) -> Message {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return message;
            }
            self.pull("message", DEADLINE).await;
        }
    }

    /// The next message is exactly this one, properties included.
    pub async fn expect(&mut self, expected: Message) {
        assert_eq!(self.message().await, expected, "message");
    }

    /// No message has come so far.
    pub fn received_nothing(&self) -> bool {
        self.messages.is_empty()
    }

    /// A clean end: sends DISCONNECT and waits for the broker to close.
    pub async fn disconnect(mut self) {
        match &self.sender {
            Sender::V4(client) => client.disconnect().await.expect("a running event loop"),
            Sender::V5(client) => client.disconnect().await.expect("a running event loop"),
        }
        self.wait_lost().await;
    }

    /// Closes the socket without DISCONNECT.
    pub fn kill(self) {
        drop(self);
    }

    /// Waits until the broker has ended the connection: the reason code of its DISCONNECT.
    pub async fn wait_lost(&mut self) -> Option<u8> {
        loop {
            if let Some(reason) = self.lost {
                return reason;
            }
            self.pull("end of the connection", DEADLINE).await;
        }
    }
}
