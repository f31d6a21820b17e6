//! The state that belongs to a Client Identifier (section 4.1): it knows no socket and no store.

mod accepted;
mod aliases;
mod delivery;
mod inbound;
mod inflight;
mod inquiry;
mod membership;
mod outbox;
mod outgoing;
mod replay;
mod reuse;
mod state;
mod will;

pub(crate) use aliases::{AliasesIn, AliasesOut, Naming};
pub(crate) use delivery::{Delivery, Extras, Terms};
pub(crate) use inflight::{Acked, Finished, Inflight, LIVE_IDENTIFIERS, Resend, live_place};
pub(crate) use inquiry::{Excerpt, InFlight, Inquiry, Range};
pub(crate) use membership::Membership;
pub use outbox::QueueOverflow;
pub(crate) use outbox::{
    Appetite, DirectWrite, Glance, Kick, MEMBER_BATCH, Outbox, OutboxLimits, Placement, Qos0, TailPage, Taken, WakeUps,
    Wire, delivery_of, write_down,
};
pub(crate) use outgoing::{FrameScratch, Outgoing};
pub(crate) use replay::{Replay, Topics};
pub(crate) use reuse::Reuse;
pub(crate) use state::{Restored, Session, Subscription, Subscriptions};
pub(crate) use will::WillMessage;
