//! What the runtime may do in one call: its permissions, made of the manifest's grants and the
//! call's own arguments and environment.
//!
//! ```text
//! grant  ENTRY  KIND                all of a kind, such as net
//! grant  ENTRY  KIND  SOURCE  TEXT  one item of it
//! ```
//!
//! ENTRY is the name that the program is called by or its first argument, several after commas; the
//! first entry of a manifest also stands for all calls that fit no other. An item comes from where
//! SOURCE says:
//!
//! | SOURCE     | TEXT                 | item                                                      |
//! | ---------- | -------------------- | --------------------------------------------------------- |
//! | `text`     | with placeholders    | the text                                                  |
//! | `flag`     | `NAME` or `NAME=TEXT`| values of a flag, else of its variable, else the text     |
//! | `folder`   | the same             | the folder that such a value lies in                      |
//! | `variable` | `NAME/REST`          | a variable's value and the rest, where it is set; it may  |
//! |            |                      | begin with `~/`, since AWS's settings may                 |
//! | `list`     | `NAME`               | each folder in a variable's list, between colons          |
//! | `setting`  | `NAME`               | values of a setting in AWS's shared config file           |
//! | `program`  | `NAME`               | where a program is, or will be once it is installed       |
//!
//! Flags are found without knowing which take a value, so that a grant may name more than the
//! program then uses, but only what whoever calls it wrote.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::flags;

/// Searched after PATH, as `traffic/commands.ts` does.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// Names AWS's shared config file, and where it is otherwise.
const CONFIG_FILE: &str = "AWS_CONFIG_FILE";
const CONFIG_PLACE: &str = "HOME/.aws/config";
/// Bytes; people's files have a few thousand.
const LARGEST_CONFIG: u64 = 1_000_000;
/// Where a program is looked for that is not there yet.
const FUTURE_FOLDER: &str = "/usr/sbin";

/// One `grant` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    entry: String,
    kind: String,
    /// None: all of the kind.
    item: Option<Item>,
}

/// See the module's table.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Text(String),
    Flag(String),
    Folder(String),
    Variable(String),
    List(String),
    Setting(String),
    Program(String),
}

/// What a call was started with.
pub struct Call<'a> {
    /// The name it was called by, without folders.
    pub name: &'a OsStr,
    pub args: &'a [OsString],
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Grant {
    /// The fields behind `grant`; none where they are wrong.
    #[must_use]
    pub fn parse(fields: &[&str]) -> Option<Self> {
        let (entry, kind, item) = match *fields {
            [entry, kind] => (entry, kind, None),
            [entry, kind, source, text] => {
                let make = match source {
                    "text" => Item::Text,
                    "flag" => Item::Flag,
                    "folder" => Item::Folder,
                    "variable" => Item::Variable,
                    "list" => Item::List,
                    "setting" => Item::Setting,
                    "program" => Item::Program,
                    _ => return None,
                };
                (entry, kind, Some(make(text.into())))
            }
            _ => return None,
        };
        Some(Self {
            entry: entry.into(),
            kind: kind.into(),
            item,
        })
    }

    fn is_for(&self, name: &OsStr) -> bool {
        self.entry.split(',').any(|entry| OsStr::new(entry) == name)
    }
}

/// The runtime's arguments for `call`; `expand` fills in placeholders. `modules` may be read by
/// all entries: to the runtime a module that is loaded later from memory is a file like others.
#[must_use]
pub fn arguments(
    grants: &[Grant],
    call: &Call,
    modules: &[OsString],
    expand: impl Fn(&str) -> OsString,
) -> Vec<OsString> {
    let entry = entry_of(grants, call);
    let mut kinds: Vec<(&str, Option<Vec<OsString>>)> = Vec::new();
    if !modules.is_empty() {
        kinds.push(("read", Some(modules.to_vec())));
    }
    for grant in grants.iter().filter(|grant| Some(&*grant.entry) == entry) {
        let at = kinds.iter().position(|(kind, _)| *kind == grant.kind);
        let at = at.unwrap_or_else(|| {
            kinds.push((&grant.kind, Some(Vec::new())));
            kinds.len() - 1
        });
        match (&grant.item, &mut kinds[at].1) {
            (None, items) => *items = None,
            (Some(item), Some(items)) => {
                for found in item.find(call, &expand) {
                    if !found.is_empty() && !items.contains(&found) {
                        items.push(found);
                    }
                }
            }
            (Some(_), None) => {}
        }
    }
    kinds
        .iter()
        .filter(|(_, items)| items.as_ref().is_none_or(|items| !items.is_empty()))
        .map(|(kind, items)| allow(kind, items.as_deref()))
        .collect()
}

