//! Folders that nobody but this user (and root) can change.
//!
//! Between the check of a file's hash and its use lies time. That is harmless only where nobody
//! else can put another file in its place. So a path is followed once, from the root down, folder by
//! folder and by descriptors; each folder and each link on the way must belong to this user or to
//! root, and each folder must let no one else rename or replace what is in it (a sticky one such as
//! `/tmp` does not). What comes of it is the path without links, none of whose parts another user
//! can change: only that one is used from then on.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::Error;

/// Also set where an access control list lets someone else write: it shows the list's mask.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;
/// As many links as the kernel follows in a path.
const LINKS_MAX: u32 = 40;

/// A folder of this user's, of mode 0700.
///
/// The descriptor stays open across `execve`: locks on it last as long as the program does.
#[derive(Debug)]
pub struct Private {
    pub fd: OwnedFd,
    /// Without links.
    pub path: PathBuf,
}

impl Private {
    /// Makes the folder `path` where it is missing, and opens it once it is safe.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be made; [`Error::Unsafe`] where it is a link, another user's,
    /// or others could replace what is in it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::Unsafe(format!("{} is not a folder", path.display())));
        };
        let parent = Way::follow(parent)?;
        Self::open_in(parent.here(), parent.path.join(name), name)
    }

    /// The same for a folder in this one.
    ///
    /// # Errors
    /// As [`Private::open`].
    pub fn child(&self, name: &str) -> Result<Self, Error> {
        Self::open_in(&self.fd, self.path.join(name), OsStr::new(name))
    }

    fn open_in(parent: impl AsFd, path: PathBuf, name: &OsStr) -> Result<Self, Error> {
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::errno(format!("making {}", path.display()))(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&parent, name, flags, Mode::empty())
            .map_err(Error::errno(format!("opening {}", path.display())))?;
        let stat = rustix::fs::fstat(&fd).map_err(Error::errno(format!("{}", path.display())))?;
        if stat.st_uid != user() {
            return Err(another_users(&path, &stat));
        }
        if stat.st_mode & WRITABLE_BY_OTHERS != 0 {
            return Err(Error::Unsafe(format!(
                "other users can write to {}",
                path.display()
            )));
        }
        if stat.st_mode & 0o077 != 0 {
            rustix::fs::fchmod(&fd, Mode::RWXU)
                .map_err(Error::errno(format!("mode of {}", path.display())))?;
        }
        Ok(Self { fd, path })
    }
}

/// Whether files in the folder may be executed and mapped as code: not on a `noexec` mount.
#[must_use]
pub fn may_execute(folder: &OwnedFd) -> bool {
    rustix::fs::fstatvfs(folder)
        .is_ok_and(|stat| !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

/// The folders from the root down to one, each checked.
struct Way {
    root: OwnedFd,
    /// Those below the root, the last one at the end.
    below: Vec<OwnedFd>,
    /// Of the last one, without links.
    path: PathBuf,
}

impl Way {
    fn follow(path: &Path) -> Result<Self, Error> {
        let mut way = Self::root()?;
        let mut ahead = parts(path);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            let Some(name) = name else {
                way.below.pop();
                way.path.pop();
                continue;
            };
            let Some(target) = way.step(&name)? else {
                continue;
            };
            links += 1;
            if links > LINKS_MAX {
                return Err(Error::Unsafe(format!(
                    "{} has too many links",
                    path.display()
                )));
            }
            if target.is_absolute() {
                way.below.clear();
                way.path = "/".into();
            }
            ahead.extend(parts(&target));
        }
        Ok(way)
    }

    fn root() -> Result<Self, Error> {
        let path = Path::new("/");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(Error::errno("/"))?;
        let stat = rustix::fs::fstat(&root).map_err(Error::errno("/"))?;
        check(path, &stat)?;
        Ok(Self {
            root,
            below: Vec::new(),
            path: path.into(),
        })
    }

    fn here(&self) -> &OwnedFd {
        self.below.last().unwrap_or(&self.root)
    }

    /// Goes into the folder `name`; where that is a link, says where it leads and stays.
    fn step(&mut self, name: &OsStr) -> Result<Option<PathBuf>, Error> {
        let path = self.path.join(name);
        let failed = || Error::errno(format!("{}", path.display()));
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(self.here(), name, flags, Mode::empty()).map_err(failed())?;
        let stat = rustix::fs::fstat(&found).map_err(failed())?;
        check(&path, &stat)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&found, "", Vec::new()).map_err(failed())?;
                Ok(Some(OsString::from_vec(target.into_bytes()).into()))
            }
            FileType::Directory => {
                self.below.push(found);
                self.path = path;
                Ok(None)
            }
            _ => Err(failed()(Errno::NOTDIR)),
        }
    }
}

