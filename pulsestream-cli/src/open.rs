//! From flags to an open store.

use std::io::Read;
use std::path::Path;

use pulsestream::{Builder, PrimaryStore, PulseStream, StoreUrl};
use pulsestream_core::id::TenantId;
use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_embedded::EmbeddedStore;

use crate::args::StoreArgs;
use crate::settings::ProgramSettings;

const MAX_CERTIFICATE_BYTES: u64 = 1 << 20;

/// Opens the stores that the flags name.
pub(crate) async fn open(
    args: &StoreArgs,
    builder: Builder,
    settings: &ProgramSettings,
) -> Result<PulseStream> {
    settings.apply(builder).open(&url(args)).await
}

/// Opens the stores that the flags name, for a command that has nothing to do where there are none.
pub(crate) async fn open_existing(
    operation: &'static str,
    args: &StoreArgs,
    settings: &ProgramSettings,
) -> Result<PulseStream> {
    if let PrimaryStore::Folder(folder) = url(args).parse::<StoreUrl>()?.primary {
        require_store(operation, &folder)?;
    }
    open(args, PulseStream::builder().without_background(), settings).await
}

/// Refuses a folder that holds no store, because opening it would make one.
pub(crate) fn require_store(operation: &'static str, folder: &Path) -> Result<()> {
    if EmbeddedStore::exists(folder) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotFound, operation, "there is no store at this place")
        .with_context("folder", folder.display()))
}

/// Joins `--store` and `--redis` to one URL.
pub(crate) fn url(args: &StoreArgs) -> String {
    match &args.redis {
        None => args.store.clone(),
        Some(redis) => {
            let joint = if args.store.contains('?') { '&' } else { '?' };
            let redis: String = redis.bytes().map(percent_encoded).collect();
            let prefix = args.redis_prefix.as_deref().map(|prefix| format!("&redis_prefix={prefix}"));
            format!("{}{joint}redis={redis}{}", args.store, prefix.unwrap_or_default())
        }
    }
}

fn percent_encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

/// Reads the certificate of an authority.
pub(crate) fn certificate(path: &Path) -> Result<Vec<u8>> {
    let refuse = |error: std::io::Error| {
        Error::new(ErrorKind::Invalid, "serve.certificate", "the certificate cannot be read")
            .with_context("file", path.display())
            .with_source(error)
    };
    let mut certificate = Vec::new();
    let file = std::fs::File::open(path).map_err(refuse)?;
    file.take(MAX_CERTIFICATE_BYTES).read_to_end(&mut certificate).map_err(refuse)?;
    Ok(certificate)
}

/// Reads a tenant id, or derives one from a name.
pub(crate) fn tenant(text: &str) -> TenantId {
    text.parse().unwrap_or_else(|_| TenantId::from_name(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_joins_the_url() {
        let args = StoreArgs {
            store: "postgres://h/d?x=1".to_owned(),
            redis: Some("redis://:p%40@h:1/0".to_owned()),
            redis_prefix: Some("shop".to_owned()),
            config: None,
        };
        let parsed: StoreUrl = url(&args).parse().unwrap();
        assert_eq!(parsed.redis.as_deref(), Some("redis://:p%40@h:1/0"));
        assert_eq!(parsed.redis_prefix.as_deref(), Some("shop"));
        assert_eq!(parsed.primary, PrimaryStore::Postgres("postgres://h/d?x=1".to_owned()));
    }
}
