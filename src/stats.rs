//! Counters of a broker. They are updated once per batch, not once per message.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a message was not delivered to a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Discard {
    /// QoS 1 or 2, and the session's queue was full.
    QueueFull = 0,
    /// QoS 0, and the client does not read fast enough.
    SlowSubscriber = 1,
    /// Larger than the client's Maximum Packet Size.
    TooLarge = 2,
    /// Its Message Expiry Interval has passed.
    Expired = 3,
    /// No member of the Shared Subscription could take it.
    NoShareMember = 4,
    /// A hook refused to forward it.
    NotAuthorized = 5,
    /// Its session ended first.
    SessionEnded = 6,
    /// It was not retained, since the retained messages have reached their limit.
    RetainedFull = 7,
    /// The broker's memory is short: QoS 0 that waited for a slow client, or a message that was not retained.
    MemoryShort = 8,
    /// QoS 0 for other nodes of a cluster, or a retained message of QoS 0, while the store takes no changes.
    StoreDown = 9,
}

impl Discard {
    /// Every cause.
    pub const ALL: [Discard; 10] = [
        Discard::QueueFull,
        Discard::SlowSubscriber,
        Discard::TooLarge,
        Discard::Expired,
        Discard::NoShareMember,
        Discard::NotAuthorized,
        Discard::SessionEnded,
        Discard::RetainedFull,
        Discard::MemoryShort,
        Discard::StoreDown,
    ];

    /// A short name for topics and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Discard::QueueFull => "queue-full",
            Discard::SlowSubscriber => "slow-subscriber",
            Discard::TooLarge => "too-large",
            Discard::Expired => "expired",
            Discard::NoShareMember => "no-share-member",
            Discard::NotAuthorized => "not-authorized",
            Discard::SessionEnded => "session-ended",
            Discard::RetainedFull => "retained-full",
            Discard::MemoryShort => "memory-short",
            Discard::StoreDown => "store-down",
        }
    }

    /// The cause in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Discard::QueueFull => "queue full",
            Discard::SlowSubscriber => "slow subscriber",
            Discard::TooLarge => "larger than the client's Maximum Packet Size",
            Discard::Expired => "expired",
            Discard::NoShareMember => "no member of the shared subscription could take it",
            Discard::NotAuthorized => "not authorized",
            Discard::SessionEnded => "session ended",
            Discard::RetainedFull => "too many retained messages",
            Discard::MemoryShort => "memory is short",
            Discard::StoreDown => "the store takes no changes",
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the broker has counted since its start.
        #[derive(Debug, Default)]
        pub(crate) struct Stats {
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
            discards: [AtomicU64; Discard::ALL.len()],
        }

        /// Counters of one connection since they were last added to the broker's.
        #[derive(Debug, Default)]
        pub(crate) struct LocalStats {
            $(pub(crate) $name: u64,)*
        }

        impl LocalStats {
            /// Adds everything to `stats` and starts again at zero.
            pub(crate) fn flush(&mut self, stats: &Stats) {
                $(if self.$name != 0 {
                    stats.$name.fetch_add(std::mem::take(&mut self.$name), Ordering::Relaxed);
                })*
            }
        }
    };
}

counters! {
    /// Bytes received.
    bytes_received,
    /// Bytes sent.
    bytes_sent,
    /// Control Packets received.
    packets_received,
    /// Control Packets sent.
    packets_sent,
    /// PUBLISH packets received.
    publish_received,
    /// PUBLISH packets sent.
    publish_sent,
    /// Payload bytes received.
    publish_bytes_received,
    /// Payload bytes sent.
    publish_bytes_sent,
    /// Sockets accepted.
    sockets,
    /// CONNECT packets accepted.
    connections,
    /// Sessions that ended because their expiry interval passed.
    expired_sessions,
}

impl Stats {
    pub(crate) fn discarded(&self, cause: Discard, count: u64) {
        self.discards[cause as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Counts PUBLISH packets that a publisher has written for their receiver.
    pub(crate) fn sent_directly(&self, count: u32, payload_bytes: u32, bytes: usize) {
        self.packets_sent.fetch_add(u64::from(count), Ordering::Relaxed);
        self.publish_sent.fetch_add(u64::from(count), Ordering::Relaxed);
        self.publish_bytes_sent
            .fetch_add(u64::from(payload_bytes), Ordering::Relaxed);
        self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Messages discarded for this cause.
    pub(crate) fn discards(&self, cause: Discard) -> u64 {
        self.discards[cause as usize].load(Ordering::Relaxed)
    }

    /// Messages discarded for any cause.
    pub(crate) fn all_discards(&self) -> u64 {
        self.discards.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}
