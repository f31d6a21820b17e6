//! Will Messages (section 3.1.2.5).

use std::sync::Arc;

use crate::identity::ClientInfo;
use crate::message::NewMessage;
use crate::packet::Will;

/// The will of a session: the message, how long after the connection it is due, and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct WillMessage {
    pub(crate) message: NewMessage,
    /// Will Delay Interval, in seconds.
    pub(crate) delay_interval: u32,
    pub(crate) client: Arc<ClientInfo>,
}

impl WillMessage {
    pub(crate) fn new(will: &Will<'_>, client: Arc<ClientInfo>) -> WillMessage {
        WillMessage {
            message: NewMessage::from_will(will),
            delay_interval: will.delay_interval,
            client,
        }
    }
}
