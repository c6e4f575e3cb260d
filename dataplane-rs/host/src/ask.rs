//! Asks the agent of this network namespace for its peers.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;

use crate::Error;
use crate::lock::name;
use crate::place::{self, Purpose};
use crate::server::SOCKET;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of the longest answer: some 40,000 peers.
const LONGEST: usize = 16 << 20;
const ROOT: u32 = 0;

/// What came of it.
#[derive(Debug)]
pub enum Reply {
    /// What the agent sent, which is not checked.
    Text(String),
    /// No agent runs here.
    Nobody,
}

/// Asks where an agent may listen, in the folders that [`crate::acquire`] was given.
///
/// # Errors
/// Where something listens that is not the folder's owner, or does not answer as it should; where a
/// folder cannot be trusted; and where this user may not ask.
pub fn ask(folders: &[PathBuf]) -> Result<Reply, Error> {
    let mut refused = None;
    for folder in folders {
        match ask_in(folder) {
            Ok(Some(text)) => return Ok(Reply::Text(text)),
            Ok(None) => {}
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    refused.map_or(Ok(Reply::Nobody), Err)
}

fn ask_in(folder: &Path) -> Result<Option<String>, Error> {
    let place = match place::open(folder, Purpose::Find) {
        Ok(place) => place,
        Err(Error::Io { source, .. }) if is_absent(&source) => return Ok(None),
        Err(error) => return Err(error),
    };
    let name = name(SOCKET)?;
    let shown = place.path_of(&name).display().to_string();
    let mut socket = match UnixStream::connect(place.short_path(&name)) {
        Ok(socket) => socket,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(Error::Untrusted(format!(
                "only root and the user that flanneld runs as may query it ({shown})"
            )));
        }
        Err(error) => return Err(Error::io(shown)(error)),
    };
    let peer = socket_peercred(&socket).map_err(Error::io(shown.clone()))?;
    let user = peer.uid.as_raw();
    if user != ROOT && user != place.owner {
        return Err(Error::Untrusted(format!(
            "user {user}, who does not own the folder, listens on {shown}"
        )));
    }
    read(&mut socket).map(Some).map_err(Error::io(shown))
}

fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::CONNREFUSED, Errno::CONNRESET];
    absent
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// All that comes until the end, within limits of time and length.
fn read(socket: &mut UnixStream) -> io::Result<String> {
    let late = || {
        io::Error::new(
            ErrorKind::TimedOut,
            format!("timeout after {} s", LIMIT.as_secs()),
        )
    };
    let end = Instant::now() + LIMIT;
    let mut text = Vec::new();
    let mut buffer = [0; 1 << 16];
    loop {
        let left = end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero());
        socket.set_read_timeout(Some(left.ok_or_else(late)?))?;
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) if text.len() + length > LONGEST => {
                return Err(io::Error::other(format!(
                    "the answer is longer than {LONGEST} bytes"
                )));
            }
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(late()),
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(text).map_err(|_| io::Error::other("the answer is not UTF-8"))
}
