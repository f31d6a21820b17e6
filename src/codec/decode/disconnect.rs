//! DISCONNECT (section 3.14) and AUTH (section 3.15).

use super::{acks, at_end, properties};
use crate::codec::{DecodeError, reasons};
use crate::packet::{Auth, Disconnect, Version};
use crate::properties::{Properties, Property};
use crate::reason::ReasonCode;
use crate::wire::Reader;

pub(super) fn disconnect(version: Version, body: &[u8]) -> Result<Disconnect<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut session_expiry_interval = None;
    let (mut reason, mut properties) = (ReasonCode::Success, Properties::EMPTY);
    if version.is_v5() {
        let allowed = properties::DISCONNECT;
        (reason, properties) =
            acks::reason_and_properties(&mut reader, allowed, reasons::in_client_disconnect, |property| {
                if let Property::SessionExpiryInterval(seconds) = property {
                    session_expiry_interval = Some(seconds);
                }
            })?;
    }
    at_end(&reader)?;
    Ok(Disconnect {
        reason,
        session_expiry_interval,
        properties,
    })
}

/// An AUTH of a client says more than Success, so that it cannot be the one without Reason Code and properties.
pub(super) fn auth(body: &[u8]) -> Result<Auth<'_>, DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::protocol("AUTH of a client with Success"));
    }
    let mut reader = Reader::new(body);
    let reason = acks::reason(&mut reader, reasons::in_client_auth)?;
    let mut auth = Auth {
        reason,
        method: None,
        data: None,
        properties: Properties::EMPTY,
    };
    auth.properties = properties::block(&mut reader, properties::AUTH, |property| match property {
        Property::AuthenticationMethod(method) => auth.method = Some(method),
        Property::AuthenticationData(data) => auth.data = Some(data),
        _ => {}
    })?;
    at_end(&reader)?;
    // Section 3.15.2.2.2.
    if auth.method.is_none() {
        return Err(DecodeError::protocol("AUTH without Authentication Method"));
    }
    Ok(auth)
}
