//! A cluster's store, opened to be looked into: nodes that share it go on.
//!
//! It reads as the store of one broker would be that has ended without warning at this moment:
//! * Clients that a node owns were connected.
//! * A QoS 2 message that a client has not released yet was published by that broker when it came; so it is
//!   as a will that is due, and its Packet Identifier is known.
//! * Messages that have begun are in some queues and not in others: that can't be said otherwise, and a node has to finish it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::about::longest_lease;
use super::clients::{Kept, Owned, clients};
use super::members::nodes;
use crate::identity::{ClientInfo, Peer, Proof, Rights};
use crate::message::Message;
use crate::packet::Version;
use crate::store::cluster::{Incarnation, bucket_of_uid};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::read as read_any;
use crate::store::redis::readers::Readers;
use crate::store::redis::reply::{list, number};
use crate::store::redis::script::Scripts;
use crate::store::{
    Batch, Lane, Page, RedisSettings, Store, StoreError, StoredDelivery, StoredSession, StoredWill, Uid, write_client,
};
use crate::time::Millis;

/// See the module.
#[derive(Debug)]
pub(super) struct Reader {
    keys: Keys,
    readers: Readers,
    scripts: Scripts,
    /// The time of Redis when it was opened.
    now: Millis,
}

/// A node that lives says so in its lease, and in this time if that is not known.
const BEATS: Duration = Duration::from_secs(3);

/// Wills that are of no session have names from here on.
const STRAY: Uid = 1 << 62;

impl Reader {
    pub(super) fn open(settings: &RedisSettings, keys: Keys, link: &mut Link) -> Result<Reader, StoreError> {
        Ok(Reader {
            now: time(link)?,
            scripts: Scripts::load(link)?,
            readers: Readers::new(settings),
            keys,
        })
    }

    /// Sessions, with what is known of their clients.
    fn owned(&self, each: &mut dyn FnMut(StoredSession, &Owned)) -> Result<(), StoreError> {
        let owned = self.readers.once(|link| clients(link, &self.keys))?;
        let places: Vec<_> = owned
            .keys()
            .map(|uid| (*uid, Home::Bucket(bucket_of_uid(*uid))))
            .collect();
        self.readers.once(|link| {
            read_any::sessions(link, &self.keys, &places, &mut |session| {
                // One that ends with its connection is there for what groups give it.
                if let Some(owned) = owned.get(&session.uid).filter(|_| session.expiry_interval > 0) {
                    each(session, owned);
                }
            })
        })
    }

    /// Since when the client is away.
    fn away_since(&self, session: &StoredSession, owned: &Owned) -> Option<Millis> {
        let expiry = u64::from(session.expiry_interval) * 1000;
        match owned {
            Owned { is_connected: true, .. } => None,
            Owned { ends_at: Some(at), .. } => Some(Millis::from_unix(at.saturating_sub(expiry))),
            _ => Some(session.away_since.unwrap_or(self.now)),
        }
    }
}

