//! Questions about the host that change nothing, for checks of a node.

use netlink::{DevName, Flow, OverlapQuery, ethtool};
use serde::Deserialize;

use crate::answer::Answer;
use crate::probe::{self, Target};

/// `HostQuery` of `dataplane/host.ts`.
#[derive(Deserialize, Debug)]
#[serde(tag = "what", rename_all = "camelCase")]
pub enum HostQuery {
    /// Which addresses and routes of the host overlap networks.
    Overlaps(OverlapQuery),
    /// Which packets `rp_filter` drops.
    ReversePath { flows: Vec<Flow> },
    /// Who has a UDP port.
    UdpPort { port: u16 },
    /// Which agent of another program runs.
    OtherAgent,
    /// Which offloads a device has.
    Features { dev: DevName },
    /// Which hosts answer, and the largest packets that reach them.
    Probe { targets: Vec<Target> },
}

/// Answers a query in JSON.
pub fn carry_out(json: &[u8]) -> Result<Answer, String> {
    let query: HostQuery =
        serde_json::from_slice(json).map_err(|e| format!("the query is not understood: {e}"))?;
    match query {
        HostQuery::Overlaps(query) => {
            let found = netlink::overlaps(&query);
            Answer::ok(&found.map_err(|e| format!("cannot list addresses and routes: {e}"))?)
        }
        HostQuery::ReversePath { flows } => {
            let found = netlink::reverse_path(&flows);
            Answer::ok(&found.map_err(|e| format!("cannot look up routes: {e}"))?)
        }
        HostQuery::UdpPort { port } => Answer::ok(&netlink::udp_port(port)),
        HostQuery::OtherAgent => Answer::ok(&netlink::other_agent()),
        HostQuery::Features { dev } => {
            let features = ethtool::features(&dev);
            Answer::ok(&features.map_err(|e| format!("cannot read the offloads of {dev}: {e}"))?)
        }
        HostQuery::Probe { targets } => {
            let probed = probe::probe(&targets);
            Answer::ok(&probed.map_err(|e| format!("cannot send ICMP echo requests: {e}"))?)
        }
    }
}
