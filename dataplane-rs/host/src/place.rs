//! Folders that nobody else can change: every component of the path belongs to root or to this
//! process's user, and no one else may replace what is in it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::Error;

/// Symbolic links on the way, as the kernel allows.
const MAX_LINKS: usize = 40;
/// Writable by the group or by all.
const SHARED: u32 = 0o022;
/// Only its owner may replace an entry of such a folder.
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// A folder that was found to be safe. All use of it goes through its descriptor.
#[derive(Debug)]
pub struct Place {
    pub folder: OwnedFd,
    /// Where it is, symbolic links resolved.
    pub path: PathBuf,
    /// User id of its owner.
    pub owner: u32,
    /// Others could write to it, which was taken from them.
    pub repaired: bool,
}

/// How a folder is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To keep something there: makes what is missing. The folder must be root's or this user's.
    Keep,
    /// As [`Self::Keep`], in a folder that is flanneld's alone: closes it to others.
    KeepOwn,
    /// To find what its owner, whoever that is, has put there.
    Find,
}

/// Opens the folder at `path`.
///
/// # Errors
/// [`Error::Untrusted`] where someone else could change it, or the way to it.
pub fn open(path: &Path, purpose: Purpose) -> Result<Place, Error> {
    let absolute = std::path::absolute(path).map_err(Error::io(path.display().to_string()))?;
    let mut way = Way::new()?;
    let mut rest: VecDeque<OsString> = names(&absolute);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        let (next, stat) = way.enter(&name, purpose)?;
        let shown = way.path.join(&name);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                if !rest.is_empty() {
                    trusted_ancestor(&stat, &shown)?;
                }
                way.step(next, &name, stat);
            }
            FileType::Symlink => {
                trusted_owner(&stat, &shown)?;
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::io(shown.display().to_string())(Errno::LOOP));
                }
                let target = fs::readlinkat(&next, "", Vec::new())
                    .map_err(Error::io(shown.display().to_string()))?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    way = Way::new()?;
                }
                for name in names(&target).into_iter().rev() {
                    rest.push_front(name);
                }
            }
            _ => return Err(Error::io(shown.display().to_string())(Errno::NOTDIR)),
        }
    }
    way.end(purpose)
}

fn names(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    parts.collect()
}

/// How far a walk from the root has come.
struct Way {
    folder: OwnedFd,
    path: PathBuf,
    stat: Stat,
}

impl Way {
    fn new() -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = fs::open("/", flags, Mode::empty()).map_err(Error::io("/"))?;
        let stat = fs::fstat(&folder).map_err(Error::io("/"))?;
        let path = PathBuf::from("/");
        trusted_ancestor(&stat, &path)?;
        Ok(Self { folder, path, stat })
    }

    /// Opens an entry, whatever it is, without following it; makes a folder where there is nothing.
    fn enter(&self, name: &OsStr, purpose: Purpose) -> Result<(OwnedFd, Stat), Error> {
        let shown = self.path.join(name).display().to_string();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || fs::openat(&self.folder, name, flags, Mode::empty());
        let found = match open() {
            Err(Errno::NOENT) if purpose != Purpose::Find => {
                match fs::mkdirat(&self.folder, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => open(),
                    Err(error) => return Err(Error::io(format!("cannot make {shown}"))(error)),
                }
            }
            other => other,
        };
        let found = found.map_err(Error::io(shown.clone()))?;
        let stat = fs::fstat(&found).map_err(Error::io(shown))?;
        Ok((found, stat))
    }

    fn step(&mut self, folder: OwnedFd, name: &OsStr, stat: Stat) {
        self.folder = folder;
        self.stat = stat;
        if name == ".." {
            self.path.pop();
        } else {
            self.path.push(name);
        }
    }

    fn end(self, purpose: Purpose) -> Result<Place, Error> {
        let Self { folder, path, stat } = self;
        if purpose != Purpose::Find {
            trusted_owner(&stat, &path)?;
        }
        let shared = stat.st_mode & SHARED != 0;
        if shared {
            let refused = || {
                let path = path.display();
                Error::Untrusted(format!(
                    "{path} can be written to by other users: run chmod go-w {path}"
                ))
            };
            if purpose != Purpose::KeepOwn {
                return Err(refused());
            }
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 & !SHARED);
            let whole = fs::openat(
                &folder,
                ".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            whole
                .and_then(|whole| fs::fchmod(whole, mode))
                .map_err(|_| refused())?;
        }
        Ok(Place {
            folder,
            path,
            owner: stat.st_uid,
            repaired: shared,
        })
    }
}