/// A path's names, the first at the end; None for `..`.
fn parts(path: &Path) -> Vec<Option<OsString>> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(Some(name.to_owned())),
        Component::ParentDir => Some(None),
        _ => None,
    });
    parts.rev().collect()
}

/// Refuses a folder or link by which another user could lead elsewhere.
fn check(path: &Path, stat: &Stat) -> Result<(), Error> {
    if stat.st_uid != user() && stat.st_uid != 0 {
        return Err(another_users(path, stat));
    }
    if FileType::from_raw_mode(stat.st_mode).is_symlink() {
        // A link's mode means nothing. One with two names may have been put here by anyone.
        if stat.st_nlink > 1 {
            return Err(Error::Unsafe(format!(
                "{} is a link with several names",
                path.display()
            )));
        }
    } else if stat.st_mode & WRITABLE_BY_OTHERS != 0 && stat.st_mode & STICKY == 0 {
        return Err(Error::Unsafe(format!(
            "{} lets other users replace what is below it",
            path.display()
        )));
    }
    Ok(())
}

fn another_users(path: &Path, stat: &Stat) -> Error {
    Error::Unsafe(format!(
        "{} belongs to user {}",
        path.display(),
        stat.st_uid
    ))
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};

    #[test]
    fn makes_a_private_folder_and_tightens_its_mode() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("cache");
        Private::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Private::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn refuses_what_others_could_change() {
        let top = tempfile::tempdir().unwrap();
        let open = top.path().join("open");
        fs::create_dir(&open).unwrap();
        for mode in [0o777, 0o775, 0o757] {
            fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Private::open(&open), Err(Error::Unsafe(_))));
            let below = Private::open(&open.join("below"));
            assert!(matches!(below, Err(Error::Unsafe(_))), "{mode:o}");
        }
        fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        Private::open(&open.join("below")).unwrap();
        let link = top.path().join("link");
        symlink(open.join("below"), &link).unwrap();
        assert!(Private::open(&link).is_err());
    }

    #[test]
    fn follows_own_links_to_the_path_without_them() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("real/deep")).unwrap();
        symlink("real/../real", top.join("a")).unwrap();
        symlink(top.join("a/deep"), top.join("b")).unwrap();
        let found = Private::open(&top.join("b/./../deep/cache")).unwrap();
        assert_eq!(found.path, top.join("real/deep/cache"));
        assert_eq!(
            found.child("id").unwrap().path,
            top.join("real/deep/cache/id")
        );
        symlink("round", top.join("round")).unwrap();
        assert!(Private::open(&top.join("round/x")).is_err());
        fs::write(top.join("file"), "").unwrap();
        assert!(Private::open(&top.join("file/x")).is_err());
    }

    #[test]
    fn refuses_links_and_folders_of_others() {
        if user() != 0 {
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let real = top.path().join("real");
        fs::create_dir(&real).unwrap();
        let link = top.path().join("link");
        symlink(&real, &link).unwrap();
        Private::open(&link.join("x")).unwrap();
        fs::hard_link(&link, top.path().join("second")).unwrap();
        assert!(Private::open(&link.join("x")).is_err());
        fs::remove_file(top.path().join("second")).unwrap();
        lchown(&link, Some(65534), None).unwrap();
        assert!(matches!(
            Private::open(&link.join("x")),
            Err(Error::Unsafe(_))
        ));
        lchown(&real, Some(65534), None).unwrap();
        assert!(matches!(
            Private::open(&real.join("x")),
            Err(Error::Unsafe(_))
        ));
    }
}