/// The environment's variables that `call` may read: names, and `START*` for all that begin so.
///
/// What only flags name is not among them: by those, a variable could ask for any other.
#[must_use]
pub fn variables(grants: &[Grant], call: &Call) -> Vec<String> {
    let entry = entry_of(grants, call);
    let granted = grants
        .iter()
        .filter(|grant| Some(&*grant.entry) == entry && grant.kind == "env");
    granted
        .filter_map(|grant| match &grant.item {
            Some(Item::Text(text)) => Some(text.clone()),
            _ => None,
        })
        .collect()
}

/// The entry that the call is for; none where the manifest has no grants.
fn entry_of<'a>(grants: &'a [Grant], call: &Call) -> Option<&'a str> {
    let first_arg = call.args.first().map(OsString::as_os_str);
    [Some(call.name), first_arg]
        .into_iter()
        .flatten()
        .find_map(|name| grants.iter().find(|grant| grant.is_for(name)))
        .or_else(|| grants.first())
        .map(|grant| &*grant.entry)
}

/// `--allow-KIND=A,B`, a comma in an item doubled.
fn allow(kind: &str, items: Option<&[OsString]>) -> OsString {
    let mut argument = format!("--allow-{kind}").into_bytes();
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        argument.push(if index == 0 { b'=' } else { b',' });
        for &byte in item.as_bytes() {
            argument.extend(std::iter::repeat_n(byte, 1 + usize::from(byte == b',')));
        }
    }
    OsString::from_vec(argument)
}

impl Item {
    fn find(&self, call: &Call, expand: &impl Fn(&str) -> OsString) -> Vec<OsString> {
        match self {
            Self::Text(text) => vec![expand(text)],
            Self::Flag(text) => flag(text, call),
            Self::Folder(text) => flag(text, call).iter().flat_map(folders_of).collect(),
            Self::Variable(text) => variable(text, call).into_iter().collect(),
            Self::List(name) => list(name, call),
            Self::Setting(name) => setting(name, call),
            Self::Program(name) => vec![program(name, call)],
        }
    }
}

fn flag(text: &str, call: &Call) -> Vec<OsString> {
    let (name, default) = text.split_once('=').unwrap_or((text, ""));
    let given = flags::values(name, call.args);
    if !given.is_empty() {
        return given;
    }
    let set = (call.variable)(&flags::variable_of(name)).filter(|value| !value.is_empty());
    vec![set.unwrap_or_else(|| default.into())]
}

/// The folder of `path` as it is written, and that of the file which it is a link to.
fn folders_of(path: &OsString) -> Vec<OsString> {
    if path.is_empty() {
        return Vec::new();
    }
    let folder = match Path::new(path).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let behind = std::fs::canonicalize(path).ok();
    let behind = behind.as_deref().and_then(Path::parent);
    [Some(folder), behind]
        .into_iter()
        .flatten()
        .map(Into::into)
        .collect()
}

fn variable(text: &str, call: &Call) -> Option<OsString> {
    let (name, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
    let value = (call.variable)(name).filter(|value| !value.is_empty())?;
    let mut path = match value.as_bytes().strip_prefix(b"~/") {
        Some(below) => Path::new(&(call.variable)("HOME")?)
            .join(OsStr::from_bytes(below))
            .into(),
        None => value,
    };
    path.push(rest);
    Some(path)
}

fn list(name: &str, call: &Call) -> Vec<OsString> {
    let folders = (call.variable)(name).unwrap_or_default();
    std::env::split_paths(&folders).map(Into::into).collect()
}

/// What a setting is in any section: which of them is the profile is the program's to know.
fn setting(name: &str, call: &Call) -> Vec<OsString> {
    let path = variable(CONFIG_FILE, call).or_else(|| variable(CONFIG_PLACE, call));
    let text = path.and_then(|path| read(Path::new(&path)));
    let lines = text.iter().flat_map(|text| text.lines());
    lines
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| key.trim() == name)
        .map(|(_, value)| without_comment(value).trim().into())
        .collect()
}

