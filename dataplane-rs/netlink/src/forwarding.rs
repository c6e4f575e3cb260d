//! Whether the host forwards packets between interfaces, and making it so.

use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::values::DevName;

/// Where all settings of the network lie.
const ROOT: &str = "/proc/sys/net";

/// What should forward.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ForwardingQuery {
    /// Interfaces; those that are not there are left out.
    pub devs: Vec<DevName>,
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
            keep_router_advertisements();
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

/// A router takes no advertisements unless it is told to: without this the interfaces would lose the
/// default routes that they have from them.
fn keep_router_advertisements() {
    let Ok(folder) = fs::read_dir(format!("{ROOT}/ipv6/conf")) else {
        return;
    };
    for entry in folder.flatten() {
        let is_interface = entry.file_name() != "all" && entry.file_name() != "default";
        let setting = entry.path().join("accept_ra");
        let value = fs::read_to_string(&setting).unwrap_or_default();
        if is_interface && value.trim() == "1" {
            // Where it cannot be written, forwarding cannot either, which is reported.
            let _ = fs::write(&setting, "2");
        }
    }
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
    fn names_are_sysctls() {
        assert_eq!(
            sysctl_name("ipv4/conf/flannel.1/forwarding"),
            "net.ipv4.conf.flannel/1.forwarding"
        );
    }
}
