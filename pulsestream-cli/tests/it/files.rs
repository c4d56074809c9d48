//! Import, export, backup and doctor.

use std::path::Path;
use std::process::Stdio;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::query::{FindQuery, Order};
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

use crate::program::{fail, path, succeed};

fn open(folder: &Path) -> EmbeddedStore {
    EmbeddedStore::open(folder, EmbeddedConfig::default(), Env::system()).unwrap()
}

fn fill(folder: &Path, events: usize) -> Vec<Event> {
    let store = open(folder);
    let events: Vec<Event> = EventGenerator::new(9).take(events).collect();
    block_on(store.append(TenantId::from_name("shop"), events.clone(), AppendOptions::default())).unwrap();
    block_on(store.close()).unwrap();
    events
}

fn events_in(folder: &Path) -> Vec<Event> {
    let store = open(folder);
    let query = FindQuery { limit: 100_000, order: Order::OldestFirst, ..FindQuery::default() };
    let events = block_on(store.find(TenantId::from_name("shop"), &query)).unwrap().events;
    block_on(store.close()).unwrap();
    events
}

#[test]
fn parquet_goes_out_and_comes_back_the_same() {
    let place = tempfile::tempdir().unwrap();
    let (store, copy, file) =
        (place.path().join("a"), place.path().join("b"), place.path().join("events.parquet"));
    let events = fill(&store, 2_500);
    let export = ["export", "--store", path(&store), "--tenant", "shop", "-o", path(&file)];
    succeed(&export);
    assert!(fail(&export).contains("is there already"));
    let import = ["import", path(&file), "--store", path(&copy), "--tenant", "shop"];
    assert!(succeed(&import).contains("2500 lines: 2500 stored, 0 there already, 0 refused"));
    assert!(succeed(&import).contains("0 stored, 2500 there already"));
    assert_eq!(events_in(&copy), events, "every field, when it was received included");
    let piped = ["export", "--store", path(&copy), "--tenant", "shop", "--format", "parquet"];
    assert!(fail(&piped).contains("--output FILE"));
}

#[test]
fn an_export_that_was_cut_short_is_continued() {
    let place = tempfile::tempdir().unwrap();
    let (store, file) = (place.path().join("a"), place.path().join("events.ndjson"));
    fill(&store, 1_700);
    let export = ["export", "--store", path(&store), "--tenant", "shop", "-o", path(&file)];
    succeed(&export);
    let whole = std::fs::read_to_string(&file).unwrap();
    assert_eq!(whole.lines().count(), 1_700);
    assert!(fail(&export).contains("--resume"));
    let resume = ["export", "--store", path(&store), "--tenant", "shop", "-o", path(&file), "--resume"];
    for kept in [0, 1, 300, whole.len() / 2, whole.len() - 1, whole.len()] {
        std::fs::write(&file, &whole.as_bytes()[..kept]).unwrap();
        succeed(&resume);
        assert!(std::fs::read_to_string(&file).unwrap() == whole, "cut after {kept} bytes");
    }
    std::fs::write(&file, "something else\n").unwrap();
    assert!(fail(&resume).contains("no export that could be continued"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "something else\n");
}

#[test]
fn a_backup_passes_doctor_and_damage_does_not() {
    let place = tempfile::tempdir().unwrap();
    let (store, copy) = (place.path().join("a"), place.path().join("b"));
    fill(&store, 500);
    assert!(succeed(&["backup", path(&store), "--to", path(&copy)]).starts_with("500 events, "));
    assert!(fail(&["backup", path(&store), "--to", path(&copy)]).contains("not empty"));
    let report = succeed(&["doctor", path(&copy)]);
    let tenant = TenantId::from_name("shop").to_string();
    for part in [tenant.as_str(), "source.service", "payload", "segments/", "every checksum is right"] {
        assert!(report.contains(part), "{part} is missing in {report}");
    }
    let segment = std::fs::read_dir(copy.join("segments")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let output = crate::program::run(&["doctor", path(&copy)]);
    assert!(!output.status.success());
    let report = crate::program::text(&output.stdout);
    assert!(report.contains("DAMAGED") && report.contains("offset"), "{report}");

    std::fs::write(place.path().join("b/backup.unfinished"), "").unwrap();
    assert!(fail(&["doctor", path(&copy)]).contains("a backup that was not finished"));
}

#[test]
fn a_command_that_only_looks_makes_no_store() {
    let place = tempfile::tempdir().unwrap();
    let (missing, foreign) = (place.path().join("missing"), place.path().join("foreign"));
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("notes.txt"), "mine").unwrap();
    for folder in [&missing, &foreign] {
        let folder = path(folder);
        for words in [
            vec!["doctor", folder],
            vec!["backup", folder, "--to", "copy"],
            vec!["export", "--store", folder, "--tenant", "shop"],
            vec!["admin", "rotate-keys", "--store", folder],
        ] {
            assert!(fail(&words).contains("there is no store at this place"), "{words:?}");
        }
    }
    assert!(!missing.exists());
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let place = tempfile::tempdir().unwrap();
    fill(place.path(), 1_000);
    let store = path(place.path());
    for words in
        [vec!["settings"], vec!["doctor", store], vec!["export", "--store", store, "--tenant", "shop"]]
    {
        let mut command = crate::program::command(&words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", crate::program::text(&output.stderr));
        assert!(output.stderr.is_empty(), "{words:?}: {}", crate::program::text(&output.stderr));
    }
}
