//! The codecs, each beside a plain copy of the bytes that it reads or writes, in the same run:
//! `cargo bench -p stentor-bench --bench protocol`; one group alone: `-- 'ws '`.

mod beside;

use std::hint::black_box;
use std::mem::MaybeUninit;

use beside::{beside, short};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stentor_protocol::h1::chunked::{self, ChunkedDecoder};
use stentor_protocol::h1::{HeadLimits, query, request, response};
use stentor_protocol::ws::frame::{FrameHead, Opcode, encode_frame, encode_frame_with, encode_masked_frame};
use stentor_protocol::ws::message::{Limits, MessageDecoder};
use stentor_protocol::ws::{Side, deflate, handshake, mask};
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

/// Items of a stream that is taken apart.
const ITEMS: usize = 64;

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 100 };

fn of(bytes: &[u8]) -> Throughput {
    Throughput::Bytes(bytes.len() as u64)
}

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
    beside(criterion, name, of(&written), memcpy(&written), subject);
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
        beside(criterion, &format!("h1 request head of {name}"), of(bytes), memcpy(bytes), decode);
        // What the strict framing costs beside the parser that it stands on.
        let parse = || {
            let mut slots = [const { MaybeUninit::uninit() }; 100];
            let mut request = httparse::Request::new(&mut []);
            request.parse_with_uninit_headers(black_box(bytes), &mut slots).expect("valid").unwrap()
        };
        let name = format!("h1 request head of {name}, strictness");
        beside(criterion, &name, of(bytes), ("httparse", parse), decode);
    }
    let fields = [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-cache, no-transform"),
        ("X-Accel-Buffering", "no"),
        ("Vary", "Origin"),
        ("Transfer-Encoding", "chunked"),
    ];
    let encode = |out: &mut Vec<u8>| {
        response::write_head(out, response::Version::Http11, 200, black_box(fields)).expect("valid");
    };
    encoder(criterion, "h1 response head, encode", encode);
    let mut wire = Vec::new();
    encode(&mut wire);
    let decode = || response::decode_head(black_box(&wire), &LIMITS, "GET").expect("valid").expect("whole").1;
    beside(criterion, "h1 response head, decode", of(&wire), memcpy(&wire), decode);
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
        beside(criterion, &name, of(&wire), memcpy(&wire), decode);
    }
}

fn queries(criterion: &mut Criterion) {
    for (name, text) in [
        ("plain", "topic=prices/eurusd&cursor=k3f9-184467&transport=sse"),
        ("encoded", "topic=prices%2Feurusd&topic=caf%C3%A9+news&transport=long-poll&wait=25"),
    ] {
        let parse = || query::parse_query(black_box(text)).expect("valid").len();
        beside(criterion, &format!("h1 query, {name}"), of(text.as_bytes()), memcpy(text.as_bytes()), parse);
    }
}

fn text(criterion: &mut Criterion) {
    for length in [100, 16 * 1024] {
        let data = json(length);
        let event = sse::Event { name: Some("price"), data: &data, id: Some("k3f9-184467") };
        encoder(criterion, &format!("sse event of {length} bytes"), |out| {
            sse::encode(black_box(&event), out).expect("valid");
        });
        encoder(criterion, &format!("iframe script of {length} bytes"), |out| {
            iframe::encode_script(black_box(&data), out);
        });
        encoder(criterion, &format!("ndjson line of {length} bytes"), |out| {
            ndjson::encode_text(black_box(&data), out);
        });
    }
}

/// Streams of 64 items, taken apart.
fn streams(criterion: &mut Criterion) {
    for length in [100, 16 * 1024] {
        let data = json(length);
        let stream = |encode: &dyn Fn(&mut Vec<u8>)| {
            let mut wire = Vec::new();
            (0..ITEMS).for_each(|_| encode(&mut wire));
            wire
        };
        let event = sse::Event { name: Some("price"), data: &data, id: Some("k3f9-184467") };
        let wire = stream(&|out| sse::encode(&event, out).expect("valid"));
        let name = format!("sse stream of {ITEMS} events of {length} bytes");
        beside(criterion, &name, of(&wire), memcpy(&wire), || {
            let (mut decoder, mut bytes) = (sse::Decoder::new(1 << 20), black_box(&*wire));
            items(|| decoder.decode(&mut bytes).expect("valid").is_some())
        });
        let wire = stream(&|out| iframe::encode_script(&data, out));
        let name = format!("iframe stream of {ITEMS} scripts of {length} bytes");
        beside(criterion, &name, of(&wire), memcpy(&wire), || {
            let (mut decoder, mut bytes) = (iframe::Decoder::new(1 << 20), black_box(&*wire));
            items(|| decoder.decode(&mut bytes).expect("valid").is_some())
        });
        let wire = stream(&|out| {
            ndjson::encode_text(&data, out);
            out.push(b'\n');
        });
        let name = format!("ndjson stream of {ITEMS} lines of {length} bytes");
        beside(criterion, &name, of(&wire), memcpy(&wire), || {
            let (mut decoder, mut bytes) = (ndjson::Decoder::new(1 << 20), black_box(&*wire));
            items(|| decoder.decode(&mut bytes).expect("valid").is_some())
        });
    }
}