/// A file's text; none where it is not a file that people write. A pipe would never end.
fn read(path: &Path) -> Option<String> {
    let about = std::fs::metadata(path).ok()?;
    let fits = about.is_file() && about.len() <= LARGEST_CONFIG;
    fits.then(|| std::fs::read_to_string(path).ok())?
}

fn without_comment(value: &str) -> &str {
    let begins = |(at, mark): &(usize, char)| {
        matches!(mark, '#' | ';') && value[..*at].ends_with(char::is_whitespace)
    };
    let end = value.char_indices().find(begins);
    end.map_or(value, |(at, _)| &value[..at])
}

fn program(name: &str, call: &Call) -> OsString {
    let path = (call.variable)("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .chain(SYSTEM_FOLDERS.map(Into::into))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| Path::new(FUTURE_FOLDER).join(name))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(lines: &[&str]) -> Vec<Grant> {
        let parse = |line: &&str| Grant::parse(&line.split(' ').collect::<Vec<_>>()).unwrap();
        lines.iter().map(parse).collect()
    }

    fn call(lines: &[&str], name: &str, args: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        let call = Call {
            name: OsStr::new(name),
            args: &args,
            variable: &|name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| value.into())
            },
        };
        let made = arguments(&grants(lines), &call, &[], |text| {
            text.replace("{lib}", "/l").into()
        });
        made.iter()
            .map(|arg| arg.to_str().unwrap().into())
            .collect()
    }

    #[test]
    fn lists_and_settings() {
        let lists = ["a read list D"];
        assert_eq!(
            call(&lists, "", &[], &[("D", "/a:/b,c:")]),
            ["--allow-read=/a,/b,,c"]
        );
        assert!(call(&lists, "", &[], &[]).is_empty());

        let folder = tempfile::tempdir().unwrap();
        let (home, aws) = (folder.path(), folder.path().join(".aws"));
        std::fs::create_dir(&aws).unwrap();
        let text = "[default]\nca_bundle = /a b#c # ours\n  region=x\n[profile p]\n\
                    ca_bundle=/d ;\n#ca_bundle = /e\nca_bundle_x = /f\nca_bundle\n";
        std::fs::write(aws.join("config"), text).unwrap();
        let settings = ["a read setting ca_bundle"];
        let home = home.to_str().unwrap();
        let found = ["--allow-read=/a b#c,/d"];
        assert_eq!(call(&settings, "", &[], &[("HOME", home)]), found);
        let file = format!("{home}/.aws/config");
        assert_eq!(
            call(&settings, "", &[], &[("AWS_CONFIG_FILE", &file)]),
            found
        );
        for nothing in [home, "/nowhere", "/dev/zero"] {
            let variables = [("AWS_CONFIG_FILE", nothing)];
            assert!(call(&settings, "", &[], &variables).is_empty());
        }
    }

    #[test]
    fn the_entry_is_the_name_or_the_first_argument() {
        let lines = ["agent net", "cni,flannel read text /c", "man env"];
        assert_eq!(
            call(&lines, "flanneld", &["--v", "man"], &[]),
            ["--allow-net"]
        );
        assert_eq!(call(&lines, "flanneld", &["man"], &[]), ["--allow-env"]);
        assert_eq!(call(&lines, "flanneld", &["cni"], &[]), ["--allow-read=/c"]);
        assert_eq!(call(&lines, "flannel", &[], &[]), ["--allow-read=/c"]);
        assert!(call(&[], "flanneld", &[], &[]).is_empty());
    }

    #[test]
    fn variables_that_may_be_read() {
        let lines = grants(&[
            "a env text A_*",
            "a env flag k",
            "a read text /x",
            "b env text B",
        ]);
        let of = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(Into::into).collect();
            let call = Call {
                name: OsStr::new("flanneld"),
                args: &args,
                variable: &|_| None,
            };
            variables(&lines, &call)
        };
        assert_eq!(of(&["-k", "LD_PRELOAD"]), ["A_*"]);
        assert_eq!(of(&["b"]), ["B"]);
    }

    #[test]
    fn modules_in_memory_may_be_read_by_all() {
        let call = Call {
            name: OsStr::new("a"),
            args: &[],
            variable: &|_| None,
        };
        let made =
            |lines: &[&str]| arguments(&grants(lines), &call, &["/m".into()], |text| text.into());
        assert_eq!(made(&["a net"]), ["--allow-read=/m", "--allow-net"]);
        assert_eq!(made(&["a read text x"]), ["--allow-read=/m,x"]);
        assert_eq!(made(&["a read"]), ["--allow-read"]);
    }

    #[test]
    fn items_are_joined_and_all_of_a_kind_wins() {
        let lines = ["a ffi text {lib}", "a ffi text {lib}", "a ffi text x,y"];
        assert_eq!(call(&lines, "", &[], &[]), ["--allow-ffi=/l,x,,y"]);
        assert_eq!(
            call(&["a net text x", "a net", "a net text y"], "", &[], &[]),
            ["--allow-net"]
        );
    }

    #[test]
    fn flags_are_found_as_the_program_finds_them() {
        let read = |args: &[&str], variables: &[(&str, &str)]| {
            call(
                &["a read flag key-file", "a read flag d"],
                "",
                args,
                variables,
            )
        };
        assert!(read(&["x", "key-file", "--key-files=a"], &[]).is_empty());
        for args in [
            &["-key-file", "a"][..],
            &["--key-file=a"],
            &["x", "-d", "a"],
            &["-cd", "a"],
            &["-da"],
        ] {
            assert_eq!(
                read(args, &[("FLANNELD_KEY_FILE", "")]),
                ["--allow-read=a"],
                "{args:?}"
            );
        }
        assert_eq!(
            read(&["--key-file=a"], &[("FLANNELD_KEY_FILE", "b")]),
            ["--allow-read=a"]
        );
        assert_eq!(read(&[], &[("FLANNELD_KEY_FILE", "b")]), ["--allow-read=b"]);
    }

    #[test]
    fn folders_and_variables() {
        let lines = ["a write folder f=/run/x/y", "a write variable HOME/.z"];
        assert_eq!(call(&lines, "", &[], &[]), ["--allow-write=/run/x"]);
        assert_eq!(
            call(&lines, "", &["-f", "y"], &[("HOME", "/h")]),
            ["--allow-write=.,/h/.z"]
        );
        assert!(call(&["a read folder f"], "", &[], &[]).is_empty());
        let below_home = [("F", "~/x"), ("HOME", "/h")];
        let grant = ["a read variable F"];
        assert_eq!(call(&grant, "", &[], &below_home), ["--allow-read=/h/x"]);
        assert!(call(&grant, "", &[], &below_home[..1]).is_empty());
    }

    #[test]
    fn the_folder_behind_a_link_counts_too() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("real")).unwrap();
        std::fs::write(top.join("real/file"), "").unwrap();
        std::os::unix::fs::symlink(top.join("real/file"), top.join("link")).unwrap();
        let link = top.join("link");
        assert_eq!(
            call(
                &["a read folder f"],
                "",
                &["-f", link.to_str().unwrap()],
                &[]
            ),
            [format!("--allow-read={0},{0}/real", top.display())]
        );
    }

    #[test]
    fn a_program_is_where_it_is_or_would_be() {
        let lines = ["a run program sh", "a run program not-there-0"];
        assert_eq!(
            call(&lines, "", &[], &[("PATH", "bin:/bin")]),
            ["--allow-run=/bin/sh,/usr/sbin/not-there-0"]
        );
    }
}
