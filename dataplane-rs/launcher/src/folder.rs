//! Folders that nobody but this user (and root) can write to.
//!
//! Between the check of a file's hash and its use lies time. That is harmless only where nobody
//! else can put another file in its place: so a folder serves when it is this user's, when no one
//! else may write to it, and when none of the folders above it lets another user rename or replace
//! it (a sticky one such as `/tmp` does not).

use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::Error;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Makes the folder `path` where it is missing, with mode 0700, and opens it once it is safe.
///
/// The descriptor stays open across `execve`: locks on it last as long as the program does.
///
/// # Errors
/// [`Error::Io`] where it cannot be made; [`Error::Unsafe`] where it is a link, another user's, or
/// others could replace what is in it.
pub fn open_private(path: &Path) -> Result<OwnedFd, Error> {
    check_ancestors(path)?;
    let created = std::fs::DirBuilder::new().mode(0o700).create(path);
    match created {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io(format!("making {}", path.display()))(error));
        }
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let folder = rustix::fs::open(path, flags, Mode::empty())
        .map_err(Error::errno(format!("opening {}", path.display())))?;
    let stat = rustix::fs::fstat(&folder).map_err(Error::errno(format!("{}", path.display())))?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Error::Unsafe(format!(
            "{} belongs to user {}",
            path.display(),
            stat.st_uid
        )));
    }
    if stat.st_mode & WRITABLE_BY_OTHERS != 0 {
        return Err(Error::Unsafe(format!(
            "{} is writable by others",
            path.display()
        )));
    }
    if stat.st_mode & 0o077 != 0 {
        rustix::fs::fchmod(&folder, Mode::RWXU)
            .map_err(Error::errno(format!("mode of {}", path.display())))?;
    }
    Ok(folder)
}

/// Whether files in the folder may be executed and mapped as code: not on a `noexec` mount.
#[must_use]
pub fn may_execute(folder: &OwnedFd) -> bool {
    rustix::fs::fstatvfs(folder)
        .is_ok_and(|stat| !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

fn check_ancestors(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let parent: PathBuf = parent
        .canonicalize()
        .map_err(Error::io(format!("{}", parent.display())))?;
    let user = rustix::process::geteuid().as_raw();
    for folder in parent.ancestors() {
        let stat = folder
            .symlink_metadata()
            .map_err(Error::io(format!("{}", folder.display())))?;
        let own = stat.uid() == user || stat.uid() == 0;
        let closed = stat.mode() & WRITABLE_BY_OTHERS == 0 || stat.mode() & STICKY != 0;
        if !own || !closed {
            return Err(Error::Unsafe(format!(
                "{} lets other users replace what is below it",
                folder.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn makes_a_private_folder_and_tightens_its_mode() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("cache");
        open_private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        open_private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn refuses_what_others_could_change() {
        let top = tempfile::tempdir().unwrap();
        let open = top.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(open_private(&open), Err(Error::Unsafe(_))));
        let below = open_private(&open.join("below"));
        assert!(matches!(below, Err(Error::Unsafe(_))));
        fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        open_private(&open.join("below")).unwrap();
        let link = top.path().join("link");
        symlink(open.join("below"), &link).unwrap();
        assert!(open_private(&link).is_err());
    }
}
