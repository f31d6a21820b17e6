//! The scripts of a cluster.

use redis::Cmd;

use crate::store::StoreError;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::script::{self, COMMON, QUEUE, Scripts};

const CALL: &str = include_str!("../scripts/cluster/call.lua");
const SESSIONS: &str = include_str!("../scripts/cluster/sessions.lua");
const APPEND: &str = include_str!("../scripts/cluster/append.lua");
const ONCE: &str = include_str!("../scripts/cluster/once.lua");
const CHANGES: &str = include_str!("../scripts/cluster/changes.lua");
const CLIENTS: &str = include_str!("../scripts/cluster/clients.lua");
const BUCKET_END: &str = include_str!("../scripts/cluster/bucket_end.lua");
const GLOBAL: &str = include_str!("../scripts/cluster/global.lua");
const GENERATION: &str = include_str!("../scripts/cluster/generation.lua");
const POSITION: &str = include_str!("../scripts/cluster/position.lua");

/// Begins an incarnation. It has to be possible also when Redis has no memory left: it may be there to free some.
pub(super) const JOIN: &str = concat!(
    "#!lua flags=allow-oom\n",
    include_str!("../scripts/cluster/generation.lua"),
    include_str!("../scripts/cluster/join.lua")
);

/// Says that Redis has lost writes of an incarnation.
pub(super) const RAISE: &str = concat!(
    "#!lua flags=allow-oom\n",
    include_str!("../scripts/cluster/generation.lua"),
    include_str!("../scripts/cluster/raise.lua")
);

/// Looks at places of a queue.
pub(super) const LOOK_PLACES: &str = concat!(
    "#!lua flags=no-writes\n",
    include_str!("../scripts/common.lua"),
    include_str!("../scripts/cluster/look_places.lua")
);

/// Lets an incarnation write to a home.
pub(super) const ENTER: &str = concat!("#!lua flags=allow-oom\n", include_str!("../scripts/cluster/enter.lua"));

/// Gives up a bucket.
pub(super) const DEPART: &str = concat!("#!lua flags=allow-oom\n", include_str!("../scripts/cluster/depart.lua"));
/// Ends an incarnation that has given up all of them.
pub(super) const BYE: &str = concat!("#!lua flags=allow-oom\n", include_str!("../scripts/cluster/bye.lua"));

#[cfg(any(feature = "cli", test))]
const LOOK_GLOBAL: &str = include_str!("../scripts/cluster/look_global.lua");
#[cfg(any(feature = "cli", test))]
const LOOK_CLIENT: &str = include_str!("../scripts/cluster/look_client.lua");
#[cfg(any(feature = "cli", test))]
const LOOK_SESSION: &str = include_str!("../scripts/cluster/look_session.lua");

/// Names of the scripts by which the doctor sees things at one moment.
#[cfg(any(feature = "cli", test))]
#[derive(Clone, Debug)]
pub(super) struct Looks {
    pub(super) global: String,
    pub(super) client: String,
    pub(super) session: String,
}

#[cfg(any(feature = "cli", test))]
impl Looks {
    pub(super) fn load(link: &mut Link) -> Result<Looks, StoreError> {
        let mut load = |script| script::load(link, &format!("#!lua flags=no-writes\n{script}"));
        Ok(Looks {
            global: load(LOOK_GLOBAL)?,
            client: load(LOOK_CLIENT)?,
            session: load(LOOK_SESSION)?,
        })
    }
}

/// Names of the scripts.
#[derive(Clone, Debug)]
pub(super) struct ClusterScripts {
    /// For what is read as in the store of one broker.
    pub(super) basic: Scripts,
    bucket: Pair,
    global: Pair,
    position: String,
}

/// A script that writes, and the same for changes that only free memory.
#[derive(Clone, Debug)]
struct Pair {
    write: String,
    free: String,
}

impl ClusterScripts {
    pub(super) fn load(link: &mut Link) -> Result<ClusterScripts, StoreError> {
        // A script makes all its functions anew in each call, which takes longer than most of them do.
        let rest = ["add_rest = function()\n", ONCE, CHANGES, CLIENTS, "end\n"].concat();
        let to_raise = ["local function to_raise()\n", GENERATION, "return raise\nend\n"].concat();
        let bucket = [COMMON, QUEUE, CALL, SESSIONS, APPEND, &rest, BUCKET_END].concat();
        Ok(ClusterScripts {
            basic: Scripts::load(link)?,
            bucket: Pair::load(link, &bucket)?,
            global: Pair::load(link, &[CALL, &to_raise, GLOBAL].concat())?,
            position: script::load(link, &format!("#!lua flags=allow-oom\n{POSITION}"))?,
        })
    }

    /// The script that changes a home.
    pub(super) fn of(&self, home: Home, only_frees: bool) -> &str {
        let pair = match home {
            Home::Bucket(_) => &self.bucket,
            Home::Global => &self.global,
        };
        if only_frees { &pair.free } else { &pair.write }
    }

    /// The position of the log, read by a write.
    pub(super) fn position(&self, keys: &Keys) -> Cmd {
        script::call(&self.position, &keys.of(Home::Global, "meta"))
    }
}

impl Pair {
    fn load(link: &mut Link, script: &str) -> Result<Pair, StoreError> {
        Ok(Pair {
            write: script::load(link, &format!("#!lua\n{script}"))?,
            free: script::load(link, &format!("#!lua flags=allow-oom\n{script}"))?,
        })
    }
}
