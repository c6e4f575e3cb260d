//! The manifest: what a packed binary holds and how the program in it is started.
//!
//! Lines of tab-separated fields, in this order of kinds:
//!
//! ```text
//! exec    NAME                         the file that the launcher becomes
//! env     NAME  VALUE                  set in the program's environment
//! pass    NAME                         a variable of the caller's that the runtime needs
//! arg     TEXT                         an argument before the user's own
//! memarg  TEXT                         the same, only where the files are in memory
//! grant   ENTRY KIND [SOURCE TEXT]     a permission, see the module `grants`
//! secret  FLAG                         a flag whose value must not stay an argument
//! file    NAME  SIZE  PACKED  HASH     bytes, bytes compressed, BLAKE3 in hex
//! ```
//!
//! In a VALUE or TEXT, `{dir}` stands for the folder with the files, `{path:NAME}` for the path of
//! one of them, and `{import-map}` for a data URL that lets modules in memory find each other.

use crate::Error;
use crate::grants::Grant;

/// One file behind the launcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Bytes once unpacked.
    pub size: u64,
    /// Bytes of its zstd frame.
    pub packed: u64,
    pub hash: blake3::Hash,
}

/// See the module's description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    pub exec: String,
    pub env: Vec<(String, String)>,
    /// Besides those that the grants name.
    pub passed: Vec<String>,
    pub args: Vec<String>,
    pub memory_args: Vec<String>,
    pub grants: Vec<Grant>,
    /// Names of flags, without dashes.
    pub secrets: Vec<String>,
    pub files: Vec<Entry>,
}

impl Manifest {
    /// Reads a manifest's text.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the line that is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut manifest = Self::default();
        for line in text.lines() {
            manifest
                .add_line(line)
                .ok_or_else(|| Error::Damaged(format!("manifest line {line:?}")))?;
        }
        if !manifest.files.iter().any(|file| file.name == manifest.exec) {
            return Err(Error::Damaged("no runtime in it".into()));
        }
        Ok(manifest)
    }

    fn add_line(&mut self, line: &str) -> Option<()> {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["exec", name] => self.exec = name.into(),
            ["env", name, value] => self.env.push((name.into(), value.into())),
            ["pass", name] => self.passed.push(name.into()),
            ["arg", text] => self.args.push(text.into()),
            ["memarg", text] => self.memory_args.push(text.into()),
            ["grant", ref grant @ ..] => self.grants.push(Grant::parse(grant)?),
            ["secret", flag] => self.secrets.push(flag.into()),
            ["file", name, size, packed, hash] if is_plain_name(name) => self.files.push(Entry {
                name: name.into(),
                size: size.parse().ok()?,
                packed: packed.parse().ok()?,
                hash: blake3::Hash::from_hex(hash).ok()?,
            }),
            _ => return None,
        }
        Some(())
    }

    /// The `file` line of an entry, as [`Manifest::parse`] reads it.
    #[must_use]
    pub fn file_line(entry: &Entry) -> String {
        let Entry {
            name,
            size,
            packed,
            hash,
        } = entry;
        format!("file\t{name}\t{size}\t{packed}\t{}\n", hash.to_hex())
    }
}

/// A name that stays inside its folder and does not look like a temporary one.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    #[test]
    fn reads_every_kind_of_line() {
        let text = format!(
            "exec\trt\nenv\tA\t{{dir}}/x\npass\tTZ\narg\trun\nmemarg\t--ext=js\ngrant\tagent\tnet\n\
             secret\tpw\nfile\trt\t10\t7\t{HASH}\n"
        );
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!(manifest.exec, "rt");
        assert_eq!(manifest.env, [("A".to_string(), "{dir}/x".to_string())]);
        assert_eq!(manifest.passed, ["TZ"]);
        assert_eq!(manifest.args, ["run"]);
        assert_eq!(manifest.memory_args, ["--ext=js"]);
        assert_eq!(manifest.grants.len(), 1);
        assert_eq!(manifest.secrets, ["pw"]);
        assert_eq!((manifest.files[0].size, manifest.files[0].packed), (10, 7));
        assert_eq!(
            Manifest::file_line(&manifest.files[0]),
            text.lines().last().unwrap().to_owned() + "\n"
        );
    }

    #[test]
    fn refuses_what_is_wrong() {
        for text in [
            "".to_string(),
            "exec\trt".to_string(),
            "nonsense".to_string(),
            format!("exec\trt\ngrant\tagent\tread\tguess\tx\nfile\trt\t1\t1\t{HASH}"),
            format!("exec\trt\nfile\t../rt\t1\t1\t{HASH}"),
            format!("exec\t.rt\nfile\t.rt\t1\t1\t{HASH}"),
            format!("exec\trt\nfile\trt\t-1\t1\t{HASH}"),
            "exec\trt\nfile\trt\t1\t1\tabc".to_string(),
        ] {
            assert!(
                matches!(Manifest::parse(&text), Err(Error::Damaged(_))),
                "{text:?}"
            );
        }
    }
}
