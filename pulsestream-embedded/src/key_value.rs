//! The key-value port on redb, in the folder of the store.

mod group;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::ports::key_value::{Commit, CommitOutcome, KeyValue, Read, ReadResult};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use self::group::CommitGroup;
use crate::error::{Fault, FaultResult};
use crate::pool::Pool;
use crate::storage::{File, OpenMode, Storage};

const NAME: &str = "meta.redb";
const NEW_NAME: &str = "meta.redb.new";
const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// Pages that redb keeps in memory.
const CACHE_BYTES: usize = 8 << 20;
/// Commits that may wait before more are refused.
const MAX_WAITING_COMMITS: usize = 4_096;

/// Keys and values of the at-rest ports. Every commit is durable before it returns.
#[derive(Debug)]
pub(crate) struct EmbeddedKeyValue {
    database: Arc<RwLock<Option<Database>>>,
    group: Arc<CommitGroup>,
    /// One thread, because commits follow each other anyway.
    pool: Pool,
}

impl EmbeddedKeyValue {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub(crate) fn open(storage: &Arc<dyn Storage>) -> FaultResult<Self> {
        let opened = match storage.open(NAME, OpenMode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(storage)?,
            other => database_in(other.map_err(|source| Fault::io("open", NAME, source))?)?,
        };
        let pool = Pool::new("at_rest_commits", 1, MAX_WAITING_COMMITS);
        Ok(Self { database: Arc::new(RwLock::new(Some(opened))), group: Arc::default(), pool })
    }

    /// Returns whether the folder has the file.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn exists(storage: &Arc<dyn Storage>) -> FaultResult<bool> {
        match storage.open(NAME, OpenMode::Read) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Fault::io("open", NAME, error)),
        }
    }

    /// Writes all entries as they are now to a new file in another folder.
    ///
    /// # Errors
    /// `Corrupt`, `Closed`, `Io`.
    pub(crate) fn copy_to(&self, target: &Arc<dyn Storage>) -> FaultResult<()> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = database.as_ref().ok_or(Fault::Closed)?.begin_read().map_err(into_fault)?;
        let entries = snapshot.open_table(ENTRIES).map_err(into_fault)?;
        let copy = create(target)?;
        let transaction = begin_write(&copy)?;
        {
            let mut table = transaction.open_table(ENTRIES).map_err(into_fault)?;
            for entry in entries.iter().map_err(into_fault)? {
                let (key, value) = entry.map_err(into_fault)?;
                table.insert(key.value(), value.value()).map_err(into_fault)?;
            }
        }
        transaction.commit().map_err(into_fault)
    }

    /// Reads everything again and compares it with its checksums; returns the size of the file.
    ///
    /// # Errors
    /// `Corrupt`, `Closed`, `Io`.
    pub(crate) fn verify(&self, storage: &Arc<dyn Storage>) -> FaultResult<u64> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let is_whole = database.as_mut().ok_or(Fault::Closed)?.check_integrity().map_err(into_fault)?;
        if !is_whole {
            return Err(Fault::corrupt(NAME, 0, "the database of rules and accounts was repaired"));
        }
        let file = storage.open(NAME, OpenMode::Read);
        file.and_then(|file| file.bytes()).map_err(|source| Fault::io("open", NAME, source))
    }

    /// Closes the file.
    pub(crate) fn shut_down(&self) {
        self.pool.close();
        self.database.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Prepares the file under another name, so that a crash leaves a whole one or none.
fn create(storage: &Arc<dyn Storage>) -> FaultResult<Database> {
    let fault = |action, source| Fault::io(action, NEW_NAME, source);
    match storage.remove(NEW_NAME) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault("remove", error)),
        _ => {}
    }
    let file = storage.open(NEW_NAME, OpenMode::Create).map_err(|source| fault("create", source))?;
    let database = database_in(file)?;
    let transaction = begin_write(&database)?;
    transaction.open_table(ENTRIES).map_err(into_fault)?;
    transaction.commit().map_err(into_fault)?;
    drop(database);
    storage.rename(NEW_NAME, NAME).map_err(|source| fault("rename", source))?;
    storage.sync_dir("").map_err(|source| fault("sync", source))?;
    database_in(storage.open(NAME, OpenMode::Write).map_err(|source| fault("open", source))?)
}

fn database_in(file: Arc<dyn File>) -> FaultResult<Database> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    // Reads the file once; without it, damage could be answered as data, or end in a panic.
    builder.set_check_integrity_on_open(true);
    builder.create_with_backend(Backend(file)).map_err(into_fault)
}

