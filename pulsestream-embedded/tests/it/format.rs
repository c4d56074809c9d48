//! Folders that earlier versions wrote still open.

use std::path::Path;
use std::sync::Arc;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, AppendOutcome, EventStore};
use pulsestream_core::query::{FindQuery, Order};
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_core::time::Timestamp;
use pulsestream_embedded::storage::{OpenMode, SimFs, Storage};
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

/// The version of the format that this code writes.
const CURRENT: u32 = 3;

#[test]
fn every_version_opens_and_stays_whole_when_it_is_changed() {
    for version in 1..=CURRENT {
        opens_and_changes(version);
    }
}

fn opens_and_changes(version: u32) {
    let place = tempfile::tempdir().unwrap();
    copy(&fixture(version), place.path());
    let store = open(place.path());
    assert!(store.verify().unwrap().is_healthy());
    let query = FindQuery { limit: 100, order: Order::OldestFirst, ..FindQuery::default() };
    let found = block_on(store.find(tenant(), &query)).unwrap().events;
    let mut expected = events();
    expected.remove(10);
    assert_eq!(found, expected, "version {version}");
    store.maintain().unwrap();
    assert_eq!(block_on(store.find(tenant(), &query)).unwrap().events, expected);
    drop(store);
    let store = open(place.path());
    assert_eq!(block_on(store.find(tenant(), &query)).unwrap().events, expected, "version {version}");
    let repeated = block_on(store.append(tenant(), events(), AppendOptions::default())).unwrap();
    let stored = repeated.iter().filter(|outcome| matches!(outcome, AppendOutcome::Stored)).count();
    assert_eq!(stored, 1, "only the deleted event is new");
}

/// A change of an old folder is a new manifest: whenever the power is lost, the old one or the new one is there.
#[test]
fn power_loss_while_an_old_version_becomes_the_current_one() {
    for cut in 0.. {
        let disk = SimFs::new();
        load(&fixture(1), &disk);
        disk.cut_power_after(cut);
        let done = open_in(&disk).and_then(|store| store.maintain()).is_ok();
        for seed in 0..5 {
            let store = open_in(&disk.after_power_loss(seed)).unwrap();
            let query = FindQuery { limit: 100, ..FindQuery::default() };
            assert_eq!(block_on(store.find(tenant(), &query)).unwrap().events.len(), 66, "{cut} {seed}");
            assert!(store.verify().unwrap().is_healthy(), "{cut} {seed}");
        }
        if done {
            assert!(cut > 5, "the change takes some operations");
            break;
        }
    }
}

fn open_in(disk: &SimFs) -> pulsestream_core::Result<EmbeddedStore> {
    let config = EmbeddedConfig { log_file_bytes: 16 << 10, ..EmbeddedConfig::default() };
    let (env, _) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
    EmbeddedStore::open_storage(Arc::new(disk.clone()), config, env, false)
}

/// Puts a folder onto a simulated disk, durably.
#[allow(clippy::disallowed_methods, reason = "a fixture is a small file of this repository")]
fn load(folder: &Path, disk: &SimFs) {
    disk.create_dir("").unwrap();
    for directory in ["", "wal", "segments"] {
        disk.create_dir(directory).unwrap();
        for entry in std::fs::read_dir(folder.join(directory)).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_type().unwrap().is_file() {
                continue;
            }
            let name = entry.file_name().into_string().unwrap();
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let file = disk.open(&path, OpenMode::Create).unwrap();
            file.write_at(&std::fs::read(entry.path()).unwrap(), 0).unwrap();
            file.sync_data().unwrap();
        }
        disk.sync_dir(directory).unwrap();
    }
}

/// Writes the fixture of the current version; run it once for each version, never for one that was released.
#[test]
#[ignore = "writes into the source tree"]
fn write_the_fixture() {
    let folder = fixture(CURRENT);
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
