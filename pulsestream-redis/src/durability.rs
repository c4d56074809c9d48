//! What the server says about itself: its version, and what an acknowledged write survives.

use std::collections::HashMap;

use pulsestream_core::ports::event_store::Durability;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;

/// The oldest version that has every command used here.
const OLDEST: (u32, u32) = (7, 0);

const SETTINGS: [&str; 4] = ["appendonly", "appendfsync", "maxmemory", "maxmemory-policy"];

/// What a server said when a connection to it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerFacts {
    /// The version of Redis whose commands it has; Valkey says 7.2.4.
    pub(crate) version: String,
    /// What an acknowledged write survives, when that could be read.
    pub(crate) durability: Option<Durability>,
    /// The settings that decide about it, in words.
    pub(crate) reason: String,
    /// Whether it is a node of a cluster that has only some of the slots.
    pub(crate) is_partial: bool,
}

impl ServerFacts {
    pub(crate) async fn read(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        let info: String = redis::cmd("INFO").query_async(connection).await?;
        // Managed services refuse this one.
        let settings = redis::cmd("CONFIG").arg("GET").arg(&SETTINGS).query_async(connection).await;
        let settings: Option<HashMap<String, String>> = match settings {
            Ok(settings) => Some(settings),
            Err(error) if crate::error::code(&error).is_some() => None,
            Err(error) => return Err(error),
        };
        let mut facts = Self::judge(&info, settings.as_ref());
        if said(&info, "cluster_enabled") == "1" {
            let cluster: String = redis::cmd("CLUSTER").arg("INFO").query_async(connection).await?;
            facts.is_partial = is_partial(&cluster);
        }
        Ok(facts)
    }

    fn judge(info: &str, settings: Option<&HashMap<String, String>>) -> Self {
        let (durability, reason) = settings.map_or_else(
            || (None, "CONFIG GET is refused by the server".to_owned()),
            |settings| {
                let (durability, reason) = class(settings);
                (Some(durability), reason)
            },
        );
        Self { version: said(info, "redis_version").to_owned(), durability, reason, is_partial: false }
    }

    /// Whether the version has every command used here; a server that does not say is taken at its word.
    pub(crate) fn is_supported(&self) -> bool {
        let mut numbers = self.version.split('.').map_while(|number| number.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) => (major, minor) >= OLDEST,
            _ => true,
        }
    }
}

/// The value of a line `name:value`, or nothing.
fn said<'i>(info: &'i str, name: &str) -> &'i str {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default()
}

/// Whether a cluster, by its own description, has its keys on more than one node, or not all of them.
fn is_partial(cluster: &str) -> bool {
    let facts = [("cluster_size", "1"), ("cluster_slots_ok", "16384")];
    facts.iter().any(|(name, value)| said(cluster, name) != *value)
}

/// The class of the settings.
///
/// With `appendfsync always` the file is synced before the replies of that round are sent. With `everysec` up to two seconds
/// of acknowledged writes are lost with the power, and with a kill of Redis only what its buffers held. Snapshots alone lose
/// what came after the last one. Eviction of any key may remove a batch that was accepted.
fn class(settings: &HashMap<String, String>) -> (Durability, String) {
    let get = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    let policy = get("maxmemory-policy");
    if get("maxmemory") != "0" && policy.starts_with("allkeys") {
        return (Durability::Accepted, format!("maxmemory-policy {policy} evicts accepted batches"));
    }
    if get("appendonly") != "yes" {
        return (Durability::Accepted, "appendonly no".to_owned());
    }
    let sync = get("appendfsync");
    let class = if sync == "always" { Durability::Durable } else { Durability::Written };
    (class, format!("appendonly yes, appendfsync {sync}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(info: &str, settings: [&str; 4]) -> ServerFacts {
        let settings =
            SETTINGS.iter().zip(settings).map(|(name, value)| ((*name).to_owned(), value.to_owned()));
        ServerFacts::judge(info, Some(&settings.collect()))
    }

    #[test]
    fn settings_have_a_class() {
        let table = [
            (["yes", "always", "0", "noeviction"], Durability::Durable),
            (["yes", "always", "1000", "noeviction"], Durability::Durable),
            (["yes", "always", "1000", "volatile-lru"], Durability::Durable),
            (["yes", "always", "1000", "allkeys-lru"], Durability::Accepted),
            (["yes", "always", "0", "allkeys-lru"], Durability::Durable),
            (["yes", "everysec", "0", "noeviction"], Durability::Written),
            (["yes", "no", "0", "noeviction"], Durability::Written),
            (["no", "always", "0", "noeviction"], Durability::Accepted),
        ];
        for (settings, expected) in table {
            assert_eq!(facts("", settings).durability, Some(expected), "{settings:?}");
        }
        assert_eq!(ServerFacts::judge("", None).durability, None);
    }

    #[test]
    fn versions_below_7_are_told() {
        let with = |version: &str| facts(&format!("# Server\r\nredis_version:{version}\r\n"), ["no"; 4]);
        for (version, is_supported) in
            [("6.2.14", false), ("7.0.0", true), ("7.2.4", true), ("8.0.1", true), ("", true)]
        {
            assert_eq!(with(version).is_supported(), is_supported, "{version}");
            assert_eq!(with(version).version, version);
        }
    }

    #[test]
    fn only_a_cluster_of_one_node_has_every_key() {
        let cluster = |size: u32, slots: u32| {
            is_partial(&format!("cluster_state:ok\r\ncluster_slots_ok:{slots}\r\ncluster_size:{size}\r\n"))
        };
        assert!(!cluster(1, 16_384));
        assert!(cluster(3, 16_384) && cluster(1, 16_383) && is_partial(""));
    }
}
