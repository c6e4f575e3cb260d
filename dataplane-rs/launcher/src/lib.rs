//! A packed binary: this launcher, then the files of the program, each compressed, then a manifest.
//!
//! At its start the launcher finds the files in a cache folder, or unpacks them there, verifies each
//! by its hash and becomes (`execve`) the runtime among them.

pub mod cache;
pub mod flags;
pub mod folder;
pub mod grants;
pub mod launch;
pub mod manifest;
pub mod memory;
pub mod pack;

/// Why a packed binary cannot start from one place, or at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The packed binary itself is wrong: no other place to unpack it would help.
    #[error("this file is damaged ({0}): copy it again")]
    Damaged(String),
    /// One place does not serve; the next may.
    #[error("{what}: {source}")]
    Io {
        what: String,
        source: std::io::Error,
    },
    /// A folder that someone else could write to.
    #[error("{0}")]
    Unsafe(String),
}

impl Error {
    /// An I/O error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The same for an error number of a system call.
    pub fn errno(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let what = what.into();
        move |errno| Self::Io {
            what,
            source: errno.into(),
        }
    }
}
