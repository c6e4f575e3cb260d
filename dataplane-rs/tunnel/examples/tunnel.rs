//! Runs one tunnel until its commands end, for trials and measurements between network namespaces:
//!
//! ```sh
//! tunnel --bind 192.0.2.1 --subnet 10.1.2.0/24 --peer 192.0.2.2:8285=10.1.3.0/24
//! ```
//!
//! Commands are lines on standard input, or of the FIFO that `--control` names: `peers
//! ENDPOINT=SUBNET[,SUBNET] …` and `peers-from FILE` replace the peers, `mtu BYTES` sets the MTU, `counters`
//! prints the counters.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
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

struct Arguments {
    config: TunnelConfig,
    peers: Vec<Peer>,
    commands: Box<dyn BufRead>,
}

fn parse_arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut config = TunnelConfig::new(IpAddr::from([0, 0, 0, 0]), 1472, Vec::new());
    config.bind_v4 = None;
    let mut peers = Vec::new();
    let mut commands: Box<dyn BufRead> = Box::new(io::stdin().lock());
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
            "--buffer" => config.receive_buffer = value.parse()?,
            "--subnet" => config.local_subnets.push(value.parse()?),
            // Opened to write, too, so that it does not end when a writer does.
            "--control" => {
                commands = Box::new(BufReader::new(
                    File::options().read(true).write(true).open(value)?,
                ))
            }
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
    Ok(Arguments {
        config,
        peers,
        commands,
    })
}

fn parse_peers<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Peer>, Box<dyn Error>> {
    texts.map(parse_peer).collect()
}

fn print_counters(tunnel: &Tunnel) {
    let counters = tunnel.counters();
    for peer in &counters.peers {
        println!(
            "peer {} sent={} received={} dropped={}",
            peer.endpoint, peer.sent.packets, peer.received.packets, peer.dropped
        );
    }
    print!(
        "counters sent={} received={}",
        counters.sent.packets, counters.received.packets
    );
    print!(
        " socket_sends={} socket_receives={}",
        counters.socket_sends, counters.socket_receives
    );
    print!(
        " tun_reads={} tun_writes={}",
        counters.tun_reads, counters.tun_writes
    );
    print!(" icmp_sent={}", counters.icmp_sent);
    for (reason, count) in &counters.drops {
        print!(" {}={count}", reason.label());
    }
    println!();
}

fn obey(tunnel: &Tunnel, line: &str) -> Result<(), Box<dyn Error>> {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("peers") => tunnel.set_peers(&parse_peers(words)?),
        Some("peers-from") => {
            let text = fs::read_to_string(words.next().unwrap_or_default())?;
            tunnel.set_peers(&parse_peers(text.split_whitespace())?);
        }
        Some("mtu") => tunnel.set_mtu(words.next().unwrap_or_default().parse()?)?,
        Some("counters") => print_counters(tunnel),
        _ => return Err(format!("{line}: no such command").into()),
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments {
        config,
        peers,
        commands,
    } = parse_arguments()?;
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
    for line in commands.lines() {
        match obey(&tunnel, &line?) {
            Ok(()) => println!("done"),
            Err(error) => println!("error {error}"),
        }
    }
    tunnel.close();
    events.join().map_err(|_| "the event thread panicked")?;
    Ok(())
}
