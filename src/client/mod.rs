//! The client's side of the protocol, as small as the commands of this program need it.
//!
//! It trusts the server that it talks to more than the broker trusts its clients: it checks lengths, so that nothing
//! panics, but not every rule.

mod encode;
mod inbound;

pub(crate) use encode::{
    Connect, Will, connect, disconnect, disconnect_with, pingreq, subscribe, subscribe_with, unsubscribe,
    unsubscribe_with,
};
pub(crate) use inbound::{Inbound, InboundPublish, parse};
