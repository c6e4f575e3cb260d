//! One agent per network namespace.
//!
//! The lock is a file that only its owner can open, held by `flock(2)`: it is free again however its
//! holder ends, and what is left of the file is in nobody's way. Its name has the number of the
//! network namespace, as agents of several may share `/run`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, pread, pwrite};

use crate::Error;
use crate::place::{self, Place, Purpose, is_ours};
use crate::server::SOCKET;

/// Times that a file which changes under our hands is tried again.
const TRIES: usize = 100;
/// Times that a lock which is held is tried again, and the pause before each.
const BUSY_TRIES: usize = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Entries of a folder that are looked at.
const MOST_ENTRIES: usize = 1024;
/// How the names of all the files begin.
const PREFIX: &str = "flanneld-";
/// Bytes of a file with a process id.
const LONGEST: usize = 16;

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    pub(crate) place: Place,
    _file: OwnedFd,
    name: String,
}

/// What came of an attempt to take the lock.
#[derive(Debug)]
pub enum Acquired {
    Held(Lock),
    /// Another process has it.
    By {
        /// Its id, as it wrote it.
        pid: Option<u32>,
    },
}

/// Removes what agents of other network namespaces left that were killed: the namespaces may be gone,
/// and nobody else would.
fn remove_stale(place: &Place, own: &str) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = fs::openat(&place.folder, ".", flags, Mode::empty())?;
    for entry in fs::Dir::new(folder)?.take(MOST_ENTRIES) {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        let number = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_suffix(".lock"));
        let Some(number) = number.filter(|_| name != own) else {
            continue;
        };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = fs::openat(&place.folder, name, flags, Mode::empty()) else {
            continue;
        };
        let free = fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if free && is_still(place, name, &file) {
            let _ = place.remove(&format!("{PREFIX}{number}.{SOCKET}"));
            let _ = place.remove(name);
        }
    }
    Ok(())
}

/// Names of the files that stand for this network namespace.
pub fn name(what: &str) -> Result<String, Error> {
    const NAMESPACE: &str = "/proc/self/ns/net";
    let stat = fs::stat(NAMESPACE).map_err(Error::io(NAMESPACE))?;
    Ok(format!("{PREFIX}{}.{what}", stat.st_ino))
}

/// Takes the lock in the first of `folders` that this process may write to. The first of all is
/// flanneld's alone, and is closed to others where it is open to them.
///
/// # Errors
/// Where none can be used; the reason of the first, which is the one to be put right.
pub fn acquire(folders: &[PathBuf]) -> Result<Acquired, Error> {
    let mut first = None;
    for (index, folder) in folders.iter().enumerate() {
        let purpose = if index == 0 {
            Purpose::KeepOwn
        } else {
            Purpose::Keep
        };
        match acquire_in(folder, purpose) {
            Ok(acquired) => return Ok(acquired),
            Err(error) => {
                // Root could use the folder once it is put right: two agents must not use two.
                if matches!(error, Error::Untrusted(_)) && rustix::process::geteuid().is_root() {
                    return Err(error);
                }
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| Error::io("no folder is given")(Errno::NOENT)))
}

fn acquire_in(folder: &Path, purpose: Purpose) -> Result<Acquired, Error> {
    let place = place::open(folder, purpose)?;
    let name = name("lock")?;
    let shown = place.path_of(&name).display().to_string();
    let mut busy = 0;
    for _ in 0..TRIES {
        let Some(file) = open_file(&place, &name)? else {
            continue;
        };
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            // It may be another agent that only looks whether the file is of use.
            Err(Errno::WOULDBLOCK) if busy < BUSY_TRIES => {
                busy += 1;
                std::thread::sleep(BUSY_PAUSE);
                continue;
            }
            Err(Errno::WOULDBLOCK) => return Ok(Acquired::By { pid: pid_in(&file) }),
            Err(error) => return Err(Error::io(format!("cannot lock {shown}"))(error)),
        }
        if !is_still(&place, &name, &file) {
            continue;
        }
        // For people; without it the lock holds just as well.
        let _ = fs::ftruncate(&file, 0);
        let _ = pwrite(&file, format!("{}\n", std::process::id()).as_bytes(), 0);
        if purpose == Purpose::KeepOwn {
            let _ = remove_stale(&place, &name);
        }
        return Ok(Acquired::Held(Lock {
            place,
            _file: file,
            name,
        }));
    }
    Err(Error::io(format!("cannot lock {shown}"))(Errno::BUSY))
}

/// Opens the file; none where something else was in its place, which is removed. That can only have
/// got there before the folder was closed to others.
fn open_file(place: &Place, name: &str) -> Result<Option<OwnedFd>, Error> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let shown = || format!("cannot open {}", place.path_of(name).display());
    let file = match fs::openat(&place.folder, name, flags, Mode::RUSR.union(Mode::WUSR)) {
        // A symbolic link, a socket.
        Err(Errno::LOOP | Errno::NXIO) => {
            place.remove(name)?;
            return Ok(None);
        }
        other => other.map_err(Error::io(shown()))?,
    };
    let stat = fs::fstat(&file).map_err(Error::io(shown()))?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if is_file && is_ours(&stat) && stat.st_nlink == 1 && stat.st_mode & 0o077 == 0 {
        return Ok(Some(file));
    }
    if stat.st_nlink > 0 {
        place.remove(name)?;
    }
    Ok(None)
}

