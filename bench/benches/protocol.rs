//! The codecs, each beside a plain copy of the bytes that it reads or writes, in the same run:
//! `cargo bench -p stentor-bench --bench protocol`; one group alone: `-- 'ws '`.

mod beside;

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Duration;

use beside::beside;
use criterion::{Criterion, criterion_group, criterion_main};
use stentor_protocol::h1::chunked::{self, ChunkedDecoder};
use stentor_protocol::h1::{HeadLimits, query, request, response};
use stentor_protocol::ws::frame::{Opcode, encode_frame, encode_masked_frame};
use stentor_protocol::ws::message::{Limits, MessageDecoder};
use stentor_protocol::ws::{Side, deflate, mask};
use stentor_protocol::{iframe, ndjson, sse};

const CURL: &str = "GET /events?topic=prices/eurusd HTTP/1.1\r\nHost: localhost:8080\r\n\
    User-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";

/// What Chromium sends for an `EventSource` that comes back.
const EVENT_SOURCE: &str = "GET /events?topic=prices%2Feurusd&topic=news HTTP/1.1\r\n\
    Host: push.example.com\r\nConnection: keep-alive\r\nCache-Control: no-cache\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/event-stream\r\nsec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
    sec-ch-ua-mobile: ?0\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n\
    Referer: https://push.example.com/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\nLast-Event-ID: k3f9-184467\r\n\r\n";

const UPGRADE: &str = "GET /events?topic=prices%2Feurusd HTTP/1.1\r\nHost: push.example.com\r\n\
    Connection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\nUpgrade: websocket\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0\r\n\
    Origin: https://push.example.com\r\nSec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: stentor.v1\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 100 };

/// A plain copy of `bytes` into a buffer that is there already.
fn memcpy(bytes: &[u8]) -> (&'static str, impl FnMut() -> usize) {
    // Half a page between the two: at the same place in their pages, a load waits for a store that it does
    // not need.
    let mut source = Vec::with_capacity(bytes.len() + 2048);
    source.extend_from_slice(bytes);
    let mut out = Vec::with_capacity(source.len());
    let copy = move || {
        out.clear();
        out.extend_from_slice(black_box(&source));
        black_box(&out).len()
    };
    ("memcpy", copy)
}

/// Benches an encoder that appends to a buffer, beside a copy of what it appends.
fn encoder(criterion: &mut Criterion, name: &str, mut encode: impl FnMut(&mut Vec<u8>)) {
    let mut out = Vec::new();
    encode(&mut out);
    let written = out.clone();
    let subject = || {
        out.clear();
        encode(&mut out);
        black_box(&out).len()
    };
    beside(criterion, name, written.len(), memcpy(&written), subject);
}

/// JSON of `length` bytes, as a feed of prices has it.
fn json(length: usize) -> String {
    let row = "{\"pair\":\"EURUSD\",\"bid\":1.0712,\"ask\":1.0714,\"at\":1731000000},";
    let mut text = row.repeat(length / row.len() + 1);
    text.truncate(length - 2);
    format!("\"{}\"", text.replace('"', "'"))
}

fn heads(criterion: &mut Criterion) {
    for (name, text) in [("curl", CURL), ("EventSource", EVENT_SOURCE), ("upgrade", UPGRADE)] {
        let bytes = text.as_bytes();
        let decode = || request::decode_head(black_box(bytes), &LIMITS).expect("valid").expect("whole").1;
        beside(criterion, &format!("h1 request head of {name}"), bytes.len(), memcpy(bytes), decode);
        // What the strict framing costs beside the parser that it stands on.
        let parse = || {
            let mut slots = [const { MaybeUninit::uninit() }; 100];
            let mut request = httparse::Request::new(&mut []);
            request.parse_with_uninit_headers(black_box(bytes), &mut slots).expect("valid").unwrap()
        };
        let name = format!("h1 request head of {name}, strictness");
        beside(criterion, &name, bytes.len(), ("httparse", parse), decode);
    }
    let fields = [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-cache, no-transform"),
        ("X-Accel-Buffering", "no"),
        ("Vary", "Origin"),
        ("Transfer-Encoding", "chunked"),
    ];
    encoder(criterion, "h1 response head", |out| {
        response::write_head(out, response::Version::Http11, 200, black_box(fields)).expect("valid");
    });
}

