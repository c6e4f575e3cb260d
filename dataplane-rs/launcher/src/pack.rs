//! The packed file's layout: launcher, zstd frames in the manifest's order, manifest, trailer.
//!
//! The trailer is the last 56 bytes: the manifest's offset and length (64-bit little-endian), the
//! manifest's BLAKE3 hash, and [`MAGIC`]. The manifest holds the hash of each file, so its own hash
//! stands for the whole content, and names the folder in the cache.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use crate::Error;
use crate::manifest::{Entry, Manifest};

/// Closes every packed file.
pub const MAGIC: [u8; 8] = *b"flnlpk01";
const TRAILER: u64 = 56;
/// A manifest is some kilobytes; more than this is not one.
const MANIFEST_MAX: u64 = 1 << 20;

/// An opened packed binary, its manifest verified.
#[derive(Debug)]
pub struct Pack {
    file: File,
    frames: u64,
    pub manifest: Manifest,
    /// Names the content: 32 hex digits.
    pub id: String,
}

impl Pack {
    /// Reads the trailer and the manifest at the end of `file`.
    ///
    /// # Errors
    /// [`Error::Damaged`] where they do not fit each other; [`Error::Io`] where reading fails.
    pub fn open(file: File) -> Result<Self, Error> {
        let length = file.metadata().map_err(Error::io("own size"))?.len();
        let mut trailer = [0; TRAILER as usize];
        let at = length
            .checked_sub(TRAILER)
            .ok_or_else(|| Error::Damaged("nothing packed in it".into()))?;
        file.read_exact_at(&mut trailer, at)
            .map_err(Error::io("reading own trailer"))?;
        let (numbers, rest) = trailer.split_at(16);
        let (hash, magic) = rest.split_at(32);
        if magic != MAGIC {
            return Err(Error::Damaged("nothing packed in it".into()));
        }
        let number =
            |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().unwrap_or_default());
        let (offset, size) = (number(0), number(8));
        if size > MANIFEST_MAX || offset.checked_add(size) != Some(at) {
            return Err(Error::Damaged("trailer".into()));
        }
        let mut text = vec![0; usize::try_from(size).unwrap_or_default()];
        file.read_exact_at(&mut text, offset)
            .map_err(Error::io("reading own manifest"))?;
        let actual = blake3::hash(&text);
        if actual.as_bytes() != hash {
            return Err(Error::Damaged("manifest".into()));
        }
        let text = String::from_utf8(text).map_err(|_| Error::Damaged("manifest".into()))?;
        let manifest = Manifest::parse(&text)?;
        let packed = manifest
            .files
            .iter()
            .try_fold(0u64, |sum, entry| sum.checked_add(entry.packed));
        let frames = packed
            .and_then(|packed| offset.checked_sub(packed))
            .ok_or_else(|| Error::Damaged("file sizes".into()))?;
        Ok(Self {
            file,
            frames,
            manifest,
            id: actual.to_hex()[..32].to_string(),
        })
    }

    /// Unpacks the manifest's file number `index` into `out`.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the bytes are not those that were packed; [`Error::Io`] where
    /// writing fails (a full disk).
    pub fn unpack(&self, index: usize, out: &mut impl Write) -> Result<(), Error> {
        let entry = &self.manifest.files[index];
        let damaged = || Error::Damaged(entry.name.clone());
        let start: u64 = self.frames
            + self.manifest.files[..index]
                .iter()
                .map(|before| before.packed)
                .sum::<u64>();
        let frame = Section {
            file: &self.file,
            at: start,
            left: entry.packed,
        };
        let mut decoder = zstd::Decoder::new(frame).map_err(|_| damaged())?;
        decoder
            .window_log_max(27)
            .map_err(Error::io("decompressor"))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        let mut size = 0;
        loop {
            let read = decoder.read(&mut buffer).map_err(|_| damaged())?;
            if read == 0 {
                break;
            }
            size += read as u64;
            if size > entry.size {
                return Err(damaged());
            }
            hasher.update(&buffer[..read]);
            out.write_all(&buffer[..read])
                .map_err(Error::io(format!("writing {}", entry.name)))?;
        }
        if size != entry.size || hasher.finalize() != entry.hash {
            return Err(damaged());
        }
        Ok(())
    }
}