impl Store for Reader {
    fn commit(&self, _batch: &Batch<'_>) -> Result<(), StoreError> {
        Err(StoreError::Refused("the store was opened to be read".to_owned()))
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        self.owned(&mut |mut session, owned| {
            session.away_since = self.away_since(&session, owned);
            each(session);
        })
    }

    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        let mut away = BTreeMap::new();
        let mut strays = STRAY..;
        let mut name = move || strays.next().unwrap_or(STRAY);
        let mut accepted = Vec::new();
        self.owned(&mut |session, owned| {
            if let Some(since) = self.away_since(&session, owned) {
                away.insert(session.uid, since);
            }
            let of_it = session.accepted.iter().map(|(_, message)| Arc::clone(message));
            accepted.extend(of_it.map(|message| (session.client_id.clone(), message)));
        })?;
        let wills = self.readers.once(|link| super::clients::wills(link, &self.keys))?;
        for Kept { mut will, uid, at } in wills {
            will.uid = uid.unwrap_or_else(&mut name);
            if let Some(at) = at {
                let since = uid.and_then(|uid| away.get(&uid)).copied().unwrap_or(self.now);
                will.delay_interval = seconds(Millis::from_unix(at).since(since));
            }
            each(will);
        }
        for mut will in self
            .readers
            .once(|link| super::clients::begun_wills(link, &self.keys))?
        {
            will.uid = name();
            each(will);
        }
        for (client_id, message) in accepted {
            each(self.of_accepted(name(), &client_id, &message));
        }
        Ok(())
    }

    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        self.readers.once(|link| read_any::retained(link, &self.keys, each))
    }

    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        let key = (&self.keys, Home::Bucket(bucket_of_uid(uid)), uid, lane);
        self.readers
            .read(|link| read_any::queue(link, key, &self.scripts, from, most))
    }

    fn look_whether_it_rests(&self) -> Result<(), StoreError> {
        self.look_whether_nodes_live()?;
        match self.readers.read(|link| begun(link, &self.keys))? {
            (0, 0) => Ok(()),
            (jobs, rests) => Err(StoreError::Refused(format!(
                "{jobs} messages have begun to be published by nodes that were killed, and {rests} sessions that have ended have left \
                 messages to others: start a node, which finishes that, and stop it when it has"
            ))),
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        self.readers.close();
        Ok(())
    }
}

impl Reader {
    /// # Errors
    /// If nodes say that they live.
    pub(super) fn look_whether_nodes_live(&self) -> Result<(), StoreError> {
        let look = || self.readers.read(|link| nodes(link, &self.keys));
        let before = look()?;
        if before.is_empty() {
            return Ok(());
        }
        let lease = self.readers.read(|link| longest_lease(link, &self.keys))?;
        std::thread::sleep(lease.map_or(BEATS, |lease| lease.max(BEATS)));
        let beats = |(node, beats): (Incarnation, u64)| (before.get(&node) != Some(&beats)).then_some(node);
        let living: Vec<_> = look()?.into_iter().filter_map(beats).collect();
        match living.is_empty() {
            true => Ok(()),
            false => Err(StoreError::Refused(format!(
                "nodes of the cluster are at work ({living:?}): stop them before, so that what is read is of one moment"
            ))),
        }
    }

    /// It was allowed when it came.
    fn of_accepted(&self, uid: Uid, client_id: &str, message: &Message) -> StoredWill {
        let mut client = Vec::new();
        write_client(
            &mut client,
            &ClientInfo {
                client_id: client_id.into(),
                username: None,
                version: Version::V5,
                peer: Peer::default(),
                connected_at: self.now,
                keep_alive: 0,
                session_expiry: u32::MAX,
                proof: Proof::Nothing,
                rights: Some(Arc::new(Rights {
                    everything: true,
                    ..Rights::default()
                })),
            },
        );
        let mut publication = message.as_publication();
        let expires_in = publication.expires_at.take().map(|at| seconds(at.since(self.now)));
        StoredWill {
            uid,
            delay_interval: 0,
            expires_in,
            message: Message::new(&publication),
            client: client.into(),
        }
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// The time of Redis.
fn time(link: &mut Link) -> Result<Millis, StoreError> {
    let mut parts = list(link.ask(redis::cmd("TIME"))?)?.into_iter();
    let mut next = || parts.next().map_or(Ok(0), number);
    Ok(Millis::from_unix(next()? * 1000 + next()? / 1000))
}

/// How many messages have begun that must have effect once, and how many sessions that have ended have left messages to others.
fn begun(link: &mut Link, keys: &Keys) -> Result<(u64, u64), StoreError> {
    let mut count = |name: &str| {
        let commands: Vec<_> = Home::buckets()
            .map(|home| {
                let mut command = redis::cmd("HLEN");
                command.arg(keys.of(home, name));
                command
            })
            .collect();
        let replies = link.run(&commands)?.into_iter();
        let counts = replies.map(|reply| link.checked(reply).and_then(number));
        counts.sum::<Result<u64, _>>()
    };
    Ok((count("jobs")?, count("rest")?))
}
