//! TCP segments in IPv4 packets (RFC 9293, section 3.1; RFC 791, section 3.1): written, and read.

use std::net::Ipv4Addr;

/// Flags of a segment.
pub(super) mod flag {
    pub(in super::super) const FIN: u8 = 1;
    pub(in super::super) const SYN: u8 = 2;
    pub(in super::super) const RST: u8 = 4;
    pub(in super::super) const PSH: u8 = 8;
    pub(in super::super) const ACK: u8 = 16;
}

/// One end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
}

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) from: End,
    pub(super) to: End,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// Timestamp and echo (RFC 7323, section 3).
    pub(super) times: Option<(u32, u32)>,
    pub(super) data: &'a [u8],
}

const IP: usize = 20;
/// Largest segment that a ghost takes (RFC 9293, section 3.7.1).
const MSS: u16 = 1_460;

impl Segment<'_> {
    /// Whether a flag is set.
    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Appends the packet to `out`; answers its length.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let mut options = [0; 20];
        let mut length = 0;
        let mut option = |bytes: &[u8]| {
            options[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
        };
        if self.is(flag::SYN) {
            option(&[2, 4, MSS.to_be_bytes()[0], MSS.to_be_bytes()[1]]);
        }
        if let Some((now, echo)) = self.times {
            option(&[1, 1, 8, 10]);
            option(&now.to_be_bytes());
            option(&echo.to_be_bytes());
        }
        let head = 20 + length;
        let total = IP + head + self.data.len();
        out.extend([0x45, 0]);
        out.extend((total as u16).to_be_bytes());
        // No identification, and not to be fragmented; 64 hops; TCP.
        out.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        out.extend(self.from.address.octets());
        out.extend(self.to.address.octets());
        out.extend(self.from.port.to_be_bytes());
        out.extend(self.to.port.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.acknowledged.to_be_bytes());
        out.extend([(head as u8 / 4) << 4, self.flags]);
        out.extend(self.window.to_be_bytes());
        out.extend([0; 4]);
        out.extend(&options[..length]);
        out.extend(self.data);
        let packet = &mut out[start..];
        let sum = checksum(&packet[..IP], 0);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let sum = tcp_checksum(packet);
        packet[IP + 16..IP + 18].copy_from_slice(&sum.to_be_bytes());
        total
    }
}

impl<'a> Segment<'a> {
    /// Reads a packet; none if it is not a whole, unfragmented TCP segment. Checksums are not looked at: on a
    /// pair of virtual devices the kernel leaves them out.
    pub(super) fn read(packet: &'a [u8]) -> Option<Self> {
        let head = usize::from(packet.first()? & 15) * 4;
        let total = usize::from(u16_at(packet, 2)?);
        if packet[0] >> 4 != 4 || *packet.get(9)? != 6 || u16_at(packet, 6)? & 0x3fff != 0 || head < IP {
            return None;
        }
        let segment = packet.get(head..total)?;
        let data = usize::from(segment.get(12)? >> 4) * 4;
        let options = segment.get(20..data)?;
        let end = |address: usize, port: usize| {
            Some(End { address: Ipv4Addr::from(u32_at(packet, address)?), port: u16_at(segment, port)? })
        };
        Some(Self {
            from: end(12, 0)?,
            to: end(16, 2)?,
            sequence: u32_at(segment, 4)?,
            acknowledged: u32_at(segment, 8)?,
            flags: segment[13],
            window: u16_at(segment, 14)?,
            times: times(options),
            data: &segment[data..],
        })
    }
}

/// The timestamps option.
fn times(options: &[u8]) -> Option<(u32, u32)> {
    let mut at = 0;
    loop {
        match *options.get(at)? {
            0 => return None,
            1 => at += 1,
            8 => return Some((u32_at(options, at + 2)?, u32_at(options, at + 6)?)),
            _ => at += usize::from(*options.get(at + 1)?).max(2),
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The internet checksum (RFC 1071) of `bytes`, after `sum`.
fn checksum(bytes: &[u8], mut sum: u32) -> u16 {
    let mut pairs = bytes.chunks_exact(2);
    for pair in &mut pairs {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        sum += u32::from(*last) << 8;
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of the segment in `packet`, whose own field must be 0 to make one; 0 if a whole packet's is
/// right.
fn tcp_checksum(packet: &[u8]) -> u16 {
    let mut sum = 6 + (packet.len() - IP) as u32;
    for pair in packet[12..IP].chunks_exact(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    checksum(&packet[IP..], sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(data: &[u8]) -> Segment<'_> {
        Segment {
            from: End { address: Ipv4Addr::new(10, 100, 0, 1), port: 1_024 },
            to: End { address: Ipv4Addr::new(10, 99, 0, 1), port: 65_001 },
            sequence: 0xffff_fff0,
            acknowledged: 7,
            flags: flag::ACK | flag::PSH,
            window: 65_535,
            times: Some((1, 2)),
            data,
        }
    }

    #[test]
    fn a_segment_comes_back_and_its_checksums_are_right() {
        for data in [&b""[..], b"odd", b"even"] {
            let mut packet = Vec::new();
            assert_eq!(segment(data).write(&mut packet), packet.len());
            assert_eq!(Segment::read(&packet), Some(segment(data)));
            assert_eq!(checksum(&packet[..IP], 0), 0, "of the IP head");
            assert_eq!(tcp_checksum(&packet), 0, "of the segment");
        }
    }

    #[test]
    fn what_is_cut_is_no_segment() {
        let mut packet = Vec::new();
        segment(b"data").write(&mut packet);
        for length in 0..packet.len() {
            assert_eq!(Segment::read(&packet[..length]), None, "{length} bytes");
        }
    }
}