fn begin_write(database: &Database) -> FaultResult<redb::WriteTransaction> {
    let mut transaction = database.begin_write().map_err(into_fault)?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

#[async_trait]
impl KeyValue for EmbeddedKeyValue {
    async fn read(&self, reads: Vec<Read>) -> Result<Vec<ReadResult>> {
        // A few look-ups in cached pages: cheaper here than on another thread.
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        read(database.as_ref(), reads).map_err(|fault| fault.during("key_value.read"))
    }

    async fn commit(&self, changes: Commit) -> Result<CommitOutcome> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Err(Fault::Closed.during("key_value.commit"));
        }
        let ticket = self.group.join(changes);
        let (database, group) = (Arc::clone(&self.database), Arc::clone(&self.group));
        let answer = self.pool.run(move || {
            group.finish(ticket, |commits| {
                let database = database.read().unwrap_or_else(PoisonError::into_inner);
                commit_all(database.as_ref(), commits)
            })
        });
        let outcome = match answer {
            Ok(answer) => answer.await,
            Err(fault) => self.group.leave(ticket).unwrap_or(Err(fault)),
        };
        outcome.map_err(|fault| fault.during("key_value.commit"))
    }

    async fn close(&self) -> Result<()> {
        self.shut_down();
        Ok(())
    }
}

fn read(database: Option<&Database>, reads: Vec<Read>) -> FaultResult<Vec<ReadResult>> {
    let transaction = database.ok_or(Fault::Closed)?.begin_read().map_err(into_fault)?;
    let table = transaction.open_table(ENTRIES).map_err(into_fault)?;
    let mut results = Vec::with_capacity(reads.len());
    for read in reads {
        results.push(match read {
            Read::Get(key) => {
                let value = table.get(key.as_slice()).map_err(into_fault)?;
                ReadResult::Value(value.map(|value| value.value().to_vec()))
            }
            Read::Range { start, end, limit, reverse } if start < end => {
                let range = table.range(start.as_slice()..end.as_slice()).map_err(into_fault)?;
                let entry = |entry: std::result::Result<(redb::AccessGuard<'_, &[u8]>, _), _>| {
                    let (key, value): (_, redb::AccessGuard<'_, &[u8]>) = entry.map_err(into_fault)?;
                    Ok((key.value().to_vec(), value.value().to_vec()))
                };
                ReadResult::Entries(if reverse {
                    range.rev().take(limit).map(entry).collect::<FaultResult<_>>()?
                } else {
                    range.take(limit).map(entry).collect::<FaultResult<_>>()?
                })
            }
            Read::Range { .. } => ReadResult::Entries(Vec::new()),
        });
    }
    Ok(results)
}

/// Makes commits one after the other in one transaction; each sees what those before it wrote.
fn commit_all(database: Option<&Database>, commits: &[Commit]) -> FaultResult<Vec<CommitOutcome>> {
    let transaction = begin_write(database.ok_or(Fault::Closed)?)?;
    let mut outcomes = Vec::with_capacity(commits.len());
    {
        let mut table = transaction.open_table(ENTRIES).map_err(into_fault)?;
        for commit in commits {
            outcomes.push(apply(&mut table, commit)?);
        }
    }
    if outcomes.contains(&CommitOutcome::Committed) {
        transaction.commit().map_err(into_fault)?;
    }
    Ok(outcomes)
}

fn apply(table: &mut redb::Table<'_, &[u8], &[u8]>, changes: &Commit) -> FaultResult<CommitOutcome> {
    for (index, precondition) in changes.preconditions.iter().enumerate() {
        let found = table.get(precondition.key.as_slice()).map_err(into_fault)?;
        if found.as_ref().map(redb::AccessGuard::value) != precondition.expected.as_deref() {
            return Ok(CommitOutcome::PreconditionFailed(index));
        }
    }
    for write in &changes.writes {
        match &write.value {
            Some(value) => table.insert(write.key.as_slice(), value.as_slice()).map(drop),
            None => table.remove(write.key.as_slice()).map(drop),
        }
        .map_err(into_fault)?;
    }
    Ok(CommitOutcome::Committed)
}

fn into_fault(error: impl Into<redb::Error>) -> Fault {
    match error.into() {
        redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            Fault::corrupt(NAME, 0, "the database of rules and accounts is none")
        }
        redb::Error::Io(source) => Fault::io("read or write", NAME, source),
        redb::Error::Corrupted(_) => Fault::corrupt(NAME, 0, "the database of rules and accounts"),
        redb::Error::PreviousIo => Fault::Poisoned,
        redb::Error::DatabaseClosed => Fault::Closed,
        other => Fault::io("use", NAME, io::Error::other(other)),
    }
}

/// The file that redb works on, so that tests can fail it too.
#[derive(Debug)]
struct Backend(Arc<dyn File>);

impl StorageBackend for Backend {
    fn len(&self) -> std::result::Result<u64, io::Error> {
        self.0.bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), io::Error> {
        self.0.read_at(out, offset)
    }

    fn set_len(&self, bytes: u64) -> std::result::Result<(), io::Error> {
        self.0.set_len(bytes)
    }

    fn sync_data(&self) -> std::result::Result<(), io::Error> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::result::Result<(), io::Error> {
        self.0.write_at(data, offset)
    }
}
