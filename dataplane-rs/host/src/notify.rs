//! systemd's readiness protocol, `sd_notify(3)`: one datagram per state.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long a service manager whose queue is full is waited for.
const LIMIT: Duration = Duration::from_secs(2);

/// Sends `state` to the socket at `target`, a path, or an abstract address that begins with `@`.
///
/// The sending socket has no name: nobody can take it first, and no reply is expected.
///
/// # Errors
/// The system's, also when the queue stays full.
pub fn notify(target: &OsStr, state: &[u8]) -> io::Result<()> {
    let address = match target.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(target)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(LIMIT))?;
    socket.send_to_addr(state, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("flanneld-test/{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let abstract_one = UnixDatagram::bind_addr(&address).unwrap();
        let mut buffer = [0; 16];
        for (socket, target) in [
            (&by_path, path.as_os_str()),
            (&abstract_one, OsStr::new(&format!("@{name}"))),
        ] {
            notify(target, b"READY=1").unwrap();
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
            assert!(from.is_unnamed());
        }
    }

    #[test]
    fn a_queue_that_stays_full_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        assert!((0..10_000).any(|_| notify(path.as_os_str(), b"READY=1").is_err()));
    }
}
