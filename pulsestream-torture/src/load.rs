//! What is appended: every event is told by its number.

use std::path::Path;

use pulsestream_core::Result;
use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::testkit::EventGenerator;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

/// Events of one child are numbered from a multiple of this.
pub(crate) const NUMBERS_OF_A_CHILD: u64 = 1 << 20;

/// Returns the event with a number.
pub(crate) fn event(number: u64) -> Event {
    EventGenerator::new(number).event()
}

/// Returns the tenant of an event: three share the store.
pub(crate) fn tenant(number: u64) -> TenantId {
    TenantId::from_name(["one", "two", "three"][usize::try_from(number / 64 % 3).unwrap_or(0)])
}

/// Opens the store with small limits, so that it seals and merges all the time.
pub(crate) fn open(folder: &Path) -> Result<EmbeddedStore> {
    let config = EmbeddedConfig {
        log_file_bytes: 128 << 10,
        seal_events: 150,
        segment_events: 2_000,
        ..EmbeddedConfig::default()
    };
    EmbeddedStore::open(folder, config, Env::system())
}
