//! From a pack to the running program: which places are tried, and the command that it becomes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::grants::{self, Call};
use crate::manifest::Manifest;
use crate::pack::Pack;
use crate::{Error, cache, flags, memory};

/// The name by which the launcher was called, for a program that goes by several.
const ARGV0: &str = "_FLANNELD_ARGV0";
/// Names, after commas, the flags whose values were arguments and now are in the environment.
const SECRETS: &str = "_FLANNELD_SECRETS";
const HOME: &str = "HOME";
/// Before the name of a variable that is not for this program but for those that it starts.
const CALLERS: &str = "_FLANNELD_CALLER_";
/// What the launcher says to the program; the caller's environment has no say in it.
const OWN: &str = "_FLANNELD_";
const PATH: &str = "PATH";
/// Names the folder for unpacked files, before all others.
const CACHE_DIR: &str = "FLANNELD_CACHE_DIR";

/// Folders to unpack into, the best first. Only the first may be the user's explicit choice.
#[must_use]
pub fn candidates(variable: impl Fn(&str) -> Option<OsString>, user: u32) -> Vec<PathBuf> {
    let set = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    [
        set(CACHE_DIR),
        Some("/var/cache/flanneld".into()),
        home.map(|cache| cache.join("flanneld")),
        Some(format!("/tmp/flanneld-cache-{user}").into()),
        Some("/run/flanneld-cache".into()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Becomes the program in `pack`; comes back only with the reason why it could not.
///
/// # Errors
/// [`Error::Damaged`] at once; otherwise the last place's reason.
pub fn run(pack: &Pack) -> Error {
    let user = rustix::process::geteuid().as_raw();
    let chosen = std::env::var_os(CACHE_DIR);
    for folder in candidates(|name| std::env::var_os(name), user) {
        match from_cache(pack, &folder) {
            damaged @ Error::Damaged(_) => return damaged,
            reason if chosen.as_deref() == Some(folder.as_os_str()) => {
                eprintln!("flanneld: {CACHE_DIR} is not used: {reason}");
            }
            _ => {}
        }
    }
    from_memory(pack)
}

fn from_cache(pack: &Pack, folder: &Path) -> Error {
    let ready = match cache::prepare(pack, folder) {
        Ok(ready) => ready,
        Err(error) => return error,
    };
    let place = Place {
        folder: &ready.path,
        file: &|name| ready.path.join(name),
        import_map: String::new(),
        modules: Vec::new(),
        args: &[],
    };
    become_program(&pack.manifest, &place)
}

fn from_memory(pack: &Pack) -> Error {
    let files = match memory::prepare(pack) {
        Ok(files) => files,
        Err(error) => return error,
    };
    let place = Place {
        // The runtime's own cache goes nowhere.
        folder: Path::new("/dev/null"),
        file: &|name| files.get(name).map(memory::path).unwrap_or_default(),
        import_map: memory::import_map(&files),
        modules: memory::modules(&files)
            .map(|(_, file)| memory::path(file).into())
            .collect(),
        args: &pack.manifest.memory_args,
    };
    become_program(&pack.manifest, &place)
}

/// Where the files are, for the placeholders of the manifest.
struct Place<'a> {
    folder: &'a Path,
    file: &'a dyn Fn(&str) -> PathBuf,
    import_map: String,
    modules: Vec<OsString>,
    args: &'a [String],
}

impl Place<'_> {
    fn expand(&self, text: &str) -> OsString {
        if let Some((before, rest)) = text.split_once("{path:")
            && let Some((name, after)) = rest.split_once('}')
        {
            let mut whole = OsString::from(before);
            whole.push((self.file)(name));
            whole.push(after);
            return whole;
        }
        if let Some((before, after)) = text.split_once("{dir}") {
            let mut whole = OsString::from(before);
            whole.push(self.folder);
            whole.push(after);
            return whole;
        }
        text.replace("{import-map}", &self.import_map).into()
    }
}

fn become_program(manifest: &Manifest, place: &Place) -> Error {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_else(|| "flanneld".into());
    let given: Vec<OsString> = args.collect();
    let (args, secrets) = flags::without_secrets(&manifest.secrets, &given);
    let mut command = Command::new((place.file)(&manifest.exec));
    command.arg0(&called);
    command.env_clear();
    let patterns = grants::variables(&manifest.grants, &call(&called, &args));
    let patterns: Vec<&str> = manifest
        .passed
        .iter()
        .chain(&patterns)
        .map(String::as_str)
        .collect();
    command.envs(environment(std::env::vars_os(), &patterns));
    for (name, value) in &manifest.env {
        command.env(name, place.expand(value));
    }
    if let Some(home) = variable(HOME) {
        command.env(HOME, home);
    }
    command.env(ARGV0, &called);
    for (flag, value) in &secrets {
        command.env(flags::variable_of(flag), value);
    }
    if !secrets.is_empty() {
        let names: Vec<&str> = secrets.iter().map(|(flag, _)| flag.as_str()).collect();
        command.env(SECRETS, names.join(","));
    }
    let (first, rest) = manifest.args.split_at(manifest.args.len().min(1));
    let expand = |arg: &String| place.expand(arg);
    command.args(first.iter().map(expand));
    command.args(permissions(manifest, place, &called, &args));
    command.args(place.args.iter().chain(rest).map(expand));
    let error = command.args(args).exec();
    let what = match error.kind() {
        // The file is there, so what is not found is its loader.
        ErrorKind::NotFound => "starting the runtime: is glibc installed?".into(),
        _ => format!("starting {}", manifest.exec),
    };
    Error::io(what)(error)
}

fn permissions(
    manifest: &Manifest,
    place: &Place,
    called: &OsStr,
    args: &[OsString],
) -> Vec<OsString> {
    grants::arguments(
        &manifest.grants,
        &call(called, args),
        &place.modules,
        |text| place.expand(text),
    )
}

fn call<'a>(called: &'a OsStr, args: &'a [OsString]) -> Call<'a> {
    Call {
        name: Path::new(called).file_name().unwrap_or_default(),
        args,
        variable: &variable,
    }
}

/// What the program gets of the caller's environment: the variables that it knows, by their names or
/// by `START*`. Nothing else reaches the runtime and the loader, which know many more.
///
/// Where [`CALLERS`] is among the patterns, the rest comes under names that begin so, for programs
/// that this one starts; except for what would make these load or trust what is not theirs.
fn environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    patterns: &[&str],
) -> BTreeMap<OsString, OsString> {
    let hands_on = patterns
        .iter()
        .any(|pattern| pattern.strip_suffix('*') == Some(CALLERS));
    let mut passed = BTreeMap::new();
    for (name, value) in variables {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(OWN.as_bytes()) {
            continue;
        }
        let value = if name == PATH {
            absolute_folders(&value)
        } else {
            value
        };
        if patterns.iter().any(|pattern| fits(bytes, pattern)) {
            passed.insert(name, value);
        } else if hands_on && !is_injection(bytes) && is_text(&name) && is_text(&value) {
            let mut renamed = OsString::from(CALLERS);
            renamed.push(name);
            passed.insert(renamed, value);
        }
    }
    passed
}

