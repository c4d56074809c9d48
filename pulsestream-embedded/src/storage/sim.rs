//! A file system in memory whose power can be cut.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, Lock, OpenMode, Storage};

const SECTOR_BYTES: usize = 512;

/// A simulated folder: it remembers what was synced and what was not.
///
/// After [`SimFs::cut_power_after`] operations every call fails. [`SimFs::after_power_loss`] then returns the folder as a disk
/// may show it: synced content, a random part of the unsynced writes in 512-byte sectors, and a random prefix of the unsynced
/// names.
#[derive(Debug, Clone, Default)]
pub struct SimFs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, Arc<Mutex<Inode>>>,
    durable_names: BTreeMap<String, Arc<Mutex<Inode>>>,
    pending_names: Vec<NameChange>,
    operations: u64,
    power_left: Option<u64>,
    capacity: Option<u64>,
    owner: u64,
    locked: Arc<()>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(String, Arc<Mutex<Inode>>),
    Remove(String),
    Rename(String, String),
}

#[derive(Debug, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random(seed: &mut u64) -> u64 {
    // SplitMix64 of Steele, Lea and Flood, 2014.
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *seed;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn apply(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl SimFs {
    /// Creates an empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `operations` more writing operations happen; the next one and all calls after it fail.
    pub fn cut_power_after(&self, operations: u64) {
        held(&self.0).power_left = Some(operations);
    }

    /// Lets all files together have so many bytes; what would make them longer fails with ENOSPC.
    pub fn limit_bytes(&self, bytes: Option<u64>) {
        held(&self.0).capacity = bytes;
    }

    /// Returns how many writing operations happened.
    pub fn operations(&self) -> u64 {
        held(&self.0).operations
    }

    /// Returns a folder as it may be found after a power loss at this moment; `seed` chooses the damage.
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let state = held(&self.0);
        let mut seed = seed;
        let mut names = state.durable_names.clone();
        let kept = random(&mut seed) % (state.pending_names.len() as u64 + 1);
        for change in state.pending_names.iter().take(kept as usize) {
            change.apply(&mut names);
        }
        let mut fresh = BTreeMap::new();
        for (name, inode) in &names {
            let content = held(inode).damaged(&mut seed);
            let inode = Inode { durable: content.clone(), content, pending: Vec::new() };
            fresh.insert(name.clone(), Arc::new(Mutex::new(inode)));
        }
        Self(Arc::new(Mutex::new(State { names: fresh.clone(), durable_names: fresh, ..State::default() })))
    }

    /// Returns a folder as a killed process leaves it: everything written is there, synced or not.
    pub fn after_kill(&self) -> Self {
        let state = held(&self.0);
        let copy = |inode: &Arc<Mutex<Inode>>| {
            let content = held(inode).content.clone();
            Arc::new(Mutex::new(Inode { durable: content.clone(), content, pending: Vec::new() }))
        };
        let fresh: BTreeMap<_, _> =
            state.names.iter().map(|(name, inode)| (name.clone(), copy(inode))).collect();
        Self(Arc::new(Mutex::new(State { names: fresh.clone(), durable_names: fresh, ..State::default() })))
    }

    /// Returns the names and lengths of all files.
    pub fn files(&self) -> Vec<(String, u64)> {
        held(&self.0)
            .names
            .iter()
            .map(|(name, inode)| (name.clone(), held(inode).content.len() as u64))
            .collect()
    }

    /// Inverts every bit of one byte, as a failing disk may; returns whether the byte exists.
    pub fn flip(&self, name: &str, offset: u64) -> bool {
        let state = held(&self.0);
        let Some(inode) = state.names.get(name) else { return false };
        let mut inode = held(inode);
        let at = offset as usize;
        if at >= inode.content.len() {
            return false;
        }
        inode.content[at] ^= 0xff;
        if let Some(byte) = inode.durable.get_mut(at) {
            *byte ^= 0xff;
        }
        true
    }

    fn spend(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = held(&self.0);
        match &mut state.power_left {
            Some(0) => return Err(io::Error::from_raw_os_error(5)),
            Some(left) => *left -= 1,
            None => {}
        }
        state.operations += 1;
        Ok(state)
    }

    /// Refuses to make a file longer than there is room for.
    fn make_longer(state: &State, inode: &Mutex<Inode>, bytes: u64) -> io::Result<()> {
        let Some(capacity) = state.capacity else { return Ok(()) };
        let has = held(inode).content.len() as u64;
        let all: u64 = state.names.values().map(|inode| held(inode).content.len() as u64).sum();
        let fits = bytes <= has || all - has + bytes <= capacity;
        if fits { Ok(()) } else { Err(io::Error::from_raw_os_error(28)) }
    }

    fn powered(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = held(&self.0);
        if state.power_left == Some(0) { Err(io::Error::from_raw_os_error(5)) } else { Ok(state) }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Arc<Mutex<Inode>>>) {
        match self {
            Self::Add(name, inode) => {
                names.insert(name.clone(), Arc::clone(inode));
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }

    fn directory(&self) -> &str {
        let name = match self {
            Self::Add(name, _) | Self::Remove(name) | Self::Rename(name, _) => name,
        };
        name.rsplit_once('/').map_or("", |(directory, _)| directory)
    }
}

impl Inode {
    /// Durable content plus a random selection of what was not synced, sector by sector.
    fn damaged(&self, seed: &mut u64) -> Vec<u8> {
        let mut content = self.durable.clone();
        // 0: nothing of the rest, 1: all of it, else: every sector decides for itself.
        let mode = random(seed) % 4;
        for change in &self.pending {
            match change {
                Change::Length(bytes) if mode != 0 && !random(seed).is_multiple_of(4) => {
                    content.resize(*bytes, 0)
                }
                Change::Length(_) => {}
                Change::Write(offset, bytes) => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let until = ((offset + at) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
                        let until = until.min(bytes.len());
                        if mode == 1 || (mode > 1 && random(seed).is_multiple_of(2)) {
                            apply(&mut content, offset + at, &bytes[at..until]);
                        }
                        at = until;
                    }
                }
            }
        }
        content
    }
}

impl Storage for SimFs {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = if mode == OpenMode::Create { self.spend()? } else { self.powered()? };
        let inode = match (state.names.get(name), mode) {
            (Some(_), OpenMode::Create) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            (Some(inode), _) => Arc::clone(inode),
            (None, OpenMode::Create) => {
                let inode = Arc::<Mutex<Inode>>::default();
                state.names.insert(name.to_owned(), Arc::clone(&inode));
                state.pending_names.push(NameChange::Add(name.to_owned(), Arc::clone(&inode)));
                inode
            }
            (None, _) => return Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        Ok(Arc::new(SimFile { fs: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.spend()?;
        if !state.names.contains_key(from) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        change.apply(&mut state.names);
        state.pending_names.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.spend()?;
        if state.names.remove(name).is_none() {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.pending_names.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let state = self.powered()?;
        let names = state.names.keys().filter_map(|name| match name.rsplit_once('/') {
            Some((parent, child)) if parent == directory => Some(child.to_owned()),
            None if directory.is_empty() => Some(name.clone()),
            _ => None,
        });
        Ok(names.collect())
    }

    fn create_dir(&self, _directory: &str) -> io::Result<()> {
        self.powered().map(drop)
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        let mut state = self.spend()?;
        let pending = std::mem::take(&mut state.pending_names);
        for change in pending {
            if change.directory() == directory {
                change.apply(&mut state.durable_names);
            } else {
                state.pending_names.push(change);
            }
        }
        Ok(())
    }

    fn place(&self) -> Option<&Path> {
        None
    }

    fn lock(&self, _name: &str) -> io::Result<Lock> {
        let mut state = self.powered()?;
        if Arc::strong_count(&state.locked) > 1 {
            return Ok(Lock::Taken(std::process::id()));
        }
        state.owner += 1;
        Ok(Lock::Held(Box::new(Arc::clone(&state.locked))))
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: Arc<Mutex<Inode>>,
}

impl File for SimFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        drop(self.fs.powered()?);
        let inode = held(&self.inode);
        let start = offset as usize;
        let part = inode.content.get(start..start + bytes.len());
        bytes.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let state = self.fs.spend()?;
        SimFs::make_longer(&state, &self.inode, offset + bytes.len() as u64)?;
        drop(state);
        let mut inode = held(&self.inode);
        apply(&mut inode.content, offset as usize, bytes);
        inode.pending.push(Change::Write(offset as usize, bytes.to_vec()));
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        drop(self.fs.powered()?);
        Ok(held(&self.inode).content.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let state = self.fs.spend()?;
        SimFs::make_longer(&state, &self.inode, bytes)?;
        drop(state);
        let mut inode = held(&self.inode);
        inode.content.resize(bytes as usize, 0);
        inode.pending.push(Change::Length(bytes as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        drop(self.fs.spend()?);
        let mut inode = held(&self.inode);
        inode.durable = inode.content.clone();
        inode.pending.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synced_bytes_survive_and_the_rest_may_not() {
        let fs = SimFs::new();
        let file = fs.open("a", OpenMode::Create).unwrap();
        file.write_at(&[1; 1_024], 0).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir("").unwrap();
        file.write_at(&[2; 1_024], 0).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let after = fs.after_power_loss(seed).open("a", OpenMode::Read).unwrap();
            let mut bytes = [0; 1_024];
            after.read_at(&mut bytes, 0).unwrap();
            seen.insert((bytes[0], bytes[511], bytes[512], bytes[1_023]));
        }
        let whole_sectors = [(1, 1, 1, 1), (1, 1, 2, 2), (2, 2, 1, 1), (2, 2, 2, 2)];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), whole_sectors);
    }

    #[test]
    fn a_name_needs_its_folder_synced() {
        let fs = SimFs::new();
        fs.open("wal/a", OpenMode::Create).unwrap().sync_data().unwrap();
        let lost = (0..32).filter(|seed| fs.after_power_loss(*seed).files().is_empty()).count();
        assert!(lost > 0 && lost < 32);
        fs.sync_dir("wal").unwrap();
        fs.rename("wal/a", "wal/b").unwrap();
        for seed in 0..32 {
            assert_eq!(fs.after_power_loss(seed).files().len(), 1);
        }
    }

    #[test]
    fn without_power_everything_fails() {
        let fs = SimFs::new();
        fs.cut_power_after(2);
        let file = fs.open("a", OpenMode::Create).unwrap();
        file.write_at(b"x", 0).unwrap();
        assert!(file.write_at(b"y", 1).is_err());
        assert!(file.sync_data().is_err());
        assert!(fs.list("").is_err());
    }
}
