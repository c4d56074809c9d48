//! File systems for a moment, which root may mount.

use std::path::{Path, PathBuf};

use pulsestream_core::Result;

use crate::process::{failed, tool};

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    place: tempfile::TempDir,
}

impl Mounted {
    /// Mounts memory of so many MiB.
    pub(crate) fn memory(mebibytes: u32) -> Result<Self> {
        let place = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
        let mounted = Self { place };
        std::fs::create_dir(mounted.path()).map_err(|error| failed("make a folder", error))?;
        let size = format!("size={mebibytes}m");
        tool(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &text(&mounted.path())])?;
        Ok(mounted)
    }

    /// Makes an ext4 of so many MiB in a file and mounts it.
    pub(crate) fn ext4(mebibytes: u64) -> Result<Self> {
        let place = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
        let mounted = Self { place };
        std::fs::create_dir(mounted.path()).map_err(|error| failed("make a folder", error))?;
        let image = std::fs::File::create(mounted.image()).map_err(|error| failed("make a file", error))?;
        image.set_len(mebibytes << 20).map_err(|error| failed("make a file", error))?;
        tool(&["mkfs.ext4", "-q", "-F", &text(&mounted.image())])?;
        mounted.mount_image()?;
        Ok(mounted)
    }

    /// Returns where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.place.path().join("mounted")
    }

    /// Mounts the image again, as a machine does that was switched on again.
    pub(crate) fn remount_image(&self) -> Result<()> {
        tool(&["umount", &text(&self.path())])?;
        self.mount_image()
    }

    fn image(&self) -> PathBuf {
        self.place.path().join("image")
    }

    fn mount_image(&self) -> Result<()> {
        tool(&["mount", "-o", "loop", &text(&self.image()), &text(&self.path())]).map(drop)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = tool(&["umount", &text(&self.path())]);
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
