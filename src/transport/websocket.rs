//! MQTT over WebSocket (section 6).

pub(crate) mod frame;
mod stream;
mod upgrade;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Refused, TrustedProxies};
use crate::identity::Peer;
pub(crate) use stream::WebSocketStream;

/// How a listener answers WebSocket clients.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WebSocket {
    /// The path that clients ask for; `/` answers besides.
    pub path: Box<str>,
    /// Origins whose pages may connect, such as `https://example.com`; all if there is none. Clients that are no
    /// browsers send no origin, and may connect.
    pub origins: Vec<Box<str>>,
    /// Whether [`Peer::upgrade`] gets the request: for hooks that decide by its headers.
    pub keeps_request: bool,
}

impl Default for WebSocket {
    fn default() -> WebSocket {
        WebSocket {
            path: "/mqtt".into(),
            origins: Vec::new(),
            keeps_request: true,
        }
    }
}

impl WebSocket {
    /// Answers the request of a client. What it says of the client goes into `peer`.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: S,
        trusted: &TrustedProxies,
        peer: &mut Peer,
    ) -> Result<WebSocketStream<S>, Refused> {
        upgrade::upgrade(io, self, trusted, peer).await
    }
}