fn fits(name: &[u8], pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

/// The program hands on no others.
fn is_text(text: &OsStr) -> bool {
    text.to_str().is_some()
}

/// The folders of a PATH; one that depends on where the program was started is left out.
fn absolute_folders(path: &OsStr) -> OsString {
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    std::env::join_paths(folders).unwrap_or_default()
}

/// Settings by which a loader or a runtime takes in code, trusts other servers or gives keys away.
fn is_injection(name: &[u8]) -> bool {
    const STARTS: [&[u8]; 3] = [b"LD_", b"DENO_", b"GLIBC_TUNABLES"];
    const NAMES: [&[u8]; 5] = [
        b"NODE_OPTIONS",
        b"NODE_EXTRA_CA_CERTS",
        b"NODE_TLS_REJECT_UNAUTHORIZED",
        b"NODE_USE_ENV_PROXY",
        b"SSLKEYLOGFILE",
    ];
    STARTS.iter().any(|start| name.starts_with(start)) || NAMES.contains(&name)
}

/// A variable; the home folder is known without one, which service managers do not set for root.
fn variable(name: &str) -> Option<OsString> {
    let set = std::env::var_os(name);
    if name != HOME || set.as_ref().is_some_and(|home| !home.is_empty()) {
        return set;
    }
    let users = std::fs::read("/etc/passwd").ok()?;
    home_of(rustix::process::geteuid().as_raw(), &users)
}

/// A user's home folder by the system's list. The C library is not asked: in a static program it may
/// load modules of another version of itself.
fn home_of(user: u32, users: &[u8]) -> Option<OsString> {
    let user = user.to_string();
    let home = users.split(|&byte| byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        (*fields.get(2)? == user.as_bytes()).then_some(())?;
        fields.get(5).copied()
    })?;
    Path::new(OsStr::from_bytes(home))
        .is_absolute()
        .then(|| OsStr::from_bytes(home).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_tried_in_order_and_only_absolute_ones() {
        let paths = |vars: &[(&str, &str)]| {
            let find = |name: &str| {
                let found = vars.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| OsString::from(value))
            };
            candidates(find, 7)
        };
        assert_eq!(
            paths(&[(CACHE_DIR, "/a"), ("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]),
            [
                "/a",
                "/var/cache/flanneld",
                "/x/flanneld",
                "/tmp/flanneld-cache-7",
                "/run/flanneld-cache"
            ]
            .map(PathBuf::from)
        );
        assert!(paths(&[("HOME", "/h")]).contains(&"/h/.cache/flanneld".into()));
        let none = paths(&[(CACHE_DIR, "a"), ("HOME", ""), ("XDG_CACHE_HOME", "x")]);
        assert_eq!(none.len(), 3);
    }

    #[test]
    fn placeholders_are_filled_in() {
        let place = Place {
            folder: Path::new("/c/id"),
            file: &|name| Path::new("/c/id").join(name),
            import_map: "data:x".into(),
            modules: Vec::new(),
            args: &[],
        };
        assert_eq!(place.expand("{path:main.js}"), "/c/id/main.js");
        assert_eq!(place.expand("{dir}/runtime"), "/c/id/runtime");
        assert_eq!(
            place.expand("--import-map={import-map}"),
            "--import-map=data:x"
        );
        assert_eq!(place.expand("run"), "run");
    }

    #[test]
    fn the_home_folder_of_a_user() {
        let users = b"root:x:0:0:root:/root:/bin/sh\n\n# x\nother:x:7:7::/home/o:\nodd:x:8:8::-:\n";
        let home = |user| home_of(user, users).map(|home| home.into_string().unwrap());
        assert_eq!(home(0).as_deref(), Some("/root"));
        assert_eq!(home(7).as_deref(), Some("/home/o"));
        assert_eq!((home(8), home(9)), (None, None));
    }

    #[test]
    fn only_known_variables_are_passed() {
        let passed = |patterns: &[&str], variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()));
            let passed = environment(variables, patterns);
            let text = |text: OsString| text.into_string().unwrap();
            let lines = passed
                .into_iter()
                .map(|(name, value)| text(name) + "=" + &text(value));
            lines.collect::<Vec<_>>()
        };
        let given = [
            ("A_1", "1"),
            ("A", "2"),
            ("LD_PRELOAD", "3"),
            ("NODE_EXTRA_CA_CERTS", "4"),
            ("OTHER", "5"),
            ("PATH", "bin:/bin::/sbin:."),
            ("_FLANNELD_LIB", "6"),
            ("_FLANNELD_CALLER_X", "7"),
        ];
        assert_eq!(
            passed(&["A_*", "PATH", "_FLANNELD_*"], &given),
            ["A_1=1", "PATH=/bin:/sbin"]
        );
        assert_eq!(
            passed(&["A", "_FLANNELD_CALLER_*"], &given),
            [
                "A=2",
                "_FLANNELD_CALLER_A_1=1",
                "_FLANNELD_CALLER_OTHER=5",
                "_FLANNELD_CALLER_PATH=/bin:/sbin"
            ]
        );
    }
}
