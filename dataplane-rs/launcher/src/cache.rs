//! The files of a pack on disk, in a folder named by their content: `CACHE/ID/`.
//!
//! - Every start verifies the hash of each file. What is missing or wrong is unpacked again.
//! - Only the holder of the lock on `CACHE` unpacks, into `CACHE/.unpack`, and renames each
//!   finished file into place: a start that is killed halfway leaves nothing that looks finished,
//!   and the next one clears the rest away.
//! - A running program holds a shared lock on its `CACHE/ID`, so that another version's start can
//!   tell which folders are out of use and removes only those.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};

use crate::Error;
use crate::folder::{Private, may_execute};
use crate::manifest::Entry;
use crate::pack::Pack;

/// How long to wait for another start that unpacks; it takes some 0.4 s where the disk is idle.
const LOCK_WAIT: Duration = Duration::from_secs(20);
const UNPACK: &str = ".unpack";

/// Finds the files of `pack` in the folder `cache`, or puts them there, and verifies them.
///
/// What comes back holds the shared lock, and is to be kept open by the program.
///
/// # Errors
/// [`Error::Damaged`] where the pack is no good; otherwise why this folder does not serve.
pub fn prepare(pack: &Pack, cache: &Path) -> Result<Private, Error> {
    let top = Private::open(cache)?;
    if !may_execute(&top.fd) {
        return Err(Error::Unsafe(format!(
            "{} is on a noexec mount",
            cache.display()
        )));
    }
    let folder = open_shared(&top, &pack.id)?;
    if verify(pack, &folder.fd) {
        return Ok(folder);
    }
    wait_for_lock(&top, FlockOperation::NonBlockingLockExclusive)?;
    // The folder may have been renewed, or removed as unused, while this start waited.
    let folder = open_shared(&top, &pack.id)?;
    if !verify(pack, &folder.fd) {
        remove_unused(&top, &pack.id);
        unpack_all(pack, &top, &folder)?;
        if !verify(pack, &folder.fd) {
            return Err(Error::Unsafe(format!(
                "{} does not keep what is written to it",
                folder.path.display()
            )));
        }
    }
    Ok(folder)
}

/// Opens a folder with files under the shared lock, which a cleaning start may hold for an instant.
fn open_shared(top: &Private, id: &str) -> Result<Private, Error> {
    let folder = top.child(id)?;
    wait_for_lock(&folder, FlockOperation::NonBlockingLockShared)?;
    Ok(folder)
}

fn wait_for_lock(folder: &Private, operation: FlockOperation) -> Result<(), Error> {
    let end = Instant::now() + LOCK_WAIT;
    loop {
        match rustix::fs::flock(&folder.fd, operation) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(errno) => {
                let what = format!("locking {}", folder.path.display());
                return Err(Error::errno(what)(errno));
            }
        }
    }
}

/// Whether every file is there, this user's alone to write, under no second name, and has its hash.
fn verify(pack: &Pack, folder: &OwnedFd) -> bool {
    pack.manifest
        .files
        .iter()
        .all(|entry| verify_file(entry, folder).is_some_and(|right| right))
}

fn verify_file(entry: &Entry, folder: &OwnedFd) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(folder, &entry.name, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let plain = FileType::from_raw_mode(stat.st_mode).is_file()
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_mode & 0o022 == 0
        && stat.st_nlink == 1
        && u64::try_from(stat.st_size) == Ok(entry.size);
    Some(plain && hash(&file)? == entry.hash)
}

/// The file's hash, over its mapped pages and by all cores: no copy of 95 MB at every start.
fn hash(file: &OwnedFd) -> Option<blake3::Hash> {
    // SAFETY: the mapping lives in this function only, and the file is in a folder that only this
    // user can write to, whose files are replaced by rename and never written in place.
    let map = unsafe { memmap2::Mmap::map(file) }.ok()?;
    Some(blake3::Hasher::new().update_rayon(&map).finalize())
}

fn unpack_all(pack: &Pack, top: &Private, folder: &Private) -> Result<(), Error> {
    let result = top.child(UNPACK).and_then(|temporary| {
        for (index, entry) in pack.manifest.files.iter().enumerate() {
            let executable = entry.name == pack.manifest.exec;
            let mut file = create(&temporary.fd, entry, executable)?;
            pack.unpack(index, &mut file)?;
            file.flush().map_err(Error::io(&entry.name))?;
            drop(file);
            rustix::fs::renameat(&temporary.fd, &entry.name, &folder.fd, &entry.name).map_err(
                Error::errno(format!("renaming into {}", folder.path.display())),
            )?;
        }
        Ok(())
    });
    let _ = std::fs::remove_dir_all(top.path.join(UNPACK));
    result
}

