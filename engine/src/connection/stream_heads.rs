//! Response heads that many streams begin with: those that depend on nothing but the encoding and the second.

use std::rc::Rc;

use crate::transport::{Encoding, Format, Framing, Transport};

/// The heads of one second.
#[derive(Debug, Default)]
pub(super) struct StreamHeads {
    /// Since 1970.
    second: u64,
    /// At most one an encoding, and there are few of those: transport, format and framing.
    heads: Vec<(Key, Rc<[u8]>)>,
}

type Key = (Transport, Format, Framing);

impl StreamHeads {
    /// The head of this second, if there was one already.
    pub(super) fn get(&self, second: u64, encoding: &Encoding) -> Option<Rc<[u8]>> {
        if self.second != second {
            return None;
        }
        let key = key_of(encoding);
        self.heads.iter().find(|(other, _)| *other == key).map(|(_, head)| Rc::clone(head))
    }

    /// Keeps a head for those that begin in the same second.
    pub(super) fn put(&mut self, second: u64, encoding: &Encoding, head: Rc<[u8]>) {
        if self.second != second {
            self.heads.clear();
            self.second = second;
        }
        self.heads.push((key_of(encoding), head));
    }
}

fn key_of(encoding: &Encoding) -> Key {
    (encoding.transport, encoding.format, encoding.framing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_shared_by_those_of_its_encoding_and_second() {
        let encoding =
            |framing| Encoding { transport: Transport::Sse, format: Format::Raw, framing, head: 0, limit: 1 };
        let (chunked, closing) = (encoding(Framing::Chunked), encoding(Framing::UntilClose));
        let mut heads = StreamHeads::default();
        heads.put(7, &chunked, b"a"[..].into());
        assert_eq!(heads.get(7, &chunked).as_deref(), Some(&b"a"[..]));
        assert_eq!(heads.get(7, &closing), None, "of another framing");
        heads.put(7, &closing, b"b"[..].into());
        assert_eq!(heads.get(7, &closing).as_deref(), Some(&b"b"[..]));
        assert_eq!(heads.get(8, &chunked), None, "of another second");
        heads.put(8, &chunked, b"c"[..].into());
        assert_eq!(heads.get(8, &chunked).as_deref(), Some(&b"c"[..]));
        assert_eq!(heads.get(8, &closing), None, "those of the second before are gone");
    }
}
