//! Puts what has been exported into a store that is to be.
//!
//! Places are given, as Packet Identifiers follow from them, and so the scripts are of no use. Nobody else is there meanwhile:
//! until all is done the store has a schema that nobody knows. Then it is as if a node had died that had all clients which were connected: who
//! comes first finds that, publishes the wills, and frees the clients.

use redis::Cmd;

use super::drafts::{Drafts, command};
use super::reader::Reader;
use crate::message::Message;
use crate::store::redis::check::check;
use crate::store::redis::keys::{BUCKETS, Home, Keys, SCHEMA};
use crate::store::redis::link::Link;
use crate::store::redis::reply::number;
use crate::store::redis::schema::{UNFINISHED, found_schema, is_known};
use crate::store::{
    Batch, Lane, Page, RedisSettings, Store, StoreError, StoredDelivery, StoredSession, StoredWill, Uid,
};

/// Fills the store of a cluster, in the place of what there is of one: what `fill` has come to. If it fails, nothing is there.
///
/// # Errors
/// If Redis can't be reached or must not be used as it is, if nodes are at work, or if something else than a cluster's store is there.
pub(super) fn load<T>(
    settings: &RedisSettings,
    fill: impl FnOnce(&dyn Store) -> Result<T, String>,
) -> Result<T, String> {
    let loader = Loader::open(settings).map_err(|error| error.to_string())?;
    match fill(&loader) {
        Ok(filled) => loader.finish().map(|()| filled).map_err(|error| error.to_string()),
        Err(reason) => Err(match loader.clear() {
            Ok(()) => format!("{reason}; nothing was imported"),
            Err(error) => format!("{reason}; a part is in the store, which no broker opens: {error}"),
        }),
    }
}

/// See the module.
#[derive(Debug)]
struct Loader {
    keys: Keys,
    reader: Reader,
    state: parking_lot::Mutex<State>,
}

#[derive(Debug)]
struct State {
    link: Link,
    batch: u64,
    drafts: Drafts,
}

impl Loader {
    fn open(settings: &RedisSettings) -> Result<Loader, StoreError> {
        let keys = Keys::new(&settings.prefix)?;
        let mut link = Link::connect(settings)?;
        check(&mut link, settings)?;
        let found = found_schema(&mut link, &keys)?;
        if let Some(schema) = found.filter(|schema| !is_known(schema) && schema != UNFINISHED) {
            return Err(StoreError::Refused(format!(
                "what is under the prefix {} in Redis at {} has schema {schema}, and this version knows {SCHEMA}: use another prefix",
                keys.prefix(),
                link.address()
            )));
        }
        let reader = Reader::open(settings, keys.clone(), &mut link)?;
        reader.look_whether_nodes_live()?;
        let mut state = State {
            link,
            batch: 0,
            drafts: Drafts::default(),
        };
        state.begin(&keys)?;
        Ok(Loader {
            keys,
            reader,
            state: parking_lot::Mutex::new(state),
        })
    }

    fn finish(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.finish(&self.keys)
    }

    fn clear(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let meta = self.keys.of(Home::Global, "meta");
        state.remove(&self.keys, &meta)?;
        state.link.ask(command("DEL", &meta)).map(drop)
    }
}

impl State {
    /// From here on nobody opens it. Numbers of incarnations that there were are not used again.
    fn begin(&mut self, keys: &Keys) -> Result<(), StoreError> {
        let (meta, inc) = (keys.of(Home::Global, "meta"), keys.of(Home::Global, "inc"));
        let mut mark = command("HSET", &meta);
        mark.arg("schema")
            .arg(UNFINISHED)
            .arg("buckets")
            .arg(BUCKETS)
            .arg("pos")
            .arg(0);
        self.link.ask(mark)?;
        // What was lost of what was there does not matter any more.
        let mut generation = command("HDEL", &meta);
        generation.arg("gen");
        self.link.ask(generation)?;
        self.remove(keys, &meta)?;
        self.drafts = Drafts::new(number(self.link.ask(command("INCR", &inc))?)?);
        Ok(())
    }

    /// Removes all keys but that one, and the number of incarnations.
    fn remove(&mut self, keys: &Keys, but: &str) -> Result<(), StoreError> {
        let inc = keys.of(Home::Global, "inc");
        let all = self.link.scan(&format!("{}:{{*", keys.prefix()))?;
        let all = all.into_iter().filter(|key| {
            let text = std::str::from_utf8(key).ok();
            text.is_some_and(|text| keys.parse(text).is_some()) && key != but.as_bytes() && key != inc.as_bytes()
        });
        let commands: Vec<_> = all.map(|key| command("UNLINK", &key)).collect();
        for part in commands.chunks(1000) {
            self.run(part)?;
        }
        Ok(())
    }

    fn finish(&mut self, keys: &Keys) -> Result<(), StoreError> {
        let global = |name: &str| keys.of(Home::Global, name);
        let mut commands = Vec::new();
        // Something is left to be done by whoever comes first.
        if self.drafts.is_owned() {
            let mut node = command("HSET", &global("nodes"));
            node.arg(self.drafts.node).arg("0:0");
            let mut hw = command("HSET", &global("hw"));
            hw.arg(self.drafts.node).arg(0);
            commands.extend([node, hw]);
        }
        let mut meta = command("HSET", &global("meta"));
        meta.arg("schema").arg(SCHEMA);
        commands.push(meta);
        self.run(&commands)
    }

    fn run(&mut self, commands: &[Cmd]) -> Result<(), StoreError> {
        for reply in self.link.run(commands)? {
            self.link.checked(reply)?;
        }
        Ok(())
    }
}

impl Store for Loader {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let mut commands = Vec::new();
        for op in batch.ops() {
            commands.extend(state.drafts.commands(&self.keys, &op?)?);
        }
        state.run(&commands)?;
        state.batch = batch.number;
        Ok(())
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        Ok(self.state.lock().batch)
    }

    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        self.reader.sessions(each)
    }

    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        self.reader.wills(each)
    }

    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        self.reader.retained(each)
    }

    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        self.reader.queue(uid, lane, from, most)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.reader.close()
    }
}