fn trusted_owner(stat: &Stat, path: &Path) -> Result<(), Error> {
    if is_ours(stat) {
        return Ok(());
    }
    let (path, owner) = (path.display(), stat.st_uid);
    Err(Error::Untrusted(format!(
        "{path} belongs to user {owner}: run chown -h {} {path}",
        geteuid().as_raw()
    )))
}

fn trusted_ancestor(stat: &Stat, path: &Path) -> Result<(), Error> {
    trusted_owner(stat, path)?;
    if stat.st_mode & SHARED == 0 || stat.st_mode & STICKY != 0 {
        return Ok(());
    }
    let path = path.display();
    Err(Error::Untrusted(format!(
        "{path} can be written to by other users: run chmod go-w {path}"
    )))
}

/// Whether something belongs to root or this process's user.
pub fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == ROOT || stat.st_uid == geteuid().as_raw()
}

impl Place {
    /// A path for calls that take no descriptor. It leads to this folder whatever becomes of its
    /// name, and is short enough for a socket.
    pub fn short_path(&self, name: &str) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd()).into()
    }

    /// The path of an entry as people know it.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes an entry that is no folder; nothing where there is none.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        match fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io(format!(
                "cannot remove {}",
                self.path_of(name).display()
            ))(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir, set_permissions};
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    fn mode(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(path: &Path, purpose: Purpose) -> String {
        match open(path, purpose) {
            Err(Error::Untrusted(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_is_made() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("a/b");
        assert!(matches!(
            open(&folder, Purpose::Find),
            Err(Error::Io { .. })
        ));
        let place = open(&folder, Purpose::KeepOwn).unwrap();
        assert_eq!(place.path, folder.canonicalize().unwrap());
        assert!(!place.repaired);
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_closed_or_refused() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("a");
        create_dir(&folder).unwrap();
        for open_to in [0o777, 0o775, 0o1777] {
            mode(&folder, open_to);
            refusal(&folder, Purpose::Keep);
            refusal(&folder, Purpose::Find);
            assert!(open(&folder, Purpose::KeepOwn).unwrap().repaired);
            assert!(!open(&folder, Purpose::KeepOwn).unwrap().repaired);
        }
    }

    #[test]
    fn no_part_of_the_way_may_be_anyone_elses() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        create_dir(top.join("real")).unwrap();
        symlink("real", top.join("link")).unwrap();
        symlink(top.join("link/../link"), top.join("far")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        for name in ["link", "far", "real/../link"] {
            let place = open(&top.join(name), Purpose::Keep).unwrap();
            assert_eq!(place.path, top.join("real"));
        }
        assert!(matches!(
            open(&top.join("loop"), Purpose::Find),
            Err(Error::Io { .. })
        ));
        if !geteuid().is_root() {
            return;
        }
        lchown(top.join("link"), Some(1000), None).unwrap();
        for name in ["link", "far", "link/below"] {
            assert!(refusal(&top.join(name), Purpose::Keep).contains("link belongs to user 1000"));
        }
        lchown(top.join("real"), Some(1000), None).unwrap();
        refusal(&top.join("real"), Purpose::KeepOwn);
        refusal(&top.join("real/below"), Purpose::Find);
        assert_eq!(open(&top.join("real"), Purpose::Find).unwrap().owner, 1000);
    }
}
