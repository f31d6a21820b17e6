//! Opening: the server is looked at, an incarnation begins, and takes all homes from those before it.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use redis::{Cmd, Value};

use super::RedisStore;
use super::check::check;
#[cfg(any(feature = "cli", test))]
use super::cluster;
use super::keys::{BUCKETS, Home, Keys, Schema};
use super::link::Link;
use super::note;
use super::read;
use super::readers::Readers;
use super::reply::{bytes, bytes_or_none, list, number, parse, text};
use super::script::{self, JOIN, Scripts, TAKE};
use super::writer::Writer;
#[cfg(any(feature = "cli", test))]
use crate::store::Store;
use crate::store::{RedisSettings, StoreError};
use crate::wire::Malformed;

/// Opens the store with this prefix. A broker that has it open can't write to it any more.
///
/// # Errors
/// If Redis can't be reached or must not be used as it is, or if what is there is of another schema.
pub(crate) fn open(settings: &RedisSettings) -> Result<RedisStore, StoreError> {
    let keys = Keys::new(&settings.prefix)?;
    let mut link = Link::connect(settings)?;
    check(&mut link, settings)?;
    let scripts = Scripts::load(&mut link)?;
    let (incarnation, last) = join(&mut link, &keys)?;
    take(&mut link, &keys, incarnation)?;
    let places = Arc::new(RwLock::new(read::places(&mut link, &keys)?));
    let writer = Writer::new(settings, &keys, &scripts, (incarnation, last), &places, link);
    Ok(RedisStore {
        writer: Mutex::new(writer),
        readers: Readers::new(settings),
        keys,
        scripts,
        places,
    })
}

#[cfg(any(feature = "cli", test))]
/// Opens the store to look into it: a broker that has it open goes on, and nothing can be committed.
///
/// # Errors
/// If Redis can't be reached, or what is there is of another schema.
pub(crate) fn open_to_read(settings: &RedisSettings) -> Result<Arc<dyn Store>, StoreError> {
    let keys = Keys::new(&settings.prefix)?;
    let mut link = Link::connect(settings)?;
    if schema_of(&mut link, &keys)? == Some(Schema::Cluster) {
        return Ok(Arc::new(cluster::open_to_read(settings, keys.in_cluster(), &mut link)?));
    }
    let scripts = Scripts::load(&mut link)?;
    let mut last = redis::cmd("HGET");
    last.arg(keys.of(Home::Global, "meta")).arg("batch");
    let last = bytes_or_none(link.ask(last)?)?.map_or(Ok(0), |last| parse(&last))?;
    let places = Arc::new(RwLock::new(read::places(&mut link, &keys)?));
    let mut writer = Writer::new(settings, &keys, &scripts, (0, last), &places, link);
    writer.stop(StoreError::Refused("the store was opened to be read".to_owned()));
    Ok(Arc::new(RedisStore {
        writer: Mutex::new(writer),
        readers: Readers::new(settings),
        keys,
        scripts,
        places,
    }))
}

/// The schema of a store that is being imported: nobody knows it.
#[cfg(any(feature = "cli", test))]
pub(super) const UNFINISHED: &str = "0";

/// The schema of what is under the prefix, whatever that is.
#[cfg(any(feature = "cli", test))]
pub(super) fn found_schema(link: &mut Link, keys: &Keys) -> Result<Option<String>, StoreError> {
    let mut schema = redis::cmd("HGET");
    schema.arg(keys.of(Home::Global, "meta")).arg("schema");
    let schema = bytes_or_none(link.ask(schema)?)?;
    Ok(schema.map(|schema| String::from_utf8_lossy(&schema).into_owned()))
}

/// Whose store is under the prefix, if one is.
///
/// # Errors
/// If Redis can't be reached, or what is there is of another schema.
#[cfg(any(feature = "cli", test))]
pub(super) fn schema_of(link: &mut Link, keys: &Keys) -> Result<Option<Schema>, StoreError> {
    let Some(schema) = found_schema(link, keys)? else {
        return Ok(None);
    };
    if schema == UNFINISHED {
        return Err(StoreError::Refused(format!(
            "an import to the prefix {} in Redis at {} was not finished: import again, with --cluster and --replace",
            keys.prefix(),
            link.address()
        )));
    }
    let mut buckets = redis::cmd("HGET");
    buckets.arg(keys.of(Home::Global, "meta")).arg("buckets");
    let buckets = bytes_or_none(link.ask(buckets)?)?;
    let of_ours = [Schema::One, Schema::Cluster];
    let known = of_ours.into_iter().find(|known| known.number().to_string() == schema);
    match known.filter(|_| buckets == Some(BUCKETS.to_string().into_bytes())) {
        Some(known) => Ok(Some(known)),
        None => Err(StoreError::Refused(format!(
            "what is under the prefix {} in Redis at {} has another schema than this version",
            keys.prefix(),
            link.address()
        ))),
    }
}