/// A part of a file, read without moving the file's own position.
struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Writes a packed binary: `launcher`, then the frames, then the manifest made of `head` (the lines
/// before the `file` lines) and the entries.
///
/// # Errors
/// Those of writing to `out`, and [`Error::Damaged`] where `head` is no good manifest.
pub fn write(
    out: &mut impl Write,
    launcher: &[u8],
    head: &str,
    files: &[(Entry, Vec<u8>)],
) -> Result<(), Error> {
    let mut manifest = head.to_string();
    for (entry, _) in files {
        manifest.push_str(&Manifest::file_line(entry));
    }
    Manifest::parse(&manifest)?;
    let frames: usize = files.iter().map(|(_, frame)| frame.len()).sum();
    let offset = (launcher.len() + frames) as u64;
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(Error::io("writing the pack"));
    put(launcher)?;
    for (_, frame) in files {
        put(frame)?;
    }
    put(manifest.as_bytes())?;
    put(&offset.to_le_bytes())?;
    put(&(manifest.len() as u64).to_le_bytes())?;
    put(blake3::hash(manifest.as_bytes()).as_bytes())?;
    put(&MAGIC)
}

/// Compresses one file for [`write`].
///
/// # Errors
/// [`Error::Io`] where the compressor refuses.
pub fn compress(name: &str, content: &[u8], level: i32) -> Result<(Entry, Vec<u8>), Error> {
    let failed = || Error::io(format!("compressing {name}"));
    let mut encoder = zstd::Encoder::new(Vec::new(), level).map_err(failed())?;
    encoder.window_log(27).map_err(failed())?;
    encoder
        .set_pledged_src_size(Some(content.len() as u64))
        .map_err(failed())?;
    encoder.write_all(content).map_err(failed())?;
    let frame = encoder.finish().map_err(failed())?;
    let entry = Entry {
        name: name.into(),
        size: content.len() as u64,
        packed: frame.len() as u64,
        hash: blake3::hash(content),
    };
    Ok((entry, frame))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Seek;

    /// A packed file with a runtime and one more file.
    pub(crate) fn sample() -> Vec<u8> {
        let files = [
            compress("rt", &b"runtime ".repeat(1000), 3).unwrap(),
            compress("lib.so", b"library", 3).unwrap(),
        ];
        let mut out = Vec::new();
        let head = "exec\trt\narg\trun\nenv\tLIB\t{path:lib.so}\n";
        write(&mut out, b"launcher", head, &files).unwrap();
        out
    }

    pub(crate) fn open(bytes: &[u8]) -> Result<Pack, Error> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        Pack::open(file)
    }

    #[test]
    fn what_was_packed_comes_out() {
        let pack = open(&sample()).unwrap();
        let mut out = Vec::new();
        pack.unpack(0, &mut out).unwrap();
        assert_eq!(out, b"runtime ".repeat(1000));
        out.clear();
        pack.unpack(1, &mut out).unwrap();
        assert_eq!(out, b"library");
        assert_eq!(pack.id.len(), 32);
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let good = sample();
        for at in b"launcher".len()..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            let outcome = open(&bad).and_then(|pack| {
                pack.unpack(0, &mut std::io::sink())?;
                pack.unpack(1, &mut std::io::sink())
            });
            assert!(matches!(outcome, Err(Error::Damaged(_))), "byte {at}");
        }
    }

    #[test]
    fn a_cut_file_is_damaged() {
        let good = sample();
        for length in [0, 8, good.len() - 56, good.len() - 1] {
            assert!(matches!(open(&good[..length]), Err(Error::Damaged(_))));
        }
    }
}
