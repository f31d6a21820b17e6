//! What a Redis server must be like, and what its operator should know.

use super::link::Link;
use super::reply::{list, text};
use crate::store::{RedisSettings, StoreError};

/// Looks at the server before anything is written. What it does not show is said to be unknown.
pub(super) fn check(link: &mut Link, settings: &RedisSettings) -> Result<(), StoreError> {
    let ping = link.run(&[redis::cmd("PING")])?.pop();
    if let Some(redis::Value::ServerError(error)) = ping {
        return Err(refused(
            link.address(),
            &format!("{} {}", error.code(), error.details().unwrap_or_default()),
        ));
    }
    let infos = infos(link)?;
    for info in infos.iter().map(|info| Info(info)) {
        check_version(&info, settings, link.address())?;
        check_memory(&info, link.address())?;
        check_role(&info, link.address())?;
    }
    let append_only = config(link, "appendonly").unwrap_or_default();
    let fsync = config(link, "appendfsync").unwrap_or_default();
    for server in 0..infos.len() {
        let append_only = append_only.get(server).map(String::as_str);
        match durability(append_only, fsync.get(server).map(String::as_str)) {
            Ok(()) => {}
            Err(why) if settings.fsync && append_only == Some("no") => {
                return Err(refused(
                    link.address(),
                    &format!("{why}: a sync of it can't be waited for"),
                ));
            }
            Err(why) => tracing::warn!("Redis at {}: {why}", link.address()),
        }
    }
    Ok(())
}

/// What `INFO` says of each server.
fn infos(link: &mut Link) -> Result<Vec<String>, StoreError> {
    link.ask_each(&redis::cmd("INFO"))?.into_iter().map(text).collect()
}

/// A setting of each server; `None` if it is not shown.
fn config(link: &mut Link, name: &str) -> Option<Vec<String>> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(name);
    let replies = link.ask_each(&command).ok()?;
    let value = |reply| text(list(reply).ok()?.into_iter().nth(1)?).ok();
    replies.into_iter().map(value).collect()
}

struct Info<'a>(&'a str);

impl Info<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    }
}

const OLDEST: (u32, u32) = (7, 0);
const OLDEST_THAT_WAITS_FOR_SYNC: (u32, u32) = (7, 2);

fn check_version(info: &Info<'_>, settings: &RedisSettings, address: &str) -> Result<(), StoreError> {
    // Valkey tells here with which Redis it agrees.
    let Some(version) = info.field("redis_version") else {
        tracing::warn!("Redis at {address}: its version is unknown");
        return Ok(());
    };
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let parts = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if parts < OLDEST {
        return Err(refused(
            address,
            &format!("it is Redis {version}, and 7.0 is needed, or Valkey"),
        ));
    }
    if settings.fsync && parts < OLDEST_THAT_WAITS_FOR_SYNC {
        return Err(refused(
            address,
            &format!(
                "it is Redis {version}, and waiting until changes are synced needs 7.2. With `appendfsync always` it \
                 does not answer before it has synced: then there is nothing to wait for"
            ),
        ));
    }
    Ok(())
}

fn check_memory(info: &Info<'_>, address: &str) -> Result<(), StoreError> {
    let (Some(most), Some(policy)) = (info.field("maxmemory"), info.field("maxmemory_policy")) else {
        tracing::warn!("Redis at {address}: whether it evicts keys when its memory is full is unknown");
        return Ok(());
    };
    match (policy, most) {
        ("noeviction", _) => Ok(()),
        (_, "0") => {
            tracing::warn!(
                "Redis at {address}: its maxmemory-policy is {policy}; it evicts nothing as long as there is no maxmemory, \
                 but set it to noeviction"
            );
            Ok(())
        }
        _ => Err(refused(
            address,
            &format!(
                "its maxmemory-policy is {policy}, with which it throws sessions and messages away when its memory is \
                 full: set it to noeviction"
            ),
        )),
    }
}

fn check_role(info: &Info<'_>, address: &str) -> Result<(), StoreError> {
    match info.field("role") {
        Some("slave") => Err(refused(address, "it is a replica, and does not write")),
        _ => Ok(()),
    }
}

/// What would be lost.
fn durability(append_only: Option<&str>, fsync: Option<&str>) -> Result<(), String> {
    match (append_only, fsync) {
        (Some("yes"), Some("always")) => Ok(()),
        (Some("yes"), Some("everysec")) => Err(
            "it has appendfsync everysec: if it ends without warning, up to 2 s of what was acknowledged are lost"
                .to_owned(),
        ),
        (Some("yes"), Some(other)) => Err(format!(
            "it has appendfsync {other}: if its machine ends without warning, what was acknowledged is lost"
        )),
        (Some("no"), _) => Err(
            "it has no append-only file (appendonly no): when it ends, what was acknowledged since its \
                                last snapshot is lost"
                .to_owned(),
        ),
        _ => Err("whether it keeps changes on disk (appendonly, appendfsync) is unknown".to_owned()),
    }
}

fn refused(address: &str, why: &str) -> StoreError {
    StoreError::Refused(format!("Redis at {address} can't be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(info: &str, fsync: bool) -> Result<(), StoreError> {
        let mut settings = RedisSettings::new("redis://h");
        settings.fsync = fsync;
        check_version(&Info(info), &settings, "h")
    }

    #[test]
    fn old_versions_are_refused() {
        assert!(matches!(
            version("redis_version:6.2.7\r\n", false),
            Err(StoreError::Refused(_))
        ));
        assert!(version("# Server\r\nredis_version:7.0.15\r\n", false).is_ok());
        assert!(version("redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n", true).is_ok());
        assert!(version("redis_version:10.1.0\r\n", true).is_ok());
        let error = version("redis_version:7.0.15\r\n", true).expect_err("no WAITAOF");
        assert!(error.to_string().contains("7.2"), "{error}");
    }

    #[test]
    fn eviction_is_refused_where_it_may_happen() {
        let memory = |most: &str, policy: &str| {
            check_memory(
                &Info(&format!("maxmemory:{most}\r\nmaxmemory_policy:{policy}\r\n")),
                "h",
            )
        };
        assert!(memory("0", "noeviction").is_ok());
        assert!(memory("100", "noeviction").is_ok());
        assert!(memory("0", "allkeys-lru").is_ok());
        let error = memory("100", "allkeys-lru").expect_err("evicts");
        assert!(error.to_string().contains("noeviction"), "{error}");
    }

    #[test]
    fn what_may_be_lost_is_told() {
        assert!(durability(Some("yes"), Some("always")).is_ok());
        for (append_only, fsync, told) in [
            (Some("yes"), Some("everysec"), "2 s"),
            (Some("yes"), Some("no"), "appendfsync no"),
            (Some("no"), Some("always"), "no append-only file"),
            (None, None, "unknown"),
        ] {
            assert!(durability(append_only, fsync).is_err_and(|why| why.contains(told)));
        }
    }
}
