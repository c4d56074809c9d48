//! The file operations the store is built on, so that a test can cut the power or fill the disk.

#[cfg(any(test, feature = "sim"))]
mod faults;
mod folder;
#[cfg(any(test, feature = "sim"))]
mod sim;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

#[cfg(any(test, feature = "sim"))]
pub use faults::{Fail, FaultyStorage, Operation};
pub use folder::Folder;
#[cfg(any(test, feature = "sim"))]
pub use sim::SimFs;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read only.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; it must not exist.
    Create,
}

/// Who holds the folder.
#[derive(Debug)]
pub enum Lock {
    /// This process, until the guard is dropped or the process ends.
    Held(Box<dyn fmt::Debug + Send + Sync>),
    /// The process with this id, 0 if it did not say.
    Taken(u32),
}

/// A folder with one level of sub-folders. Names are relative and use `/`.
///
/// # Contract
/// - What was written is durable after [`File::sync_data`]; a created, renamed or removed name after [`Storage::sync_dir`].
/// - An error of a sync is final: what it covered may or may not be durable, and a second sync proves nothing.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Opens a file; a symbolic link in its place is refused.
    ///
    /// # Errors
    /// Those of the operating system.
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, replacing what had it.
    ///
    /// # Errors
    /// Those of the operating system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the operating system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Lists the names of the files in a sub-folder (empty for the folder itself), sorted.
    ///
    /// # Errors
    /// Those of the operating system.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Makes a sub-folder (empty for the folder itself) unless it exists, and makes its own name durable.
    ///
    /// # Errors
    /// Those of the operating system.
    fn create_dir(&self, directory: &str) -> io::Result<()>;

    /// Makes the names in a sub-folder durable.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync_dir(&self, directory: &str) -> io::Result<()>;

    /// Returns where the folder is in the file system, if it is there.
    fn place(&self) -> Option<&Path>;

    /// Takes the lock of the folder, without waiting.
    ///
    /// # Errors
    /// Those of the operating system.
    fn lock(&self, name: &str) -> io::Result<Lock>;
}

/// An open file. Reads and writes name their position, so a handle can be shared.
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before, and those of the operating system.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Those of the operating system; a part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns the length in bytes.
    ///
    /// # Errors
    /// Those of the operating system.
    fn bytes(&self) -> io::Result<u64>;

    /// Cuts or extends the file with zeros.
    ///
    /// # Errors
    /// Those of the operating system.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync_data(&self) -> io::Result<()>;
}
