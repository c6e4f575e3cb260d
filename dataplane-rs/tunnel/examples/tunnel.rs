//! Runs one tunnel until its standard input ends, for trials and measurements between network namespaces:
//!
//! ```sh
//! tunnel --bind 192.0.2.1 --subnet 10.1.2.0/24 --peer 192.0.2.2:8285=10.1.3.0/24
//! ```
//!
//! A line `peers ENDPOINT=SUBNET[,SUBNET] …` on standard input replaces the peers, `counters` prints them.

use std::error::Error;
use std::io::{self, BufRead};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tunnel::{Event, Peer, Tunnel, TunnelConfig};

fn parse_peer(text: &str) -> Result<Peer, Box<dyn Error>> {
    let (endpoint, subnets) = text
        .split_once('=')
        .ok_or_else(|| format!("{text}: not ENDPOINT=SUBNET"))?;
    let subnets = subnets
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(Peer {
        endpoint: endpoint.parse()?,
        subnets,
    })
}

fn parse_arguments() -> Result<(TunnelConfig, Vec<Peer>), Box<dyn Error>> {
    let mut config = TunnelConfig::new(IpAddr::from([0, 0, 0, 0]), 1472, Vec::new());
    config.bind_v4 = None;
    let mut peers = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("{flag}: no value"))?;
        match flag.as_str() {
            "--name" => config.name = value,
            "--mtu" => config.mtu = value.parse()?,
            "--port" => config.port = value.parse()?,
            "--queues" => config.queues = value.parse()?,
            "--spin" => config.spin = Duration::from_micros(value.parse()?),
            "--buffer" => config.socket_buffer = value.parse()?,
            "--subnet" => config.local_subnets.push(value.parse()?),
            "--peer" => peers.push(parse_peer(&value)?),
            "--bind" => match value.parse()? {
                IpAddr::V4(address) => config.bind_v4 = Some(address),
                IpAddr::V6(address) => config.bind_v6 = Some(address),
            },
            "--without" => match value.as_str() {
                "tun_tso" => config.offloads.tun_tso = false,
                "tun_uso" => config.offloads.tun_uso = false,
                "udp_gso" => config.offloads.udp_gso = false,
                "udp_gro" => config.offloads.udp_gro = false,
                _ => return Err(format!("--without {value}: no such offload").into()),
            },
            _ => return Err(format!("{flag}: no such flag").into()),
        }
    }
    Ok((config, peers))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (config, peers) = parse_arguments()?;
    let tunnel = Arc::new(Tunnel::start(&config)?);
    tunnel.set_peers(&peers);
    println!(
        "device {} index {}",
        tunnel.device_name(),
        tunnel.device_index()
    );
    let listener = tunnel.clone();
    let events = std::thread::spawn(move || {
        while let Some(event) = listener.next_event(Duration::MAX) {
            println!("event {event:?}");
            if event == Event::Closed {
                break;
            }
        }
    });
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        match words.next() {
            Some("peers") => {
                tunnel.set_peers(&words.map(parse_peer).collect::<Result<Vec<_>, _>>()?)
            }
            Some("mtu") => tunnel.set_mtu(words.next().unwrap_or_default().parse()?)?,
            Some("counters") => println!("{:?}", tunnel.counters()),
            _ => println!("commands: peers, mtu, counters"),
        }
    }
    tunnel.close();
    events.join().map_err(|_| "the event thread panicked")?;
    Ok(())
}
