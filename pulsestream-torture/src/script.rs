//! A short life of a store, the same each time, whose every system call a tracer interferes with.

use std::path::Path;

use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::ports::key_value::{Commit, KeyValue};
use pulsestream_core::query::FindQuery;
use pulsestream_core::testkit::block_on;
use pulsestream_core::{Error, Result};
use pulsestream_embedded::EmbeddedStore;

use crate::child::{append, delete, retain};
use crate::ledger::Line;
use crate::load;

/// Under this key the script counts among rules and accounts.
pub(crate) const COUNTER: &[u8] = b"torture/counter";

/// Lives once. A call that fails is told, and the life goes on as far as it can.
pub(crate) fn run(folder: &Path, start: u64) -> Result<()> {
    let store = match load::open(folder) {
        Ok(store) => store,
        Err(error) => {
            tell(Err(error));
            Line::Done.say();
            return Ok(());
        }
    };
    let key_value = store.key_value();
    for step in 0..6 {
        let first = start + step * load::RUN;
        tell(append(&store, first..first + [1, 40, 7][usize::try_from(step % 3).unwrap_or(0)]));
        if let Ok(key_value) = &key_value {
            tell(count(&**key_value, start + step));
        }
        if step % 3 == 2 {
            tell(store.maintain());
            tell(delete(&store, first));
        }
    }
    tell(retain(&store, start + 3 * load::RUN));
    for index in 0..load::TENANTS {
        tell(block_on(store.find(load::tenant_at(index), &FindQuery::default())).map(drop));
    }
    tell(end(&store));
    Line::Done.say();
    Ok(())
}

fn count(key_value: &dyn KeyValue, value: u64) -> Result<()> {
    Line::Counting(value).announce()?;
    let mut commit = Commit::new();
    commit.put(COUNTER.to_vec(), value.to_le_bytes().to_vec());
    let _ = block_on(key_value.commit(commit))?;
    Line::Counted(value).say();
    Ok(())
}

fn end(store: &EmbeddedStore) -> Result<()> {
    block_on(store.close())
}

fn tell(outcome: Result<()>) {
    if let Err(error) = outcome {
        report(&error);
    }
}

fn report(error: &Error) {
    Line::Failed(error.kind().as_str().to_owned()).say();
}