/// Whether the name still leads to the file that was locked: its last holder removes it.
fn is_still(place: &Place, name: &str, file: &OwnedFd) -> bool {
    let named = fs::statat(&place.folder, name, AtFlags::SYMLINK_NOFOLLOW);
    match (named, fs::fstat(file)) {
        (Ok(named), Ok(locked)) => (named.st_dev, named.st_ino) == (locked.st_dev, locked.st_ino),
        _ => false,
    }
}

fn pid_in(file: &OwnedFd) -> Option<u32> {
    let mut text = [0; LONGEST];
    let length = pread(file, &mut text, 0).ok()?;
    std::str::from_utf8(&text[..length])
        .ok()?
        .trim()
        .parse()
        .ok()
}

impl Lock {
    /// Where it is, for people.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place.path_of(&self.name)
    }

    /// Whether the folder was open to others, until now.
    #[must_use]
    pub fn repaired(&self) -> bool {
        self.place.repaired
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held. Who has opened it meanwhile finds that the name leads elsewhere.
        if let Ok(socket) = name(SOCKET) {
            let _ = self.place.remove(&socket);
        }
        let _ = self.place.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, Permissions, hard_link, set_permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn take(folder: &Path) -> Acquired {
        acquire(&[folder.to_owned()]).unwrap()
    }

    #[test]
    fn one_at_a_time() {
        let top = tempfile::tempdir().unwrap();
        let Acquired::Held(lock) = take(top.path()) else {
            panic!("it is free")
        };
        let Acquired::By { pid } = take(top.path()) else {
            panic!("it is held")
        };
        assert_eq!(pid, Some(std::process::id()));
        assert!(lock.path().exists());
        drop(lock);
        assert!(std::fs::read_dir(top.path()).unwrap().next().is_none());
        assert!(matches!(take(top.path()), Acquired::Held(_)));
    }

    #[test]
    fn never_two_of_many() {
        let top = tempfile::tempdir().unwrap();
        let holders = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        if let Acquired::Held(_lock) = take(top.path()) {
                            use std::sync::atomic::Ordering::SeqCst;
                            assert_eq!(holders.fetch_add(1, SeqCst), 0);
                            std::thread::yield_now();
                            holders.fetch_sub(1, SeqCst);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn whatever_was_planted_is_in_nobodys_way() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join(name("lock").unwrap());
        let other = top.path().join("other");
        let held = File::create(&other).unwrap();
        fs::flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        let plant: [&dyn Fn(); 5] = [
            &|| symlink(&other, &path).unwrap(),
            &|| symlink("/nowhere", &path).unwrap(),
            &|| hard_link(&other, &path).unwrap(),
            &|| {
                fs::mknodat(fs::CWD, &path, FileType::Fifo, 0o600.into(), 0).unwrap();
            },
            &|| {
                let file = File::create(&path).unwrap();
                file.set_permissions(Permissions::from_mode(0o666)).unwrap();
                fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
                // Held on.
                std::mem::forget(file);
            },
        ];
        for plant in plant {
            plant();
            set_permissions(top.path(), Permissions::from_mode(0o777)).unwrap();
            let Acquired::Held(lock) = take(top.path()) else {
                panic!("it is held")
            };
            assert!(lock.repaired());
        }
        assert!(other.exists());
    }

    #[test]
    fn what_killed_agents_left_is_removed() {
        let top = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let file = File::create(top.path().join(name)).unwrap();
            file.set_permissions(Permissions::from_mode(0o600)).unwrap();
            file
        };
        let held = make("flanneld-2.lock");
        fs::flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        for name in [
            "flanneld-1.lock",
            "flanneld-1.sock",
            "flanneld-2.sock",
            "subnet.env",
        ] {
            make(name);
        }
        let Acquired::Held(lock) = take(top.path()) else {
            panic!("it is free")
        };
        drop(lock);
        let names = std::fs::read_dir(top.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["flanneld-2.lock", "flanneld-2.sock", "subnet.env"]);
    }

    #[test]
    fn the_first_folder_that_can_be_used() {
        let top = tempfile::tempdir().unwrap();
        let no_folder = top.path().join("file");
        File::create(&no_folder).unwrap();
        let folders = [no_folder.clone(), top.path().join("a")];
        let Acquired::Held(lock) = acquire(&folders).unwrap() else {
            panic!("it is free")
        };
        assert!(
            lock.path()
                .starts_with(top.path().canonicalize().unwrap().join("a"))
        );
        let error = acquire(&folders[..1]).unwrap_err().to_string();
        assert!(error.contains("file: Not a directory"), "{error}");
    }
}
