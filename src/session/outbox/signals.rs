//! What others ask of the owner of a session.

use tokio::sync::mpsc;

use crate::reason::ReasonCode;
use crate::session::inquiry::Inquiry;

/// Requests to the owner of the session.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Another connection claims the session.
    pub(crate) takeover: bool,
    /// The alarm that the owner has set has gone off.
    pub(crate) alarm: bool,
    /// Close the connection with this Reason Code.
    pub(crate) close: Option<ReasonCode>,
    /// Close the connection, if it is the one that is meant.
    pub(crate) kick: Option<Kick>,
    /// What the client may do has changed.
    pub(crate) recheck: bool,
    /// Which clients are traced has changed.
    pub(crate) retrace: bool,
    /// Questions about what only the owner sees.
    pub(crate) inquiries: Option<Box<Vec<Inquiry>>>,
    /// The broker shuts down: publish the will, then drop this.
    pub(crate) drain: Option<mpsc::Sender<()>>,
    /// More is durable: answers may wait for that.
    pub(crate) kept: bool,
}

impl Signals {
    pub(super) fn is_empty(&self) -> bool {
        !self.takeover
            && !self.alarm
            && !self.recheck
            && !self.retrace
            && !self.kept
            && self.inquiries.is_none()
            && self.close.is_none()
            && self.kick.is_none()
            && self.drain.is_none()
    }
}

/// A wish of another node of the cluster, which may come late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kick {
    /// The number of the connection, as the owner of its client.
    pub(crate) connection: u64,
    pub(crate) reason: ReasonCode,
    /// The session ends with it.
    pub(crate) ends_session: bool,
}
