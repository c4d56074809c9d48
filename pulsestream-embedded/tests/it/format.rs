//! Folders that earlier versions wrote still open.

use std::path::Path;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::query::{FindQuery, Order};
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_core::time::Timestamp;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

/// The events of the fixture: 60 in a segment, one of them deleted, and 7 in the log.
fn events() -> Vec<Event> {
    let mut generator = EventGenerator::new(1);
    (0..67).map(|_| generator.event()).collect()
}

fn tenant() -> TenantId {
    TenantId::from_name("fixture")
}

fn open(folder: &Path) -> EmbeddedStore {
    let config = EmbeddedConfig { log_file_bytes: 16 << 10, ..EmbeddedConfig::default() };
    let (env, _) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
    EmbeddedStore::open(folder, config, env).unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn fixture(version: u32) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/v{version}"))
}

#[test]
fn version_1_opens() {
    let place = tempfile::tempdir().unwrap();
    copy(&fixture(1), place.path());
    let store = open(place.path());
    assert!(store.verify().unwrap().is_healthy());
    let query = FindQuery { limit: 100, order: Order::OldestFirst, ..FindQuery::default() };
    let found = block_on(store.find(tenant(), &query)).unwrap().events;
    let mut expected = events();
    expected.remove(10);
    assert_eq!(found, expected);
    store.maintain().unwrap();
    assert_eq!(block_on(store.find(tenant(), &query)).unwrap().events, expected);
}

/// Writes the fixture of the current version; run it once for each version, never for one that was released.
#[test]
#[ignore = "writes into the source tree"]
fn write_the_fixture() {
    let folder = fixture(1);
    assert!(!folder.exists(), "fixtures are never changed");
    let store = open(&folder);
    let mut sealed = events();
    let fresh = sealed.split_off(60);
    let gone = sealed[10].id.clone();
    block_on(store.append(tenant(), sealed, AppendOptions::default())).unwrap();
    store.maintain().unwrap();
    let selection = pulsestream_core::ports::event_store::DeleteSelection::Ids(vec![gone]);
    assert_eq!(block_on(store.delete(tenant(), &selection)).unwrap(), 1);
    store.maintain().unwrap();
    block_on(store.append(tenant(), fresh, AppendOptions::default())).unwrap();
    block_on(store.close()).unwrap();
}
