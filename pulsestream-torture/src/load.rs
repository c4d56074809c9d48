//! What is appended: every event is told by its number.

use std::path::Path;

use pulsestream_core::Result;
use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::testkit::{EventGenerator, Random};
use pulsestream_core::time::Timestamp;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

/// Events of one child are numbered from a multiple of this.
pub(crate) const NUMBERS_OF_A_CHILD: u64 = 1 << 20;
/// Runs of so many numbers belong to one tenant.
pub(crate) const RUN: u64 = 64;
/// Events from this number on are large and cannot be compressed well, so that they fill a disk.
pub(crate) const BULKY: u64 = 1 << 30;
const BULK_WORDS: usize = 512;
/// The tenants that share the store; events of the last one are retained for a while only.
pub(crate) const TENANTS: usize = 4;

/// Returns the event with a number.
pub(crate) fn event(number: u64) -> Event {
    let mut event = EventGenerator::new(number).event();
    if is_aging(number) {
        event.timestamp = time_of(number);
    }
    if number >= BULKY {
        let random = Random::new(number);
        let text: String = (0..BULK_WORDS).map(|_| format!("{:016x}", random.below(u64::MAX))).collect();
        event.message = Some(text.into());
    }
    event
}

/// Returns when an event that is retained for a while happened: in the order of the numbers.
pub(crate) fn time_of(number: u64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + i64::try_from(number).unwrap_or(0))
}

/// Reads the number back out of the id that the generator made of it.
pub(crate) fn number_of(id: &EventId) -> Option<u64> {
    u64::from_str_radix(id.as_str().split('-').nth(1)?, 16).ok()
}

fn tenant_index(number: u64) -> usize {
    // Each client has events of all tenants.
    let run = number / RUN;
    usize::try_from((run + run / 4) % TENANTS as u64).unwrap_or(0)
}

/// Returns the tenant of an event.
pub(crate) fn tenant(number: u64) -> TenantId {
    tenant_at(tenant_index(number))
}

/// Returns one of the [`TENANTS`].
pub(crate) fn tenant_at(index: usize) -> TenantId {
    TenantId::from_name(["one", "two", "three", "aging"][index % TENANTS])
}

/// Returns whether an event may be gone because of its age.
pub(crate) fn is_aging(number: u64) -> bool {
    tenant_index(number) == TENANTS - 1
}

/// Opens the store with small limits, so that it seals and merges all the time.
pub(crate) fn open(folder: &Path) -> Result<EmbeddedStore> {
    open_with(folder, |_| {})
}

/// The same with a setting changed.
pub(crate) fn open_with(folder: &Path, change: impl FnOnce(&mut EmbeddedConfig)) -> Result<EmbeddedStore> {
    let mut config = EmbeddedConfig {
        log_file_bytes: 128 << 10,
        seal_events: 150,
        segment_events: 2_000,
        ..EmbeddedConfig::default()
    };
    change(&mut config);
    EmbeddedStore::open(folder, config, Env::system())
}
