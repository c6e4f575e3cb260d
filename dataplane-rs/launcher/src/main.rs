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

/// Opens this executable; by the name it was called where there is no `/proc`.
fn open_self() -> Result<File, Error> {
    let own = std::env::current_exe().or_else(|error| {
        let called = std::env::args_os().next().map(std::path::PathBuf::from);
        called.filter(|path| path.is_absolute()).ok_or(error)
    });
    own.and_then(File::open)
        .map_err(Error::io("opening itself"))
}
