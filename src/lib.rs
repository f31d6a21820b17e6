//! An MQTT broker: MQTT 3.1, 3.1.1 and 5.0.

pub mod codec;
pub mod packet;
pub mod properties;
pub mod reason;
pub mod router;
pub mod topic;
mod wire;
