//! The file system of the operating system.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

use super::{File, Lock, OpenMode, Storage};

/// A folder of the file system; files have mode 0600 and sub-folders 0700.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Sub-folders that are open to be synced. They stay open: a sync that fails for want of a file handle would look like a disk
    /// that fails.
    directories: Mutex<BTreeMap<String, std::fs::File>>,
}

impl Folder {
    /// Names the folder; nothing is opened or created yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), directories: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    fn with_directory(
        &self,
        directory: &str,
        work: impl FnOnce(&std::fs::File) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        match directories.get(directory) {
            Some(opened) => work(opened),
            None => {
                let opened = std::fs::File::open(self.path(directory))?;
                let outcome = work(&opened);
                directories.insert(directory.to_owned(), opened);
                outcome
            }
        }
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits();
        options.read(true).mode(0o600).custom_flags(flags.cast_signed());
        options
    }
}

impl Storage for Folder {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = Self::options();
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create_new(true);
            }
        }
        let file = options.open(self.path(name))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Arc::new(Handle(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(directory))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, directory: &str) -> io::Result<()> {
        let place = self.path(directory);
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let missing: Vec<&Path> = place.ancestors().take_while(is_missing).collect();
        for folder in missing.into_iter().rev() {
            match DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
            // Without this a power loss may take the folder with everything that was synced inside it.
            let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
            std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        let kind = std::fs::symlink_metadata(&place)?.file_type();
        let is_folder = kind.is_dir() || (directory.is_empty() && place.is_dir());
        if !is_folder {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        self.with_directory(directory, |_| Ok(()))
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.with_directory(directory, std::fs::File::sync_all)
    }

    fn place(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        let mut options = Self::options();
        // The content is the owner's process id, so a loser must not cut it.
        let mut file = options.write(true).create(true).truncate(false).open(self.path(name))?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all(std::process::id().to_string().as_bytes())?;
                Ok(Lock::Held(Box::new(file)))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.seek(SeekFrom::Start(0))?;
                file.take(20).read_to_string(&mut text)?;
                Ok(Lock::Taken(text.trim().parse().unwrap_or(0)))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct Handle(std::fs::File);

/// Fills `bytes`; the standard library goes on after `EINTR` and short counts.
fn read_whole(file: &impl FileExt, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(bytes, offset)
}

/// Writes all of `bytes`, with the same care.
fn write_whole(file: &impl FileExt, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

impl File for Handle {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        read_whole(&self.0, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_whole(&self.0, bytes, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_private_and_links_are_refused() {
        use std::os::unix::fs::PermissionsExt;

        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().join("store"));
        folder.create_dir("").unwrap();
        folder.create_dir("wal").unwrap();
        folder.create_dir("wal").unwrap();
        let file = folder.open("wal/one", OpenMode::Create).unwrap();
        file.write_at(b"hello", 3).unwrap();
        let mut bytes = [9; 8];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"\0\0\0hello");
        assert_eq!(file.read_at(&mut bytes, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let mode = |name: &str| std::fs::metadata(folder.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("wal"), mode("wal/one")), (0o700, 0o600));

        std::os::unix::fs::symlink(folder.path("wal/one"), folder.path("wal/two")).unwrap();
        let refused = folder.open("wal/two", OpenMode::Write).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
        std::os::unix::fs::symlink(folder.path("wal"), folder.path("segments")).unwrap();
        assert!(folder.create_dir("segments").is_err());
        assert_eq!(folder.list("wal").unwrap(), ["one"]);
    }

    /// A file that is interrupted every other time, and otherwise takes or gives one byte.
    #[derive(Default)]
    struct Stingy {
        content: std::cell::RefCell<Vec<u8>>,
        calls: std::cell::Cell<usize>,
    }

    impl Stingy {
        fn interrupt(&self) -> io::Result<()> {
            self.calls.set(self.calls.get() + 1);
            if self.calls.get() % 2 == 1 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
        }
    }

    impl FileExt for Stingy {
        fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
            self.interrupt()?;
            let found = self.content.borrow().get(usize::try_from(offset).unwrap()).copied();
            match (bytes.first_mut(), found) {
                (Some(first), Some(byte)) => {
                    *first = byte;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            self.interrupt()?;
            let mut content = self.content.borrow_mut();
            let at = usize::try_from(offset).unwrap();
            let length = content.len().max(at + 1);
            content.resize(length, 0);
            content[at] = bytes[0];
            Ok(1)
        }
    }

    #[test]
    fn short_counts_and_interruptions_end_with_the_whole() {
        let file = Stingy::default();
        write_whole(&file, b"whole", 2).unwrap();
        assert_eq!(*file.content.borrow(), b"\0\0whole");
        let mut bytes = [0; 5];
        read_whole(&file, &mut bytes, 2).unwrap();
        assert_eq!(&bytes, b"whole");
        assert_eq!(file.calls.get(), 20, "each byte took two calls");
        let beyond = read_whole(&file, &mut bytes, 3).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_second_lock_names_the_first_owner() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path());
        let first = folder.lock("lock").unwrap();
        assert!(matches!(first, Lock::Held(_)));
        match folder.lock("lock").unwrap() {
            Lock::Taken(pid) => assert_eq!(pid, std::process::id()),
            Lock::Held(_) => panic!("two owners"),
        }
        drop(first);
        assert!(matches!(folder.lock("lock").unwrap(), Lock::Held(_)));
    }
}