fn items(mut has_next: impl FnMut() -> bool) {
    let count = std::iter::from_fn(|| has_next().then_some(())).count();
    assert_eq!(count, ITEMS);
}

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn frames(criterion: &mut Criterion) {
    for length in [100, 16 * 1024] {
        let data = json(length);
        let bytes = data.as_bytes();
        encoder(criterion, &format!("ws frame of {length} bytes"), |out| {
            encode_frame(Opcode::Text, black_box(bytes), out);
        });
        let framed = |out: &mut Vec<u8>| out.extend_from_slice(black_box(bytes));
        encoder(criterion, &format!("ws frame of {length} bytes, in place"), |out| {
            encode_frame_with(Opcode::Text, false, out, framed);
        });
        encoder(criterion, &format!("ws masked frame of {length} bytes"), |out| {
            encode_masked_frame(Opcode::Text, KEY, black_box(bytes), out);
        });
        let mut payload = bytes.to_vec();
        let unmask = || mask::unmask(black_box(&mut payload), KEY, 0);
        beside(criterion, &format!("ws unmask {length} bytes"), of(bytes), memcpy(bytes), unmask);
        let mut wire = Vec::new();
        encode_masked_frame(Opcode::Text, KEY, bytes, &mut wire);
        let head =
            || FrameHead::decode(black_box(&wire), Side::Client, false).expect("valid").expect("whole");
        let head_bytes = &wire[..head().1];
        let name = format!("ws frame head, decode, before {length} bytes");
        beside(criterion, &name, of(head_bytes), memcpy(head_bytes), head);
        let mut decoder = MessageDecoder::new(Side::Server, Limits::default(), None);
        let decode = || decoder.decode(black_box(&wire)).expect("valid").1.expect("whole");
        beside(criterion, &format!("ws message of {length} bytes"), of(&wire), memcpy(&wire), decode);
    }
}

/// permessage-deflate without context takeover, as the engine does it, at the level for speed.
fn deflated(criterion: &mut Criterion) {
    let params = deflate::Params {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: None,
        client_max_window_bits: None,
    };
    for length in [100, 16 * 1024] {
        let data = json(length);
        let bytes = data.as_bytes();
        let mut compressor = deflate::Compressor::new(&params, Side::Server, 1);
        let mut out = Vec::new();
        let compress = || {
            out.clear();
            compressor.compress(black_box(bytes), &mut out);
            out.len()
        };
        beside(criterion, &format!("ws deflate {length} bytes"), of(bytes), memcpy(bytes), compress);
        let compressed = out.clone();
        let mut decompressor = deflate::Decompressor::new(&params, Side::Server);
        let decompress = || {
            out.clear();
            decompressor.decompress(black_box(&compressed), &mut out, 1 << 20).expect("valid");
            decompressor.finish(&mut out, 1 << 20).expect("valid");
            assert_eq!(out.len(), length);
        };
        beside(criterion, &format!("ws inflate to {length} bytes"), of(bytes), memcpy(bytes), decompress);
    }
}

fn handshake(criterion: &mut Criterion) {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let accept_key = || handshake::accept_key(black_box(key));
    beside(criterion, "ws accept key", of(key.as_bytes()), memcpy(key.as_bytes()), accept_key);
    let head = UPGRADE.as_bytes();
    let (request, _) = request::decode_head(head, &LIMITS).expect("valid").expect("whole");
    let accept = || handshake::accept("GET", true, black_box(&request.fields)).expect("valid");
    let name = "ws handshake, checks of the request";
    beside(criterion, name, of(head), memcpy(head), accept);
    let upgrade = accept();
    encoder(criterion, "ws handshake, response head", |out| {
        handshake::write_response(out, black_box(&upgrade), Some("stentor.v1"), None, []);
    });
}

criterion_group!(
    name = codecs;
    config = short();
    targets = heads, chunks, queries, text, streams, frames, deflated, handshake
);
criterion_main!(codecs);
