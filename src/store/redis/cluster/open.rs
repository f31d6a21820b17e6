//! Opening: an incarnation joins the others, and enters all homes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::Value;

use super::ClusterStore;
use super::about::announce;
use super::following::Following;
use super::legacy::examine;
use super::life::Life;
use super::memory::Memory;
use super::plan::Context;
use super::recent::Recent;
use super::scripts::{ClusterScripts, ENTER, JOIN};
use super::serving;
use super::witness::{Told, Witnesses};
use super::writer::Writer;
use crate::store::cluster::{About, Entry, INCARNATIONS, Incarnation, Limits, Serving};
use crate::store::redis::check::check;
use crate::store::redis::keys::{BUCKETS, Home, Keys, SCHEMA, SCHEMA_BEFORE};
use crate::store::redis::link::Link;
use crate::store::redis::readers::Readers;
use crate::store::redis::reply::{bytes, list, number, text};
use crate::store::redis::schema::other_schema;
use crate::store::redis::script::eval;
use crate::store::{RedisSettings, StoreError};
use crate::time::Millis;

/// What a node begins with.
#[derive(Clone, Copy, Debug)]
struct Joined {
    incarnation: Incarnation,
    /// That of its own entry in the log.
    position: u64,
    now: Millis,
    /// Incarnations up to this one are over.
    generation: Incarnation,
}

/// Longer messages are read by the owner of their session.
const LONGEST_TOLD: u64 = 8 * 1024;
/// Longer ones would take a script more time to join than Redis takes for another event.
const LONGEST_JOINED: u64 = 512;

impl ClusterStore {
    /// Joins the cluster with this prefix, as a node that was never there before. It is dead once it has been silent for the
    /// lease.
    ///
    /// # Errors
    /// If Redis can't be reached or must not be used as it is, or if what is there is not of a cluster.
    pub(crate) fn open(settings: &RedisSettings, limits: Limits, lease: Duration) -> Result<ClusterStore, StoreError> {
        let keys = Keys::new(&settings.prefix)?;
        let mut link = Link::connect(settings)?;
        check(&mut link, settings)?;
        let scripts = ClusterScripts::load(&mut link)?;
        let serving = serving::read(&mut link, &keys)?;
        let examined = examine(&mut link, &keys, &serving, settings.legacies.take());
        let inherited = examined.map_err(|(error, legacies)| {
            settings.legacies.add(legacies);
            error
        })?;
        let opened = ClusterStore::join(settings, limits, lease, (keys, scripts, link, serving));
        match opened {
            Ok(store) => {
                *store.inherited.lock() = inherited;
                Ok(store)
            }
            Err(error) => {
                settings.legacies.add(inherited);
                Err(error)
            }
        }
    }

    fn join(
        settings: &RedisSettings,
        limits: Limits,
        lease: Duration,
        (keys, scripts, mut link, serving): (Keys, ClusterScripts, Link, Serving),
    ) -> Result<ClusterStore, StoreError> {
        let joined = join(&mut link, &keys)?;
        let now = (joined.now, Instant::now());
        enter(&mut link, &keys, joined.incarnation)?;
        introduce(&mut link, &keys, joined.incarnation, (&settings.node_name, lease))?;
        tracing::info!(
            "Redis at {}, prefix {}: node {} of the cluster",
            link.address(),
            keys.prefix(),
            joined.incarnation
        );
        let is_waited_for = settings.wait > 0 || settings.fsync;
        let context = Context {
            incarnation: joined.incarnation,
            limits,
            // What is told at once is told before it is as durable as it must be.
            longest_told: if is_waited_for { 0 } else { LONGEST_TOLD },
            longest_joined: if link.is_cluster() {
                u64::from(u32::MAX)
            } else {
                LONGEST_JOINED
            },
        };
        let recent = Arc::new(Recent::new(joined.position));
        let life = Arc::new(Life::new(&recent));
        let serving = Arc::new(Mutex::new(serving));
        let follower = Told::default();
        let witnesses = Witnesses {
            recent: Arc::clone(&recent),
            follower: Arc::clone(&follower),
            drops_oldest: limits.drops_oldest,
        };
        let writer = Writer::new(settings, &keys, &scripts, context, link, (&life, &serving, witnesses));
        Ok(ClusterStore {
            readers: Readers::new(settings),
            following: Following::new(settings, (&keys, joined.incarnation), &recent, &life, (lease, &serving)),
            recent,
            life,
            writer: Mutex::new(writer),
            follower,
            serving,
            memory: Mutex::new(Some(Memory::default())),
            inherited: Mutex::default(),
            legacies: settings.legacies.clone(),
            incarnation: joined.incarnation,
            generation: joined.generation,
            not_retained: std::sync::atomic::AtomicU64::new(0),
            owes: std::sync::atomic::AtomicBool::new(false),
            keys,
            scripts,
            now,
        })
    }
}

fn join(link: &mut Link, keys: &Keys) -> Result<Joined, StoreError> {
    // The script puts the number behind it.
    let mut entry = Vec::new();
    Entry::Join(0).write(&mut entry);
    entry.truncate(entry.len() - size_of::<Incarnation>());
    let mut command = eval(JOIN, &[&keys.of(Home::Global, "meta")]);
    command.arg(SCHEMA).arg(BUCKETS).arg(INCARNATIONS).arg(entry);
    command.arg(SCHEMA_BEFORE);
    let mut reply = list(link.ask(command)?)?.into_iter();
    let mut next = || reply.next().unwrap_or(Value::Nil);
    match number(next())? {
        0 => Err(refused(link, keys, &text(next())?, &text(next())?)),
        incarnation => Ok(Joined {
            incarnation,
            position: number(next())?,
            now: Millis::from_unix(number(next())?),
            generation: number(next())?,
        }),
    }
}

fn refused(link: &Link, keys: &Keys, found: &str, buckets: &str) -> StoreError {
    if buckets.is_empty() {
        return StoreError::Refused(format!(
            "the cluster under the prefix {} in Redis at {} has had {} starts of nodes, and can't have more: use another prefix",
            keys.prefix(),
            link.address(),
            INCARNATIONS - 1
        ));
    }
    other_schema(link, keys, found, buckets)
}

/// Tells what `broker store` has to know, which may come before the node has read what there is.
fn introduce(
    link: &mut Link,
    keys: &Keys,
    incarnation: Incarnation,
    (name, lease): (&str, Duration),
) -> Result<(), StoreError> {
    let about = About {
        name: name.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        lease: Some(lease),
        ..About::default()
    };
    announce(link, keys, incarnation, &about).map(drop)
}

fn enter(link: &mut Link, keys: &Keys, incarnation: Incarnation) -> Result<(), StoreError> {
    let commands: Vec<_> = Home::buckets()
        .map(|home| {
            let mut command = eval(ENTER, &[&keys.of(home, "hw")]);
            command.arg(incarnation);
            command
        })
        .collect();
    for reply in link.run(&commands)? {
        let reply = link.checked(reply)?;
        if bytes(reply)? != b"OK" {
            return Err(StoreError::Unavailable(format!(
                "another node of the cluster in Redis at {} has declared this one dead before it had begun",
                link.address()
            )));
        }
    }
    Ok(())
}
