//! The files of a pack in memory, where no folder serves: one anonymous file each, open across
//! `execve` and reached as `/proc/self/fd/N`.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, Mode, SealFlags};

use crate::Error;
use crate::pack::Pack;

/// Unpacked and verified files by name; they last as long as their descriptors.
pub type Files = BTreeMap<String, OwnedFd>;

/// Unpacks the files of `pack` into memory, sealed against any change.
///
/// # Errors
/// [`Error::Damaged`] where the pack is no good; [`Error::Io`] where memory does not serve.
pub fn prepare(pack: &Pack) -> Result<Files, Error> {
    let mut files = Files::new();
    for (index, entry) in pack.manifest.files.iter().enumerate() {
        let failed = || Error::errno(format!("memory for {}", entry.name));
        let descriptor =
            rustix::fs::memfd_create(&entry.name, MemfdFlags::ALLOW_SEALING).map_err(failed())?;
        rustix::fs::fchmod(&descriptor, Mode::RWXU).map_err(failed())?;
        let mut file = File::from(descriptor);
        pack.unpack(index, &mut file)?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(failed())?;
        files.insert(entry.name.clone(), file.into());
    }
    Ok(files)
}

/// The path by which the program itself reaches a file.
#[must_use]
pub fn path(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The files that are modules.
pub fn modules(files: &Files) -> impl Iterator<Item = (&String, &OwnedFd)> {
    files.iter().filter(|(name, _)| name.ends_with(".js"))
}

/// An import map as a data URL: from the names by which modules import each other to the
/// descriptors that hold them.
#[must_use]
pub fn import_map(files: &Files) -> String {
    let imports: Vec<String> = modules(files)
        .map(|(name, file)| {
            format!(
                "%22file:///proc/self/fd/{name}%22:%22file://{}%22",
                path(file).display()
            )
        })
        .collect();
    format!(
        "data:application/json,%7B%22imports%22:%7B{}%7D%7D",
        imports.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::tests::{open, sample};

    #[test]
    fn files_can_be_read_by_their_paths_and_not_changed() {
        let files = prepare(&open(&sample()).unwrap()).unwrap();
        let library = path(&files["lib.so"]);
        assert_eq!(std::fs::read(&library).unwrap(), b"library");
        assert!(std::fs::write(&library, b"other").is_err());
    }

    #[test]
    fn the_import_map_names_modules_only() {
        let mut files = prepare(&open(&sample()).unwrap()).unwrap();
        let library = files.remove("lib.so").unwrap();
        let number = library.as_raw_fd();
        files.insert("a.js".into(), library);
        assert_eq!(
            import_map(&files),
            format!(
                "data:application/json,%7B%22imports%22:%7B%22file:///proc/self/fd/a.js%22:\
                 %22file:///proc/self/fd/{number}%22%7D%7D"
            )
        );
    }
}