/// Begins an incarnation: its number, and that of the last batch.
fn join(link: &mut Link, keys: &Keys) -> Result<(u64, u64), StoreError> {
    let mut command = script::eval(JOIN, &[&keys.of(Home::Global, "meta"), &keys.of(Home::Global, "inc")]);
    command.arg(Schema::One.number()).arg(BUCKETS);
    let mut reply = list(link.ask(command)?)?.into_iter();
    let mut next = || reply.next().unwrap_or(Value::Nil);
    let (incarnation, last, buckets) = (number(next())?, text(next())?, text(next())?);
    if incarnation == 0 {
        return Err(other_schema(link, keys, (&last, &buckets), Schema::One));
    }
    Ok((incarnation, parse(last.as_bytes())?))
}

/// What is there is not for this broker.
pub(super) fn other_schema(link: &Link, keys: &Keys, (found, buckets): (&str, &str), known: Schema) -> StoreError {
    let (prefix, address, known) = (keys.prefix(), link.address(), known.number());
    let hint = match (found, known) {
        ("1", 2) => "it is that of a broker which is in no cluster. Use another prefix",
        ("2", 1) => "it is that of a cluster. Start this broker as one of it, or use another prefix",
        _ => "use the version that made it, or another prefix",
    };
    StoreError::Refused(format!(
        "what is under the prefix {prefix} in Redis at {address} has schema {found} with {buckets} buckets, and this broker \
         knows schema {known} with {BUCKETS}: {hint}"
    ))
}

/// Takes all homes. After the global one nobody else can begin a batch; the last one is finished, then the buckets follow.
fn take(link: &mut Link, keys: &Keys, incarnation: u64) -> Result<(), StoreError> {
    let before = link.ask(take_command(keys, Home::Global, incarnation))?;
    taken(link, keys, before.clone())?;
    let mut note = redis::cmd("GET");
    note.arg(keys.of(Home::Global, "j"));
    if let Some(note) = bytes_or_none(link.ask(note)?)? {
        finish(link, keys, &note)?;
    }
    let commands: Vec<_> = Home::buckets()
        .map(|home| take_command(keys, home, incarnation))
        .collect();
    for reply in link.run(&commands)? {
        let reply = link.checked(reply)?;
        taken(link, keys, reply)?;
    }
    let mut forget = redis::cmd("UNLINK");
    forget.arg(keys.of(Home::Global, "j"));
    link.ask(forget)?;
    announce(link, keys, incarnation, before);
    Ok(())
}

/// Makes the calls of a batch that has been noted, those that were made already without effect.
fn finish(link: &mut Link, keys: &Keys, note: &[u8]) -> Result<(), StoreError> {
    let damaged = |error: Malformed| StoreError::Damaged(format!("the note of a batch in Redis: {}", error.0));
    let (incarnation, calls) = note::read(note).map_err(damaged)?;
    // It must not fail for want of memory: it was acknowledged, perhaps.
    let name = Scripts::load(link)?.free;
    let commands: Vec<_> = calls
        .iter()
        .map(|call| call.command(&name, keys, incarnation, None))
        .collect();
    for reply in link.run(&commands)? {
        let reply = link.checked(reply)?;
        match &*bytes(reply)? {
            // Whoever took the home has finished the batch before.
            b"OK" | b"DONE" | b"FENCED" => {}
            answer => tracing::error!(
                "Redis at {}: it has lost changes that it had confirmed; a part of the last batch can't be made ({})",
                link.address(),
                String::from_utf8_lossy(answer)
            ),
        }
    }
    Ok(())
}

fn take_command(keys: &Keys, home: Home, incarnation: u64) -> Cmd {
    let mut command = script::eval(TAKE, &[&keys.of(home, "hw")]);
    command.arg(incarnation);
    command
}

fn taken(link: &Link, keys: &Keys, result: Value) -> Result<(), StoreError> {
    match link.checked(result)? {
        Value::Array(_) => Ok(()),
        _ => Err(StoreError::Refused(format!(
            "another broker has taken over the prefix {} in Redis at {} meanwhile",
            keys.prefix(),
            link.address()
        ))),
    }
}

fn announce(link: &Link, keys: &Keys, incarnation: u64, before: Value) {
    let (address, prefix) = (link.address(), keys.prefix());
    let others = list(before).unwrap_or_default().into_iter().step_by(2);
    let others: Vec<_> = others
        .filter_map(|other| bytes_or_none(other).ok().flatten())
        .map(|other| String::from_utf8_lossy(&other).into_owned())
        .collect();
    match others.is_empty() {
        true => tracing::info!("Redis at {address}, prefix {prefix}: incarnation {incarnation}"),
        false => tracing::info!(
            "Redis at {address}, prefix {prefix}: incarnation {incarnation} has taken over from {}",
            others.join(", ")
        ),
    }
}