fn chunks(criterion: &mut Criterion) {
    for length in [100, 16 * 1024] {
        let data = json(length);
        encoder(criterion, &format!("h1 chunk of {length} bytes"), |out| {
            chunked::encode_chunk(black_box(data.as_bytes()), out);
        });
        encoder(criterion, &format!("h1 chunk of {length} bytes, in place"), |out| {
            chunked::chunk_with(out, |out| out.extend_from_slice(black_box(data.as_bytes())));
        });
        let mut wire = Vec::new();
        (0..64).for_each(|_| chunked::encode_chunk(data.as_bytes(), &mut wire));
        wire.extend_from_slice(chunked::LAST_CHUNK);
        let mut out = Vec::with_capacity(wire.len());
        let decode = || {
            out.clear();
            ChunkedDecoder::new(u64::MAX).decode(black_box(&wire), &mut out).expect("valid")
        };
        let name = format!("h1 chunked body of 64 times {length} bytes");
        beside(criterion, &name, wire.len(), memcpy(&wire), decode);
    }
}

fn queries(criterion: &mut Criterion) {
    for (name, text) in [
        ("plain", "topic=prices/eurusd&cursor=k3f9-184467&transport=sse"),
        ("encoded", "topic=prices%2Feurusd&topic=caf%C3%A9+news&transport=long-poll&wait=25"),
    ] {
        let parse = || query::parse_query(black_box(text)).expect("valid").len();
        beside(criterion, &format!("h1 query, {name}"), text.len(), memcpy(text.as_bytes()), parse);
    }
}

fn text(criterion: &mut Criterion) {
    for length in [100, 16 * 1024] {
        let data = json(length);
        let event = sse::Event { name: Some("price"), data: &data, id: Some("k3f9-184467") };
        encoder(criterion, &format!("sse event of {length} bytes"), |out| {
            sse::encode(black_box(&event), out).expect("valid");
        });
        let mut wire = Vec::new();
        (0..64).for_each(|_| sse::encode(&event, &mut wire).expect("valid"));
        let name = format!("sse stream of 64 events of {length} bytes");
        beside(criterion, &name, wire.len(), memcpy(&wire), || {
            let (mut decoder, mut bytes, mut count) = (sse::Decoder::new(1 << 20), black_box(&*wire), 0);
            while decoder.decode(&mut bytes).expect("valid").is_some() {
                count += 1;
            }
            assert_eq!(count, 64);
        });
        encoder(criterion, &format!("iframe script of {length} bytes"), |out| {
            iframe::encode_script(black_box(&data), out);
        });
        encoder(criterion, &format!("ndjson line of {length} bytes"), |out| {
            ndjson::encode_text(black_box(&data), out);
        });
    }
}

fn frames(criterion: &mut Criterion) {
    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    for length in [100, 16 * 1024] {
        let data = json(length);
        encoder(criterion, &format!("ws frame of {length} bytes"), |out| {
            encode_frame(Opcode::Text, black_box(data.as_bytes()), out);
        });
        let mut payload = data.clone().into_bytes();
        let unmask = || mask::unmask(black_box(&mut payload), KEY, 0);
        beside(criterion, &format!("ws unmask {length} bytes"), length, memcpy(data.as_bytes()), unmask);
        let mut wire = Vec::new();
        encode_masked_frame(Opcode::Text, KEY, data.as_bytes(), &mut wire);
        let mut decoder = MessageDecoder::new(Side::Server, Limits::default(), None);
        let decode = || decoder.decode(black_box(&wire)).expect("valid").1.expect("whole");
        beside(criterion, &format!("ws message of {length} bytes"), wire.len(), memcpy(&wire), decode);
        let mut compressor = deflate::Compressor::with_window_bits(15, false, 1);
        let mut out = Vec::new();
        let compress = || {
            out.clear();
            compressor.compress(black_box(data.as_bytes()), &mut out);
            out.len()
        };
        beside(criterion, &format!("ws deflate {length} bytes"), length, memcpy(data.as_bytes()), compress);
    }
}

/// Short: the ratios need no more, and all of it shall be run often.
fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .without_plots()
}

criterion_group!(name = codecs; config = short(); targets = heads, chunks, queries, text, frames);
criterion_main!(codecs);
