//! Packets of several flows from a string of bytes, which a fuzzer or a property test makes up.

use super::{TCP, UDP, fix, fix_checksums, is_v6, set_class, transport};

/// Bytes read one after the other; zero where there are no more.
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where packets come from and go to: the third byte of an IPv4 network, the second group of an IPv6 one.
#[derive(Clone, Copy)]
pub struct Nets {
    pub from: u8,
    /// A flow goes to one of these.
    pub to: [u8; 2],
}

/// Flows: bit 0 TCP or UDP, bit 1 IPv4 or IPv6, bit 2 the host, bit 3 the ports and the net.
const FLOWS: usize = 16;

/// The next packet of each flow goes on where the last one ended.
pub struct Generator {
    nets: Nets,
    sequences: [u32; FLOWS],
    ids: [u16; FLOWS],
    tag: u16,
}

impl Generator {
    pub fn new(nets: Nets) -> Self {
        Self {
            nets,
            sequences: [0; FLOWS],
            ids: [0; FLOWS],
            tag: 0,
        }
    }

    /// A packet of a flow with right checksums and `len` bytes of payload, which no other packet has.
    pub fn plain(&mut self, flow: u8, len: usize) -> Vec<u8> {
        let flow = usize::from(flow) % FLOWS;
        self.tag = self.tag.wrapping_add(1);
        let mut payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
        for (byte, tag) in payload.iter_mut().zip(self.tag.to_be_bytes()) {
            *byte = tag;
        }
        let protocol = if flow & 1 == 0 { TCP } else { UDP };
        let ports = [0x10, 0, 0x20, (flow >> 3) as u8];
        let body = if protocol == TCP {
            let body = [
                &ports[..],
                &self.sequences[flow].to_be_bytes(),
                &[0, 0, 0, 77, 0x80, 0x10, 0x20, 0, 0, 0, 0, 0],
                &[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8],
            ];
            self.sequences[flow] = self.sequences[flow].wrapping_add(len as u32);
            [body.concat(), payload].concat()
        } else {
            [&ports[..], &[0; 4], &payload].concat()
        };
        let host = 1 + (flow >> 2 & 1) as u8;
        let to = self.nets.to[flow >> 3];
        let mut packet = if flow & 2 != 0 {
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
            packet.extend([
                0xfd,
                0,
                0,
                self.nets.from,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                host,
            ]);
            packet.extend([0xfd, 0, 0, to, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            packet
        } else {
            let [high, low] = self.ids[flow].to_be_bytes();
            self.ids[flow] = self.ids[flow].wrapping_add(1);
            let mut packet = vec![0x45, 0, 0, 0, high, low, 0x40, 0, 64, protocol, 0, 0];
            packet.extend([10, 1, self.nets.from, host, 10, 1, to, 1]);
            packet
        };
        packet.extend(body);
        fix(&mut packet);
        packet
    }

    /// A packet of a flow, as it should be or with something odd about it.
    pub fn packet(&mut self, source: &mut Source) -> Vec<u8> {
        let (flow, kind, size) = (source.byte(), source.byte(), source.byte());
        let len = if size < 160 { 100 } else { usize::from(size) };
        let mut packet = self.plain(flow, len);
        self.oddity(kind & 0x1f, flow, &mut packet, source);
        packet
    }

    fn oddity(&mut self, kind: u8, flow: u8, packet: &mut Vec<u8>, source: &mut Source) {
        let l4 = if is_v6(packet) { 40 } else { 20 };
        match kind {
            0 => extend(packet, source.byte()),
            1 => fragment(packet, source.byte()),
            2 => {
                let at = if is_v6(packet) { 6 } else { 9 };
                packet[at] = source.byte();
                fix_checksums(packet);
            }
            // Any byte, as a wire or an attacker would change it, or with checksums that fit.
            3..=5 => {
                let at = usize::from(source.byte()) % packet.len();
                packet[at] = source.byte();
                if kind == 5 {
                    fix_checksums(packet);
                }
            }
            // Any header byte but the addresses, with checksums that fit.
            6 | 7 => {
                let mut at = usize::from(source.byte()) % (l4 + 32);
                if at >= l4 - 8 && at < l4 {
                    at = 1;
                }
                if at < packet.len() {
                    packet[at] = source.byte();
                    fix_checksums(packet);
                }
            }
            8 if !is_v6(packet) => packet[10] ^= source.byte(),
            9 => {
                if let Some(last) = packet.last_mut() {
                    *last ^= source.byte();
                }
            }
            10 => {
                set_class(packet, source.byte());
                fix_checksums(packet);
            }
            11 if packet[l4 - 8..].len() > 20 && transport(packet).is_some() => {
                let flags = source.byte();
                packet[l4 + 13] = flags;
                fix_checksums(packet);
            }
            // An empty segment, or less than a transport header.
            12 => {
                packet.truncate(l4 + usize::from(source.byte()) % 33);
                fix(packet);
            }
            13 => self.skip(flow, source.byte()),
            14 => {
                if let Some((UDP, l4)) = transport(packet) {
                    packet[l4 + 6..l4 + 8].fill(0);
                }
            }
            15 if !is_v6(packet) => {
                packet[6] &= !0x40;
                fix_checksums(packet);
            }
            // The last address of a subnet, as source or destination.
            16 => {
                let at = [l4 - 5, l4 - 1][usize::from(source.byte() & 1)];
                packet[at] = 0xff;
                fix_checksums(packet);
            }
            _ => {}
        }
    }

    /// Leaves a gap in a flow's sequence.
    fn skip(&mut self, flow: u8, by: u8) {
        let flow = usize::from(flow) % FLOWS;
        self.sequences[flow] = self.sequences[flow].wrapping_add(by.into());
        self.ids[flow] = self.ids[flow].wrapping_add(by.into());
    }
}

/// Puts IPv4 options or an IPv6 extension header before the transport header.
fn extend(packet: &mut Vec<u8>, kind: u8) {
    if is_v6(packet) {
        // Hop-by-hop, routing, destination options, authentication.
        let header = [0, 43, 60, 51][usize::from(kind & 3)];
        let next = packet[6];
        packet.splice(40..40, [next, 0, 1, 4, 0, 0, 0, 0]);
        packet[6] = header;
    } else {
        packet.splice(20..20, [1; 4]);
        packet[0] = 0x46;
    }
    fix(packet);
}

/// Makes a fragment of it, the first or a later one.
fn fragment(packet: &mut Vec<u8>, offset: u8) {
    let field = u16::from(offset) << 3 | 1;
    if is_v6(packet) {
        let ([high, low], next) = (field.to_be_bytes(), packet[6]);
        packet.splice(40..40, [next, 0, high, low, 0, 0, 0, 9]);
        packet[6] = 44;
    } else {
        let field = 0x2000 | u16::from(offset);
        packet[6..8].copy_from_slice(&field.to_be_bytes());
    }
    fix(packet);
}