fn create(folder: &OwnedFd, entry: &Entry, executable: bool) -> Result<File, Error> {
    let _ = rustix::fs::unlinkat(folder, &entry.name, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = if executable {
        Mode::RWXU
    } else {
        Mode::RUSR | Mode::WUSR
    };
    let file = rustix::fs::openat(folder, &entry.name, flags, mode)
        .map_err(Error::errno(format!("creating {}", entry.name)))?;
    // A full disk shows here rather than after half of the file; not every file system can say.
    match rustix::fs::fallocate(
        &file,
        rustix::fs::FallocateFlags::empty(),
        0,
        entry.size.max(1),
    ) {
        Err(rustix::io::Errno::NOSPC) => Err(Error::errno(format!("room for {}", entry.name))(
            rustix::io::Errno::NOSPC,
        )),
        _ => {
            let file = File::from(file);
            file.set_len(0).map_err(Error::io(&entry.name))?;
            Ok(file)
        }
    }
}

/// Removes what a killed start left and the folders of versions that no process runs.
fn remove_unused(top: &Private, current: &str) {
    let Ok(entries) = std::fs::read_dir(&top.path) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name == UNPACK || (name != current && is_id(name) && is_unused(top, name)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn is_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_unused(top: &Private, name: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&top.fd, name, flags, Mode::empty()).is_ok_and(|folder| {
        rustix::fs::flock(folder.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::tests::{open, sample};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn cache() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn unpacks_once_and_finds_it_again() {
        let (top, pack) = (cache(), open(&sample()).unwrap());
        let ready = prepare(&pack, top.path()).unwrap();
        let runtime = ready.path.join("rt");
        assert_eq!(fs::read(&runtime).unwrap(), b"runtime ".repeat(1000));
        assert_eq!(
            fs::metadata(&runtime).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert!(!top.path().join(UNPACK).exists());
        let written = fs::metadata(&runtime).unwrap().modified().unwrap();
        prepare(&pack, top.path()).unwrap();
        assert_eq!(fs::metadata(&runtime).unwrap().modified().unwrap(), written);
    }

    #[test]
    fn repairs_what_is_wrong() {
        let (top, pack) = (cache(), open(&sample()).unwrap());
        let ready = prepare(&pack, top.path()).unwrap();
        let library = ready.path.join("lib.so");
        fs::write(&library, b"librarY").unwrap();
        prepare(&pack, top.path()).unwrap();
        assert_eq!(fs::read(&library).unwrap(), b"library");
        fs::remove_file(&library).unwrap();
        prepare(&pack, top.path()).unwrap();
        fs::remove_file(&library).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &library).unwrap();
        prepare(&pack, top.path()).unwrap();
        assert!(!library.is_symlink());
        assert_eq!(fs::read(&library).unwrap(), b"library");
        let second = top.path().join("second");
        fs::hard_link(&library, &second).unwrap();
        prepare(&pack, top.path()).unwrap();
        fs::write(&second, b"changed").unwrap();
        assert_eq!(fs::read(&library).unwrap(), b"library");
    }

    #[test]
    fn clears_what_a_killed_start_left() {
        let (top, pack) = (cache(), open(&sample()).unwrap());
        let left = top.path().join(UNPACK);
        fs::create_dir(&left).unwrap();
        fs::write(left.join("rt"), b"half").unwrap();
        prepare(&pack, top.path()).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn removes_versions_out_of_use_only() {
        let (top, pack) = (cache(), open(&sample()).unwrap());
        let (used, unused) = (
            top.path().join("a".repeat(32)),
            top.path().join("b".repeat(32)),
        );
        let other = top.path().join("other");
        for folder in [&used, &unused, &other] {
            fs::create_dir(folder).unwrap();
        }
        let _lock = open_shared(&Private::open(top.path()).unwrap(), &"a".repeat(32)).unwrap();
        prepare(&pack, top.path()).unwrap();
        assert!(used.exists() && other.exists() && !unused.exists());
    }

    #[test]
    fn a_damaged_pack_leaves_nothing_finished() {
        let mut bytes = sample();
        bytes[b"launcher".len() + 20] ^= 1;
        let (top, pack) = (cache(), open(&bytes).unwrap());
        assert!(matches!(prepare(&pack, top.path()), Err(Error::Damaged(_))));
        assert!(!top.path().join(UNPACK).exists());
    }
}
