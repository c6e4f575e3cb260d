//! Who holds what the agent's device needs: a UDP port, a VXLAN network identifier.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde::Serialize;

use crate::actual::ActualLink;
use crate::links::{ActualVxlan, VxlanLink};
use crate::report::EntryError;

/// Names the holder and the remedy in `errors`, those about a VXLAN device, where `links` or the
/// processes tell.
pub fn explain(errors: &mut [EntryError], wanted: &VxlanLink, links: &[ActualLink]) {
    for error in errors {
        let message = match error.errno {
            libc::EEXIST => vni_in_use(wanted, links),
            libc::EADDRINUSE => Some(port_in_use(wanted, links)),
            _ => None,
        };
        if let Some(message) = message {
            error.message = message;
        }
    }
}

fn vni_in_use(wanted: &VxlanLink, links: &[ActualLink]) -> Option<String> {
    let (vni, port) = (wanted.vni, wanted.port);
    let holder = others(wanted, links).find(|(_, other)| other.vni == vni && other.port == port)?;
    Some(format!(
        "VNI {vni} on UDP port {port} is in use by {} (VXLAN): remove that device or set Backend.VNI",
        holder.0.name
    ))
}

fn port_in_use(wanted: &VxlanLink, links: &[ActualLink]) -> String {
    let port = wanted.port;
    match others(wanted, links).find(|(link, other)| other.port == port && link.up()) {
        Some((link, _)) => format!(
            "UDP port {port} is in use by {} (VXLAN): remove that device or set Backend.Port",
            link.name
        ),
        None => udp_port_in_use(port),
    }
}

fn others<'a>(
    wanted: &'a VxlanLink,
    links: &'a [ActualLink],
) -> impl Iterator<Item = (&'a ActualLink, &'a ActualVxlan)> {
    links
        .iter()
        .filter(|link| link.name != wanted.name)
        .filter_map(|link| Some((link, link.details.vxlan()?)))
}

/// The line for a UDP port that another socket holds, with the process where there is one to see.
pub fn udp_port_in_use(port: u16) -> String {
    match process_at(port) {
        Some(process) => {
            format!("UDP port {port} is in use by {process}: stop it or set Backend.Port")
        }
        None => format!(
            "UDP port {port} is in use by another program or a tunnel of the kernel: stop it (see \
             ss -ulnp) or set Backend.Port"
        ),
    }
}

/// A process.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Process {
    pub id: u32,
    pub name: String,
    /// Names of the TUN devices that it has open.
    pub tuns: Vec<String>,
}

/// Whether a UDP port is in use, and by whom.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct UdpPort {
    /// A socket of a process has it, or one of the kernel, as a tunnel's.
    pub bound: bool,
    /// None where the process is not to be seen, or there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// Who has this UDP port in this network namespace.
pub fn udp_port(port: u16) -> UdpPort {
    let sockets = udp_sockets(port);
    UdpPort {
        bound: !sockets.is_empty(),
        process: process_with(&sockets),
    }
}

/// The process with a UDP socket at this port: `NAME (process ID)`.
fn process_at(port: u16) -> Option<String> {
    let Process { id, name, .. } = process_with(&udp_sockets(port))?;
    Some(format!("{name} (process {id})"))
}

/// Inodes of the sockets at this port; 0 for those of the kernel.
fn udp_sockets(port: u16) -> Vec<u64> {
    ["udp", "udp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/self/net/{table}")).ok())
        .flat_map(|table| sockets_at(&table, port))
        .collect()
}

/// The first process that holds one of these sockets.
fn process_with(inodes: &[u64]) -> Option<Process> {
    let sockets: Vec<String> = inodes
        .iter()
        .filter(|inode| **inode != 0)
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok())
        .find(|id| holds(*id, &sockets))
        .map(|id| {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            Process {
                id,
                name: name.trim().to_string(),
                tuns: tuns_of(id),
            }
        })
}

/// Age from which a process is an agent, and not the launcher of one of this program's commands.
const SETTLED: Duration = Duration::from_secs(3);

