//! Makes a packed binary.
//!
//! `pack OUTPUT LAUNCHER HEAD LEVEL KEPT NAME=FILE…`: HEAD is a file with the manifest's lines before
//! the `file` lines; KEPT is a folder where compressed files are kept by their content, so that the
//! runtime, which seldom changes, is compressed once.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use launcher::Error;
use launcher::manifest::Entry;
use launcher::pack::{compress, write};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pack: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> Result<(), Error> {
    let usage = || Error::Unsafe("use: pack OUTPUT LAUNCHER HEAD LEVEL KEPT NAME=FILE...".into());
    let [output, launcher, head, level, kept, files @ ..] = args else {
        return Err(usage());
    };
    let level = level
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(usage)?;
    let mut entries = Vec::new();
    for file in files {
        let (name, path) = file
            .to_str()
            .and_then(|text| text.split_once('='))
            .ok_or_else(usage)?;
        let content = fs::read(path).map_err(Error::io(path))?;
        entries.push(compress_once(name, &content, level, Path::new(kept))?);
    }
    let launcher = fs::read(launcher).map_err(Error::io(launcher.to_string_lossy()))?;
    let head = fs::read_to_string(head).map_err(Error::io(head.to_string_lossy()))?;
    let mut packed = Vec::new();
    write(&mut packed, &launcher, &head, &entries)?;
    let mut temporary = output.clone();
    temporary.push(".new");
    let failed = || Error::io(format!("writing {}", output.to_string_lossy()));
    fs::write(&temporary, packed).map_err(failed())?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).map_err(failed())?;
    fs::rename(&temporary, output).map_err(failed())
}

fn compress_once(
    name: &str,
    content: &[u8],
    level: i32,
    kept: &Path,
) -> Result<(Entry, Vec<u8>), Error> {
    let hash = blake3::hash(content);
    let path = kept.join(format!("{}-{level}.zst", hash.to_hex()));
    if let Ok(frame) = fs::read(&path) {
        let entry = Entry {
            name: name.into(),
            size: content.len() as u64,
            packed: frame.len() as u64,
            hash,
        };
        return Ok((entry, frame));
    }
    let (entry, frame) = compress(name, content, level)?;
    let temporary = path.with_extension("new");
    fs::create_dir_all(kept)
        .and_then(|()| fs::write(&temporary, &frame))
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(Error::io(format!("keeping {}", path.display())))?;
    Ok((entry, frame))
}
