//! Flags on a command line, found without knowing which of them take a value.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// A flag's variable is this and the flag's name, in capitals.
const VARIABLE_PREFIX: &str = "FLANNELD_";

/// The variable that stands for a flag.
#[must_use]
pub fn variable_of(flag: &str) -> String {
    VARIABLE_PREFIX.to_owned() + &flag.to_ascii_uppercase().replace('-', "_")
}

/// Each value of a flag.
#[must_use]
pub fn values(name: &str, args: &[OsString]) -> Vec<OsString> {
    let values = args
        .iter()
        .enumerate()
        .filter_map(|(index, arg)| match parts(arg, name)? {
            Some(value) => Some(value.to_owned()),
            None => args.get(index + 1).cloned(),
        });
    values.collect()
}

/// Whether `arg` is this flag, and the value that it has after `=`, or after a name of one letter.
fn parts<'a>(arg: &'a OsStr, name: &str) -> Option<Option<&'a OsStr>> {
    let bytes = arg.as_bytes();
    let short = bytes.strip_prefix(b"-")?;
    let long = short.strip_prefix(b"-").unwrap_or(short);
    if let Some(rest) = long.strip_prefix(name.as_bytes()) {
        match rest.split_first() {
            None => return Some(None),
            Some((b'=', value)) => return Some(Some(OsStr::from_bytes(value))),
            Some(_) if name.len() == 1 && long == short => {
                return Some(Some(OsStr::from_bytes(rest)));
            }
            Some(_) => {}
        }
    }
    // `-ck NAME`: letters before it that take no value.
    let behind_others = name.len() == 1 && long == short && short.ends_with(name.as_bytes());
    behind_others.then_some(None)
}

/// Takes flags that carry a secret out of a command line, which other users can read.
///
/// @returns what is left, and each flag's last value
#[must_use]
pub fn without_secrets(
    secrets: &[String],
    args: &[OsString],
) -> (Vec<OsString>, Vec<(String, OsString)>) {
    let mut kept = Vec::new();
    let mut taken: Vec<(String, OsString)> = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            kept.push(arg.clone());
            kept.extend(rest.by_ref().cloned());
            break;
        }
        let found = secrets
            .iter()
            .find_map(|name| parts(arg, name).map(|value| (name, value)));
        let Some((name, value)) = found else {
            kept.push(arg.clone());
            continue;
        };
        let Some(value) = value.map(OsStr::to_owned).or_else(|| rest.next().cloned()) else {
            // Without its value: the program says so.
            kept.push(arg.clone());
            continue;
        };
        taken.retain(|(other, _)| other != name);
        taken.push((name.clone(), value));
    }
    (kept, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out() {
        let secrets = ["pw".to_string()];
        let take = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(Into::into).collect();
            let (kept, taken) = without_secrets(&secrets, &args);
            let text = |text: OsString| text.into_string().unwrap();
            let taken: Vec<_> = taken
                .into_iter()
                .map(|(name, value)| (name, text(value)))
                .collect();
            (
                kept.into_iter().map(text).collect::<Vec<_>>().join(" "),
                taken,
            )
        };
        let pw = |value: &str| vec![("pw".to_string(), value.to_string())];
        assert_eq!(take(&["--a", "-pw", "1", "b"]), ("--a b".into(), pw("1")));
        assert_eq!(take(&["--pw=1", "--pw=2=3"]), ("".into(), pw("2=3")));
        assert_eq!(
            take(&["--pwx=1", "--", "--pw=2"]),
            ("--pwx=1 -- --pw=2".into(), vec![])
        );
        assert_eq!(take(&["--pw"]), ("--pw".into(), vec![]));
    }
}
