//! Where a PulseStream keeps its data, as text.

use std::path::PathBuf;
use std::str::FromStr;

use pulsestream_core::{Error, Result};

/// The stores that a URL names.
///
/// | text | stores |
/// |---|---|
/// | `memory:` | everything in memory, gone at the end |
/// | `./events`, `file:/var/lib/events` | a folder on disk |
/// | `postgres://user@host/db` | PostgreSQL |
/// | the same with `?schema=shop` | in a schema of its own; `pulsestream` otherwise |
/// | or with `?direct=postgres://user@host/db` | through a pooler of transactions; `direct` is the server itself |
/// | any of them with `?redis=redis://host` | and Redis for rate limits, cache and live bus |
/// | and with `&redis_prefix=shop` | under a key prefix of its own |
/// | and with `&queue=redis` | and an ingest queue in that Redis in front of the store |
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// Where events, rules, alerts and accounts are kept.
    pub primary: PrimaryStore,
    /// The schema in PostgreSQL, when it is not `pulsestream`.
    pub schema: Option<String>,
    /// URL of the PostgreSQL itself, when the primary one leads to a pooler that gives each transaction another session.
    pub direct: Option<String>,
    /// URL of a Redis, when one is used.
    pub redis: Option<String>,
    /// What the keys in that Redis start with, when it is not `pulsestream`: applications that share a Redis need one each.
    pub redis_prefix: Option<String>,
    /// Whether events are accepted into a queue in Redis and stored in the background.
    pub queue: bool,
}

/// Where events, rules, alerts and accounts are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum PrimaryStore {
    /// In memory.
    Memory,
    /// In a folder.
    Folder(PathBuf),
    /// In PostgreSQL, by its URL.
    Postgres(String),
}

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Debug for PrimaryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for PrimaryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => f.write_str(&without_secret(url)),
        }
    }
}

/// Shows the URL without its passwords.
impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.primary)?;
        if let Some(redis) = &self.redis {
            write!(f, " with {}", without_secret(redis))?;
        }
        if self.queue { f.write_str(" and a queue") } else { Ok(()) }
    }
}

/// Hides user, password and query of a URL: `postgres://db.example/app`.
fn without_secret(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    // A password may hold `@` or `/` by mistake: everything up to the last `@` is hidden.
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{place}")
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |message: &str| Err(Error::invalid("store_url.parse", "", "invalid_store_url", message));
        let Parts { main, schema, direct, redis, redis_prefix, queue } = take_parts(text.trim())?;
        let primary = match main.split_once(':') {
            _ if main.is_empty() => {
                return refuse(
                    "the store must be `memory:`, a folder such as ./events, or postgres://user@host/database",
                );
            }
            Some(("memory", "" | "//")) => PrimaryStore::Memory,
            Some(("file", path)) => {
                PrimaryStore::Folder(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
            }
            Some(("postgres" | "postgresql", _)) => PrimaryStore::Postgres(main),
            Some(("redis" | "rediss", _)) => {
                return refuse("Redis holds no events: name a store and add ?redis=redis://host");
            }
            Some((scheme, rest)) if rest.starts_with("//") && scheme.len() > 1 => {
                return refuse(&format!(
                    "unknown kind of store `{scheme}`; valid are memory:, a folder such as ./events, and postgres://"
                ));
            }
            _ => PrimaryStore::Folder(PathBuf::from(main)),
        };
        if (schema.is_some() || direct.is_some()) && !matches!(primary, PrimaryStore::Postgres(_)) {
            return refuse("schema= and direct= are for postgres:// only");
        }
        Ok(Self { primary, schema, direct, redis, redis_prefix, queue })
    }
}

/// What the query of a URL says to us, and the URL without it.
#[derive(Default)]
struct Parts {
    main: String,
    schema: Option<String>,
    direct: Option<String>,
    redis: Option<String>,
    redis_prefix: Option<String>,
    queue: bool,
}