/// Another agent of this network namespace, such as flannel's own: a process that is called
/// `flanneld`, belongs to root or to this process's user, and is not of this program. Other users
/// may call theirs what they like.
pub fn other_agent() -> Option<Process> {
    let own = fs::metadata("/proc/self/ns/net").ok()?.ino();
    let user = fs::metadata("/proc/self").ok()?.uid();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok())
        .find(|id| {
            let folder = format!("/proc/{id}");
            let read = |name: &str| fs::read(format!("{folder}/{name}")).unwrap_or_default();
            // Before the name: a child that is about to be another program has this one's until then.
            let arguments = read("cmdline");
            !arguments.is_empty()
                && read("comm") == b"flanneld\n"
                && age(&read("stat")).is_some_and(|age| age >= SETTLED)
                && fs::metadata(&folder).is_ok_and(|of| of.uid() == 0 || of.uid() == user)
                && fs::metadata(format!("{folder}/ns/net")).is_ok_and(|of| of.ino() == own)
                && !is_of_this_program(&arguments)
        })
        .map(|id| Process {
            id,
            name: "flanneld".to_string(),
            tuns: Vec::new(),
        })
}

/// How long a process has run, by its `/proc/ID/stat` (proc(5)).
fn age(stat: &[u8]) -> Option<Duration> {
    // The name in the second field may hold anything, and ends with the last parenthesis.
    let after = stat.rsplit(|byte| *byte == b')').next()?;
    let started: u64 = str::from_utf8(after)
        .ok()?
        .split(' ')
        .nth(20)?
        .parse()
        .ok()?;
    let up = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = up.split(' ').next()?.parse().ok()?;
    // SAFETY: no pointers; a constant of the system.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let started = Duration::from_secs_f64(started as f64 / ticks.max(1) as f64);
    Some(
        Duration::try_from_secs_f64(up)
            .ok()?
            .saturating_sub(started),
    )
}

/// By its arguments, which the launcher makes: the runtime's `run`, and what the program may do.
fn is_of_this_program(arguments: &[u8]) -> bool {
    let mut arguments = arguments.split(|byte| *byte == 0).skip(1);
    arguments.next() == Some(b"run") && arguments.any(|one| one.starts_with(b"--allow-"))
}

/// The inodes of the sockets at a port in the text of `/proc/net/udp`.
fn sockets_at(table: &str, port: u16) -> Vec<u64> {
    let end = format!(":{port:04X}");
    let sockets = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_there = fields.get(1)?.ends_with(&end);
        fields.get(9)?.parse().ok().filter(|_| is_there)
    });
    sockets.collect()
}

/// A descriptor of /dev/net/tun says which device it is of.
fn tuns_of(process: u32) -> Vec<String> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fdinfo")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = descriptors
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(|text| {
            Some(
                text.split_once("\niff:")?
                    .1
                    .lines()
                    .next()?
                    .trim()
                    .to_string(),
            )
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn holds(process: u32, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| {
            sockets
                .iter()
                .any(|socket| target.as_os_str() == socket.as_str())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_old_a_process_is() {
        let own = age(&fs::read("/proc/self/stat").unwrap()).unwrap();
        let init = age(&fs::read("/proc/1/stat").unwrap()).unwrap();
        assert!(own <= init && own < Duration::from_secs(3600));
        assert_eq!(age(b"1 (a) b) S"), None);
    }

    #[test]
    fn whose_agent_it_is() {
        assert!(is_of_this_program(
            b"./flanneld\0run\0--allow-net\0--allow-ffi=/x\0main.js\0"
        ));
        assert!(!is_of_this_program(
            b"/opt/bin/flanneld\0--kube-subnet-mgr\0"
        ));
        assert!(!is_of_this_program(b"flanneld\0"));
        assert!(!is_of_this_program(b""));
    }

    #[test]
    fn sockets_of_a_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                     uid  timeout inode ref pointer drops\n\
                     100: 00000000:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
                     0        0 1234 2 0000000000000000 0\n\
                     101: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
                     0        0 5678 2 0000000000000000 0\n";
        assert_eq!(sockets_at(table, 8285), [1234]);
        assert_eq!(sockets_at(table, 8472), [5678]);
        assert!(sockets_at(table, 53).is_empty());
    }
}
