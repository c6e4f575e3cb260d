//! The front of a packed binary: see the library's description.

use std::fs::File;
use std::process::ExitCode;

use launcher::pack::Pack;
use launcher::{Error, launch};

fn main() -> ExitCode {
    let error = match open_self().and_then(Pack::open) {
        Ok(pack) => launch::run(&pack),
        Err(error) => error,
    };
    eprintln!("flanneld: cannot start: {error}");
    ExitCode::FAILURE
}

/// Opens this executable. The runtime needs `/proc` just as well.
fn open_self() -> Result<File, Error> {
    File::open("/proc/self/exe").map_err(Error::io("/proc/self/exe: is /proc mounted?"))
}
