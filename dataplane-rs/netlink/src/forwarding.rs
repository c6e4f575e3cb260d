//! Whether the host forwards packets between interfaces, and making it so.

use std::{collections::HashSet, fs, io};

use serde::{Deserialize, Serialize};

use crate::values::DevName;

/// Where all settings of the network lie.
const ROOT: &str = "/proc/sys/net";

/// What should forward.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ForwardingQuery {
    /// Interfaces; those that are not there are left out.
    pub devs: Vec<DevName>,
    /// The interface to the other hosts, whose routes by router advertisements are kept.
    #[serde(default)]
    pub uplink: Option<DevName>,
    pub ipv4: bool,
    pub ipv6: bool,
    /// Switch on what is off.
    pub enable: bool,
}

/// What was off, by the names that sysctl(8) takes.
#[derive(Serialize, Clone, PartialEq, Eq, Default, Debug)]
pub struct Forwarding {
    /// Off before, on now.
    pub enabled: Vec<String>,
    /// Off still.
    pub off: Vec<String>,
    /// Why switching one of them on failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Looks at the settings, and switches on what is off where the query says so.
///
/// IPv4 is forwarded by the setting of the interface that a packet comes in by. IPv6 is forwarded
/// only where all of the namespace does.
pub fn forwarding(query: &ForwardingQuery) -> Forwarding {
    let mut found = Forwarding::default();
    if query.ipv4 {
        for dev in &query.devs {
            found.take(&format!("ipv4/conf/{dev}/forwarding"), query.enable);
        }
    }
    let all = "ipv6/conf/all/forwarding";
    if query.ipv6 && is_off(all) {
        if query.enable {
            keep_router_advertisements(query);
        }
        found.take(all, query.enable);
    }
    found
}

impl Forwarding {
    fn take(&mut self, path: &str, enable: bool) {
        if !is_off(path) {
            return;
        }
        let name = sysctl_name(path);
        let done = enable.then(|| fs::write(format!("{ROOT}/{path}"), "1"));
        match done {
            Some(Ok(())) => self.enabled.push(name),
            Some(Err(error)) => {
                self.error = Some(reason(&error));
                self.off.push(name);
            }
            None => self.off.push(name),
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "/proc/sys is read-only here".into(),
        io::ErrorKind::PermissionDenied => "no permission to write /proc/sys".into(),
        _ => error.to_string(),
    }
}

/// A setting that is not there, of a device or a kernel without it, is not off.
fn is_off(path: &str) -> bool {
    fs::read_to_string(format!("{ROOT}/{path}")).is_ok_and(|text| text.trim() == "0")
}

/// A router takes no advertisements unless it is told to: without this the host would lose the routes
/// that it has from them.
///
/// That is for the uplink, and for interfaces by which such routes are there. From all others, such
/// as bridges and tunnels, an advertisement is a container's or a peer's, which has none to give.
fn keep_router_advertisements(query: &ForwardingQuery) {
    let Ok(folder) = fs::read_dir(format!("{ROOT}/ipv6/conf")) else {
        return;
    };
    let learned = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let learned = advertised(&learned);
    for entry in folder.flatten() {
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str() else {
            continue;
        };
        let is = |dev: &DevName| dev.to_string() == name;
        let kept = query.uplink.as_ref().is_some_and(is)
            || (learned.contains(name) && !query.devs.iter().any(is));
        let setting = entry.path().join("accept_ra");
        let value = fs::read_to_string(&setting).unwrap_or_default();
        if kept && value.trim() == "1" {
            // Where it cannot be written, forwarding cannot either, which is reported.
            let _ = fs::write(&setting, "2");
        }
    }
}

/// Interfaces of the routes that router advertisements made (`RTF_ADDRCONF`), from
/// `/proc/net/ipv6_route`.
fn advertised(routes: &str) -> HashSet<&str> {
    const RTF_ADDRCONF: u32 = 0x0004_0000;
    routes
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().rev();
            let name = words.next()?;
            let flags = u32::from_str_radix(words.next()?, 16).ok()?;
            (flags & RTF_ADDRCONF != 0).then_some(name)
        })
        .collect()
}

/// As sysctl(8) writes it: a dot in an interface's name becomes a slash.
fn sysctl_name(path: &str) -> String {
    let swapped: String = path
        .chars()
        .map(|c| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        })
        .collect();
    format!("net.{swapped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_by_advertisements_are_told_from_others() {
        let zero = "0".repeat(32);
        let line = |flags: &str, dev: &str| {
            format!("{zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 {flags} {dev:>8}\n")
        };
        let routes =
            line("00450003", "eth0") + &line("00000001", "cni0") + &line("00000003", "eth1");
        assert_eq!(advertised(&routes), HashSet::from(["eth0"]));
    }

    #[test]
    fn names_are_sysctls() {
        assert_eq!(
            sysctl_name("ipv4/conf/flannel.1/forwarding"),
            "net.ipv4.conf.flannel/1.forwarding"
        );
    }
}