/// Takes `schema=NAME`, `direct=URL`, `redis=URL`, `redis_prefix=NAME` and `queue=redis` out of the query of a URL.
fn take_parts(text: &str) -> Result<Parts> {
    let refuse =
        |message: &'static str| Err(Error::invalid("store_url.parse", "", "invalid_store_url", message));
    let (main, query) = text.split_once('?').unwrap_or((text, ""));
    let mut parts = Parts { main: main.to_owned(), ..Parts::default() };
    let mut others = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("schema", value)) => parts.schema = Some(percent_decode(value)),
            Some(("direct", value)) => parts.direct = Some(percent_decode(value)),
            Some(("redis", value)) => parts.redis = Some(percent_decode(value)),
            Some(("redis_prefix", value)) => parts.redis_prefix = Some(percent_decode(value)),
            Some(("queue", "redis")) => parts.queue = true,
            Some(("queue", _)) => return refuse("the queue is kept in Redis: give queue=redis"),
            _ => others.push(pair),
        }
    }
    if !others.is_empty() {
        parts.main = format!("{main}?{}", others.join("&"));
    }
    match &parts.redis {
        Some(url) if !(url.starts_with("redis://") || url.starts_with("rediss://")) => {
            refuse("redis= takes a URL such as redis://localhost:6379")
        }
        None if parts.queue || parts.redis_prefix.is_some() => {
            refuse("queue= and redis_prefix= need redis=redis://host too")
        }
        _ => Ok(parts),
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = |byte: u8| char::from(byte).to_digit(16);
        match (first, tail) {
            (b'%', [high, low, ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                let value = hex(*high).unwrap_or_default() * 16 + hex(*low).unwrap_or_default();
                bytes.push(u8::try_from(value).unwrap_or_default());
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> StoreUrl {
        text.parse().unwrap()
    }

    #[test]
    fn forms() {
        assert_eq!(parse("memory:").primary, PrimaryStore::Memory);
        assert_eq!(parse("./events").primary, PrimaryStore::Folder("./events".into()));
        assert_eq!(parse("file:///var/events").primary, PrimaryStore::Folder("/var/events".into()));
        let url = parse("postgres://u:p@h/d?sslmode=require&redis=redis%3A%2F%2Fr%3A6379");
        assert_eq!(url.primary, PrimaryStore::Postgres("postgres://u:p@h/d?sslmode=require".into()));
        assert_eq!(url.redis.as_deref(), Some("redis://r:6379"));
        assert!(!url.queue);
        let url = parse("postgres://h/d?schema=shop&sslmode=require");
        assert_eq!(url.primary, PrimaryStore::Postgres("postgres://h/d?sslmode=require".into()));
        assert_eq!(url.schema.as_deref(), Some("shop"));
        assert_eq!(
            parse("postgres://pooler/d?direct=postgres%3A%2F%2Fu%3Ap%40h%2Fd").direct.as_deref(),
            Some("postgres://u:p@h/d")
        );
        let url = parse("postgres://h/d?queue=redis&redis=redis://r&redis_prefix=shop");
        assert!(url.queue);
        assert_eq!(url.redis_prefix.as_deref(), Some("shop"));
    }

    #[test]
    fn refusals_name_what_is_valid() {
        for (text, word) in [
            ("", "memory:"),
            ("mysql://h/d", "postgres://"),
            ("redis://h", "?redis="),
            ("x?redis=y", "redis://"),
            ("x?queue=redis", "redis=redis://host"),
            ("x?schema=shop", "postgres://"),
            ("x?direct=postgres://h", "postgres://"),
            ("x?redis_prefix=a", "redis=redis://host"),
            ("x?redis=redis://h&queue=disk", "queue=redis"),
        ] {
            let error = text.parse::<StoreUrl>().unwrap_err();
            assert!(error.message().contains(word), "{error}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let shown = format!(
            "{:?}",
            parse(
                "postgres://u:secret@h/d?password=secret&direct=postgres://u:secret@h&redis=redis://:secret@r"
            )
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}
