//! DISCONNECT from a client (section 3.14).

use super::{Client, Closing};
use crate::broker::RouteScratch;
use crate::packet::Disconnect;
use crate::reason::ReasonCode;

/// The client says goodbye. Only Reason Code 0x00 deletes its will [MQTT-3.14.4-3].
pub(super) fn handle(client: &mut Client, disconnect: &Disconnect<'_>, scratch: &mut RouteScratch) -> Closing {
    if let Some(seconds) = disconnect.session_expiry_interval {
        // Section 3.14.2.2.2: a session that was to end with the connection can't be extended any more.
        if seconds > 0 && !client.agreed.session_survives {
            return Closing::protocol_error("Session Expiry Interval in DISCONNECT after 0 in CONNECT");
        }
        client.session.expiry_interval = super::connect::cap_expiry(&client.config, seconds);
    }
    if disconnect.reason == ReasonCode::Success {
        client.drop_will(scratch);
    }
    Closing::Disconnected
}
