//! From a pack to the running program: which places are tried, and the command that it becomes.

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
/// Of Node's variables, those by which the runtime's support for it would trust other servers, go
/// through proxies or do what else it is not asked to here.
const NODE_SETTINGS: [&str; 4] = [
    "NODE_OPTIONS",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "NODE_USE_ENV_PROXY",
];
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
    // The runtime's own settings in the caller's environment are not meant for this program.
    for (name, _) in std::env::vars_os() {
        if is_runtime_setting(&name) {
            command.env_remove(&name);
        }
    }
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
    let call = Call {
        name: Path::new(called).file_name().unwrap_or_default(),
        args,
        variable: &variable,
    };
    grants::arguments(&manifest.grants, &call, &place.modules, |text| {
        place.expand(text)
    })
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

fn is_runtime_setting(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"DENO_")
        || NODE_SETTINGS
            .iter()
            .any(|setting| name == setting.as_bytes())
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
    fn settings_of_the_runtime_are_known() {
        assert!(is_runtime_setting(OsStr::new("DENO_V8_FLAGS")));
        assert!(is_runtime_setting(OsStr::new("NODE_EXTRA_CA_CERTS")));
        assert!(!is_runtime_setting(OsStr::new("NODE_NAME")));
        assert!(!is_runtime_setting(OsStr::new("FLANNELD_IFACE")));
    }
}
