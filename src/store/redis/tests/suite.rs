//! The suite of all stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::redis::testing::RedisServer;
use crate::store::suite::{Subject, store_suite};
use crate::store::{Store, StoreError};

struct Redis(RedisServer);

impl Subject for Redis {
    /// Another broker takes over: that is a test of its own.
    const IS_EXCLUSIVE: bool = false;

    fn new() -> Redis {
        Redis(RedisServer::start(&[]))
    }

    fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(crate::store::redis::open(&self.0.settings())?))
    }

    /// Of all keys and what is in them, without what the server needs for itself.
    fn size(&self) -> u64 {
        let keys: Vec<String> = self.0.command(&["KEYS", "*"]);
        let size = |key: &String| self.0.command::<u64>(&["MEMORY", "USAGE", key, "SAMPLES", "0"]);
        keys.iter().map(size).sum()
    }

    /// Flips a bit of what is kept. What the scripts count for themselves has no checksum: the doctor adds it up.
    fn damage(&self, seed: u64) -> bool {
        let mut values = values(&self.0);
        values.sort();
        let mut seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (mut value, write) = values.swap_remove((seed >> 32) as usize % values.len());
        seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bit = (seed >> 32) as usize % (value.len() * 8);
        value[bit / 8] ^= 1 << (bit % 8);
        let mut command = ::redis::cmd(&write[0]);
        command.arg(&write[1..]).arg(value);
        command.exec(&mut self.0.connection()).expect("is written");
        true
    }
}

store_suite!(Redis);

/// All values with checksums, each with the command that sets it to something else.
fn values(server: &RedisServer) -> Vec<(Vec<u8>, Vec<String>)> {
    let mut values = Vec::new();
    let command = |name: &str, key: &str, rest: &[&str]| {
        let words = [name, key].into_iter().chain(rest.iter().copied());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    for key in server.command::<Vec<String>>(&["KEYS", "*"]) {
        let name = key.rsplit_once("}:").map_or(&*key, |(_, name)| name);
        match name.split(':').next() {
            Some("s") | Some("ret") => {
                for (field, value) in server.command::<BTreeMap<String, Vec<u8>>>(&["HGETALL", &key]) {
                    if !matches!(&*field, "floor" | "last" | "bytes" | "rlast" | "rbytes") {
                        values.push((value, command("HSET", &key, &[&field])));
                    }
                }
            }
            Some("q") | Some("r") => {
                let elements: Vec<Vec<u8>> = server.command(&["LRANGE", &key, "0", "-1"]);
                for (place, element) in elements.into_iter().enumerate() {
                    values.push((element, command("LSET", &key, &[&place.to_string()])));
                }
            }
            Some("w") => values.push((server.command(&["GET", &key]), command("SET", &key, &[]))),
            _ => {}
        }
    }
    values.retain(|(value, _)| !value.is_empty());
    values
}
