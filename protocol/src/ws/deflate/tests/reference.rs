//! An inflater written from RFC 1951 alone, which also says how far back a stream refers: what a window must
//! hold.

use alloc::vec::Vec;

use super::super::TAIL;

/// What a message's `payload` inflates to, and the largest distance in it. Panics on what is no deflate
/// stream.
pub(super) fn inflate(payload: &[u8]) -> (Vec<u8>, usize) {
    let mut input = payload.to_vec();
    input.extend_from_slice(&TAIL);
    let mut bits = Bits { input: &input, position: 0 };
    let (mut out, mut distance_max) = (Vec::new(), 0);
    while bits.position < input.len() * 8 {
        assert_eq!(bits.take(1), 0, "a compressor that is flushed writes no final block");
        match bits.take(2) {
            0 => bits.stored(&mut out),
            1 => {
                let lens: Vec<u8> = (0..288)
                    .map(|symbol| match symbol {
                        0..144 => 8,
                        144..256 => 9,
                        256..280 => 7,
                        _ => 8,
                    })
                    .collect();
                let distance = bits.block(&Code::new(&lens), &Code::new(&[5; 30]), &mut out);
                distance_max = distance_max.max(distance);
            }
            2 => {
                let (literals, distances) = bits.codes();
                distance_max = distance_max.max(bits.block(&literals, &distances, &mut out));
            }
            _ => panic!("a block of the reserved type"),
        }
    }
    (out, distance_max)
}

struct Bits<'a> {
    input: &'a [u8],
    position: usize,
}

/// A canonical Huffman code (section 3.2.2): for each length the first code word, and the symbols in order.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lens: &[u8]) -> Self {
        let mut counts = [0; 16];
        let mut symbols = Vec::new();
        for (len, count) in counts.iter_mut().enumerate().skip(1) {
            let before = symbols.len();
            symbols.extend((0..lens.len()).filter(|symbol| usize::from(lens[*symbol]) == len));
            *count = symbols.len() - before;
        }
        Self { counts, symbols }
    }
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        (0..count).fold(0, |value, i| {
            let bit = self.input[self.position / 8] >> (self.position % 8) & 1;
            self.position += 1;
            value | usize::from(bit) << i
        })
    }

    fn symbol(&mut self, code: &Code) -> usize {
        let (mut word, mut first, mut index) = (0, 0, 0);
        for count in &code.counts[1..] {
            word |= self.take(1);
            if word < first + count {
                return code.symbols[index + word - first];
            }
            index += count;
            first = (first + count) << 1;
            word <<= 1;
        }
        panic!("a code word that no symbol has")
    }

    fn stored(&mut self, out: &mut Vec<u8>) {
        self.position = self.position.next_multiple_of(8);
        let (len, complement) = (self.take(16), self.take(16));
        assert_eq!(len ^ complement, 0xFFFF);
        out.extend((0..len).map(|_| self.take(8) as u8));
    }

    /// The codes of a block with dynamic Huffman codes (section 3.2.7).
    fn codes(&mut self) -> (Code, Code) {
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let (literals, distances, count) = (self.take(5) + 257, self.take(5) + 1, self.take(4) + 4);
        let mut len_lens = [0; 19];
        for index in &ORDER[..count] {
            len_lens[*index] = self.take(3) as u8;
        }
        let len_code = Code::new(&len_lens);
        let mut lens: Vec<u8> = Vec::new();
        while lens.len() < literals + distances {
            let (len, times) = match self.symbol(&len_code) {
                16 => (lens[lens.len() - 1], 3 + self.take(2)),
                17 => (0, 3 + self.take(3)),
                18 => (0, 11 + self.take(7)),
                len => (len as u8, 1),
            };
            lens.extend(core::iter::repeat_n(len, times));
        }
        (Code::new(&lens[..literals]), Code::new(&lens[literals..]))
    }

    /// The symbols of a compressed block up to its end (section 3.2.5): the largest distance.
    fn block(&mut self, literals: &Code, distances: &Code, out: &mut Vec<u8>) -> usize {
        let mut distance_max = 0;
        loop {
            let len = match self.symbol(literals) {
                256 => return distance_max,
                literal @ 0..256 => {
                    out.push(literal as u8);
                    continue;
                }
                symbol @ 257..265 => symbol - 254,
                285 => 258,
                symbol => {
                    let extra = (symbol - 261) / 4;
                    3 + ((4 + (symbol - 261) % 4) << extra) + self.take(extra)
                }
            };
            let symbol = self.symbol(distances);
            let distance = if symbol < 4 {
                symbol + 1
            } else {
                let extra = symbol / 2 - 1;
                1 + ((2 + symbol % 2) << extra) + self.take(extra)
            };
            distance_max = distance_max.max(distance);
            for _ in 0..len {
                out.push(out[out.len() - distance]);
            }
        }
    }
}
