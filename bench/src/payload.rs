//! What the benchmarks publish: text that says which event of which topic it is and when it was published,
//! so that whoever gets it can judge it.

/// Hexadecimal digits of number (16), time (16) and topic (8).
pub const BYTES_MIN: usize = 40;

/// An event of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Number of the event in its topic, from 1 up.
    pub number: u64,
    /// Nanoseconds of the monotonic clock at which it was published.
    pub sent: u64,
    /// Number of the topic.
    pub topic: u32,
}

impl Payload {
    /// The text, `bytes` long: digits, then full stops. Nothing in it needs quoting anywhere.
    ///
    /// # Panics
    /// If `bytes` is below [`BYTES_MIN`].
    pub fn encode(self, bytes: usize) -> Vec<u8> {
        assert!(bytes >= BYTES_MIN, "a payload has at least {BYTES_MIN} bytes");
        let mut text = format!("{:016x}{:016x}{:08x}", self.number, self.sent, self.topic).into_bytes();
        text.resize(bytes, b'.');
        text
    }

    /// Reads it back; none if it is no payload of ours, whole.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let digits = text.get(..BYTES_MIN)?;
        let rest = &text[BYTES_MIN..];
        if rest.iter().any(|&byte| byte != b'.') {
            return None;
        }
        Some(Self {
            number: hexadecimal(&digits[..16])?,
            sent: hexadecimal(&digits[16..32])?,
            topic: hexadecimal(&digits[32..])? as u32,
        })
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let mut value = 0;
    let mut wrong = 0;
    for &digit in digits {
        let nibble = VALUES[usize::from(digit)];
        wrong |= nibble;
        value = value << 4 | u64::from(nibble & 15);
    }
    (wrong < 16).then_some(value)
}

/// Value of each digit; 16 or more for what is none. The payloads of millions of deliveries go through it.
const VALUES: [u8; 256] = {
    let mut values = [0x80; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_back_and_a_damaged_one_does_not() {
        let payload = Payload { number: 7, sent: 0x1234_5678_9abc, topic: 99 };
        let text = payload.encode(100);
        assert_eq!(text.len(), 100);
        assert_eq!(Payload::decode(&text), Some(payload));
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] = b'z';
            assert_eq!(Payload::decode(&damaged), None, "byte {at}");
        }
        assert_eq!(Payload::decode(&text[..39]), None);
    }
}
