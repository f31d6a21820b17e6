//! What an embedding program may decide: who connects, who publishes and subscribes to what.

use async_trait::async_trait;

use crate::identity::ClientInfo;
use crate::message::{Message, NewMessage, Publication};
use crate::packet::{QoS, SubscriptionOptions};
use crate::properties::Properties;
use crate::reason::ReasonCode;
use crate::topic::TopicFilter;

/// A CONNECT that asks for acceptance.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConnectRequest<'a> {
    /// Who connects; the Client Identifier is the assigned one if the client sent none.
    pub client: &'a ClientInfo,
    /// Password of its CONNECT.
    pub password: Option<&'a [u8]>,
    /// Clean Start, or Clean Session.
    pub clean_start: bool,
    /// Keep Alive in seconds, as requested.
    pub keep_alive: u16,
    /// The properties of an MQTT 5.0 CONNECT.
    pub properties: Properties<'a>,
}

/// A publication that asks for acceptance.
#[derive(Clone, Copy, Debug)]
pub struct PublishRequest<'a> {
    pub(crate) publication: &'a Publication<'a>,
    pub(crate) is_will: bool,
}

impl<'a> PublishRequest<'a> {
    /// The Topic Name.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.publication.topic
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.publication.payload
    }

    /// The properties that will be forwarded.
    #[must_use]
    pub fn properties(&self) -> Properties<'a> {
        Properties::from_checked(self.publication.properties)
    }

    /// QoS.
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.publication.qos
    }

    /// RETAIN flag.
    #[must_use]
    pub fn retain(&self) -> bool {
        self.publication.retain
    }

    /// Whether this is the Will Message of the client.
    #[must_use]
    pub fn is_will(&self) -> bool {
        self.is_will
    }

    /// A copy of the whole message, to be changed for [`PublishVerdict::Rewrite`].
    #[must_use]
    pub fn to_message(&self) -> NewMessage {
        NewMessage::from_publication(self.publication)
    }
}

/// The answer of [`Hooks::authorize_publish`].
#[derive(Clone, Debug)]
pub enum PublishVerdict {
    /// Publish it as it is.
    Allow,
    /// Publish this instead, see [`PublishRequest::to_message`]. Packet Identifier and acknowledgement stay those of
    /// the client's packet.
    Rewrite(NewMessage),
    /// Discard it. An MQTT 5.0 client is told the code, which is 0x80 or above, for QoS 1 and 2; an MQTT 3 client
    /// gets a positive acknowledgement [MQTT3-3.3.5-2].
    Refuse(ReasonCode),
}

/// The answer of [`Hooks::authorize_subscribe`].
#[derive(Clone, Debug)]
pub enum SubscribeVerdict {
    /// Subscribe as asked.
    Allow,
    /// Subscribe to this instead.
    Rewrite(TopicFilter, SubscriptionOptions),
    /// Refuse with this code, which is 0x80 or above.
    Refuse(ReasonCode),
}

/// The answer of [`Hooks::authorize_forward`].
#[derive(Clone, Debug)]
pub enum ForwardVerdict {
    /// Forward it as it is.
    Allow,
    /// Forward this instead; QoS and RETAIN stay those of the delivery. A copy to be changed is
    /// `NewMessage::from(message)`.
    Rewrite(NewMessage),
    /// Discard it for this client.
    Discard,
}

/// Which hooks a [`Hooks`] implements: those that it does not name are never called and cost nothing.
///
/// ```
/// use mqtt_broker::Interests;
///
/// let mut interests = Interests::NONE;
/// interests.authenticate = true;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interests {
    /// [`Hooks::on_connect`]
    pub on_connect: bool,
    /// [`Hooks::authenticate`]
    pub authenticate: bool,
    /// [`Hooks::authorize_publish`]
    pub authorize_publish: bool,
    /// [`Hooks::authorize_subscribe`]
    pub authorize_subscribe: bool,
    /// [`Hooks::authorize_forward`]
    pub authorize_forward: bool,
    /// [`Hooks::published`]
    pub published: bool,
}

impl Interests {
    /// All hooks.
    pub const ALL: Interests = Interests {
        on_connect: true,
        authenticate: true,
        authorize_publish: true,
        authorize_subscribe: true,
        authorize_forward: true,
        published: true,
    };

    /// No hook.
    pub const NONE: Interests = Interests {
        on_connect: false,
        authenticate: false,
        authorize_publish: false,
        authorize_subscribe: false,
        authorize_forward: false,
        published: false,
    };
}

/// Decisions of the embedding program. Every method has a default that allows everything.
///
/// A hook is awaited by the connection that asked, so a slow one holds up that client alone: until the hook returns,
/// nothing more of that client is read, and another connection that takes its session over waits. The hooks of a
/// CONNECT share [`Config::connect_timeout`](crate::Config::connect_timeout). A panic in a hook ends that connection,
/// not the broker; the client's session is kept.
///
/// Implement it with [`async_trait`](macro@crate::async_trait):
///
/// ```
/// use mqtt_broker::{ConnectRequest, Hooks, Interests, ReasonCode, async_trait};
///
/// struct Password(&'static str);
///
/// #[async_trait]
/// impl Hooks for Password {
///     fn interests(&self) -> Interests {
///         let mut interests = Interests::NONE;
///         interests.authenticate = true;
///         interests
///     }
///
///     async fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<(), ReasonCode> {
///         match request.password {
///             Some(password) if password == self.0.as_bytes() => Ok(()),
///             _ => Err(ReasonCode::BadUserNameOrPassword),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// Which methods are to be called; asked once, at the start of the broker.
    fn interests(&self) -> Interests {
        Interests::ALL
    }

    /// A valid CONNECT has arrived; before authentication.
    ///
    /// # Errors
    /// The Reason Code, 0x80 or above, with which the connection is refused.
    async fn on_connect(&self, _request: &ConnectRequest<'_>) -> Result<(), ReasonCode> {
        Ok(())
    }

    /// Whether the client is who it says.
    ///
    /// # Errors
    /// The Reason Code, 0x80 or above, with which the connection is refused.
    async fn authenticate(&self, _request: &ConnectRequest<'_>) -> Result<(), ReasonCode> {
        Ok(())
    }

    /// Whether the client may publish this. Wills are asked about when they are due.
    async fn authorize_publish(&self, _client: &ClientInfo, _request: &PublishRequest<'_>) -> PublishVerdict {
        PublishVerdict::Allow
    }

    /// Whether the client may subscribe. Asked again for each subscription of a session that is resumed.
    async fn authorize_subscribe(
        &self,
        _client: &ClientInfo,
        _filter: &TopicFilter,
        _options: SubscriptionOptions,
    ) -> SubscribeVerdict {
        SubscribeVerdict::Allow
    }

    /// Whether this client may receive this message; retained messages too. Called for each delivery, by the connection
    /// of the recipient, when it is about to be sent; not again when it is sent again, unless the broker has been
    /// started again meanwhile. Subscriptions of the program are not asked about.
    async fn authorize_forward(&self, _client: &ClientInfo, _message: &Message) -> ForwardVerdict {
        ForwardVerdict::Allow
    }

    /// A message has been accepted and routed; wills too. `client` is `None` for messages of the program. The broker's
    /// own, under `$SYS`, are not told.
    async fn published(&self, _client: Option<&ClientInfo>, _request: &PublishRequest<'_>) {}
}
