//! Stored records: one format byte, then JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// The format written today; others are refused, never guessed at.
const FORMAT: u8 = 1;

/// Returns the stored form of a record.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, record).map_err(|error| {
        Error::new(ErrorKind::Internal, "record.encode", "the record has no JSON form").with_source(error)
    })?;
    Ok(bytes)
}

/// Reads a stored record; `what` names it in the error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T> {
    let corrupt = |message: &'static str| {
        Error::new(ErrorKind::Corrupt, "record.decode", message).with_context("record", what)
    };
    match bytes.split_first() {
        Some((&FORMAT, json)) => serde_json::from_slice(json).map_err(|error| {
            // The text of a serde error may quote the value: only its place is told.
            corrupt("a stored record cannot be read").with_context("column", error.column())
        }),
        Some((format, _)) => Err(Error::new(
            ErrorKind::Unsupported,
            "record.decode",
            "a stored record has a format this version does not know: use a newer version",
        )
        .with_context("record", what)
        .with_context("format", format)),
        None => Err(corrupt("a stored record is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::identity::{
        ApiKeyRecord, AuditRecord, KeyringRecord, SessionRecord, TenantRecord, UserRecord,
    };

    const TENANT: &str = r#"{"id":"00000000-0000-0000-0000-000000000001","version":1,"slug":"shop","name":"Shop","status":"active","contact_email":"a@b.c","billing_email":null,"subscription_tier":"free","timezone":"UTC","notification_settings":{},"rate_limit_per_minute":100,"max_events_per_month":1000000,"primary_api_key":"00000000-0000-0000-0000-000000000007","created_at":"2027-01-15T08:00:00.000001Z","updated_at":"2027-01-15T08:00:00Z"}"#;
    const USER: &str = r#"{"id":"00000000-0000-0000-0000-000000000002","version":3,"email":"a@b.c","username":null,"full_name":"Ada","role":"owner","is_active":true,"is_verified":false,"password_hash":"$argon2id$x","password_changed_at":"2027-01-15T08:00:00Z","password_expires_at":null,"epoch":4,"reset":{"digest":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY","expires_at":"2027-01-15T08:00:00Z"},"preferences":{"theme":"dark"},"notification_preferences":{},"created_at":"2027-01-15T08:00:00Z","updated_at":"2027-01-15T08:00:00Z","activity":{"last_login_at":null,"last_active_at":null,"login_count":0}}"#;
    const SESSION: &str = r#"{"id":"00000000-0000-0000-0000-000000000003","version":1,"user":"00000000-0000-0000-0000-000000000002","epoch":4,"current":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY","previous":{"digest":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY","sealed_successor":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY","at":"2027-01-15T08:00:00Z"},"remember_me":true,"created_at":"2027-01-15T08:00:00Z","expires_at":"2027-01-15T08:00:00Z","ended":"token_reused","address":"192.0.2.1","user_agent":null}"#;
    const API_KEY: &str = r#"{"id":"00000000-0000-0000-0000-000000000004","version":1,"name":"primary","scopes":["events:write","alerts:read"],"digest":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY","created_by":"registration","created_at":"2027-01-15T08:00:00Z","expires_at":null,"revoked_at":null,"last_used_at":null}"#;
    const AUDIT: &str = r#"{"id":"00000000-0000-0000-0000-000000000005","at":"2027-01-15T08:00:00Z","action":"sign_in.failed","actor":"anonymous","target":null,"address":null,"detail":null}"#;
    const KEYRING: &str = r#"{"version":1,"keyring":{"keys":[{"kid":"one","secret":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY","verify_until":null}],"pepper":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY"}}"#;

    /// A stored record is read and written as it was; these texts are never edited, a new format gets texts of its own.
    #[track_caller]
    fn unchanged<T: Serialize + DeserializeOwned>(json: &str) {
        let stored = [&[1], json.as_bytes()].concat();
        let record: T = decode(&stored, "record").unwrap();
        assert_eq!(String::from_utf8(encode(&record).unwrap()).unwrap(), String::from_utf8(stored).unwrap());
    }

    #[test]
    fn records_of_format_1_are_read_and_written_as_ever() {
        unchanged::<TenantRecord>(TENANT);
        unchanged::<UserRecord>(USER);
        unchanged::<SessionRecord>(SESSION);
        unchanged::<ApiKeyRecord>(API_KEY);
        unchanged::<AuditRecord>(AUDIT);
        unchanged::<KeyringRecord>(KEYRING);
    }

    #[test]
    fn other_formats_and_damage_are_refused_without_quoting_the_record() {
        let kind = |bytes: &[u8]| decode::<UserRecord>(bytes, "user").unwrap_err().kind();
        assert_eq!(kind(&[2, b'{', b'}']), ErrorKind::Unsupported);
        assert_eq!(kind(&[]), ErrorKind::Corrupt);
        let damaged = [&[1], USER.replace("\"epoch\":4", "\"epoch\":\"canary\"").as_bytes()].concat();
        let error = decode::<UserRecord>(&damaged, "user").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(!format!("{error:?}").contains("canary") && !format!("{error:?}").contains("argon2"));
    }
}
