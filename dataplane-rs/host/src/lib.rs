//! The agent on its host, apart from the network that it sets up: one agent per network namespace,
//! the sockets where it answers, and the service manager that it tells its state.
//!
//! Whatever is here can be reached by other programs of the host, or from other hosts. So nothing
//! has a name that another user could take first, nobody is waited for without a limit, and all of
//! it runs on threads of its own, beside the program's event loop.

mod ask;
mod limits;
mod lock;
mod notify;
mod place;
mod server;

use std::fmt;
use std::io;

pub use ask::{Reply as AskReply, ask};
pub use limits::raise_open_files;
pub use lock::{Acquired, Lock, acquire};
pub use notify::notify;
pub use server::{HttpOptions, ListenError, Server, TOPICS, Topic};

/// One line that says what failed, and why.
#[derive(Debug)]
pub enum Error {
    /// Someone else could interfere here: it must not be used.
    Untrusted(String),
    /// The system refused.
    Io { what: String, source: io::Error },
}

impl Error {
    fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io {
            what,
            source: source.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted(reason) => f.write_str(reason),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for Error {}
