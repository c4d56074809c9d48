//! Storage whose N-th operation fails.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, Lock, OpenMode, Storage};

/// The operations that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opening or creating a file.
    Open,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Making content durable.
    Sync,
    /// Making names durable.
    SyncDir,
    /// Giving another name.
    Rename,
    /// Cutting or extending.
    Truncate,
    /// Removing.
    Remove,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 8] = [
        Self::Open,
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::SyncDir,
        Self::Rename,
        Self::Truncate,
        Self::Remove,
    ];
}

/// Which operations fail, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fail {
    /// The kind that fails.
    pub operation: Operation,
    /// The first one that fails, counted from 1.
    pub nth: u64,
    /// Whether all later ones fail too.
    pub persistent: bool,
    /// The error number of the operating system, 5 for EIO and 28 for ENOSPC.
    pub errno: i32,
}

/// Wraps storage and fails operations as told.
#[derive(Debug)]
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    fail: Mutex<Option<Fail>>,
    seen: AtomicU64,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plan {
    fn pass(&self, operation: Operation) -> io::Result<()> {
        let Some(fail) = *held(&self.fail) else { return Ok(()) };
        if fail.operation != operation {
            return Ok(());
        }
        let number = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if number == fail.nth || (fail.persistent && number > fail.nth) {
            return Err(io::Error::from_raw_os_error(fail.errno));
        }
        Ok(())
    }
}

impl FaultyStorage {
    /// Wraps `inner`; nothing fails yet.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Sets or clears what fails, and counts from zero again.
    pub fn set(&self, fail: Option<Fail>) {
        *held(&self.plan.fail) = fail;
        self.plan.seen.store(0, Ordering::SeqCst);
    }

    /// Returns how many operations of the chosen kind were seen since [`Self::set`].
    pub fn seen(&self) -> u64 {
        self.plan.seen.load(Ordering::SeqCst)
    }
}

impl Storage for FaultyStorage {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.plan.pass(Operation::Open)?;
        Ok(Arc::new(FaultyFile { inner: self.inner.open(name, mode)?, plan: Arc::clone(&self.plan) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.pass(Operation::Rename)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.plan.pass(Operation::Remove)?;
        self.inner.remove(name)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }

    fn create_dir(&self, directory: &str) -> io::Result<()> {
        self.inner.create_dir(directory)
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.plan.pass(Operation::SyncDir)?;
        self.inner.sync_dir(directory)
    }

    fn place(&self) -> Option<&Path> {
        self.inner.place()
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.inner.lock(name)
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn File>,
    plan: Arc<Plan>,
}

impl File for FaultyFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.plan.pass(Operation::Read)?;
        self.inner.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.plan.pass(Operation::Write) {
            // A failing write may have written a part, all, or nothing.
            let written = match *held(&self.plan.fail) {
                Some(Fail { persistent: true, nth, .. }) if self.plan.seen.load(Ordering::SeqCst) > nth => 0,
                Some(Fail { persistent: true, .. }) => bytes.len(),
                _ => bytes.len() / 2,
            };
            self.inner.write_at(&bytes[..written], offset)?;
            return Err(error);
        }
        self.inner.write_at(bytes, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.plan.pass(Operation::Truncate)?;
        self.inner.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plan.pass(Operation::Sync)?;
        self.inner.sync_data()
    }
}
