//! What the encoders write, the decoders read: every transport, format, framing and kind of data, cut at
//! every byte.

use std::sync::Arc;

use super::{EPOCH, cursor, encoding, event, gap, streams};
use crate::cursor::Cursor;
use crate::event::{Data, Event};
use crate::transport::decode::{DecodeError, Item, StreamDecoder, as_delivered};
use crate::transport::{
    Answer, Encoding, End, Ending, Format, Framing, StreamHead, Transport, encode_answer, encode_end,
    encode_event, encode_gap, encode_heartbeat, encode_not_modified, encode_place, encode_preamble,
    encode_start, stream_head,
};

fn text(text: &str) -> Data {
    Data::Text(text.into())
}

fn json(text: &str) -> Data {
    let Ok(event) = Event::json("a", text) else { panic!("{text} is no JSON text") };
    event.data().clone()
}

/// Data of every kind that a format or framing could trip over.
fn data() -> Vec<Data> {
    let texts = [
        "",
        " ",
        "a",
        " a ",
        "a\nb",
        "a\rb",
        "a\r\nb",
        "\n",
        "\r",
        "\r\n\r\n",
        "a\n\n",
        "é漢🎉\u{10ffff}",
        "\u{feff}a",
        "</script><!-- --> <script>e(1)</script>]]>&amp;",
        "\u{2028}\u{2029}\u{85}",
        "\0\u{1}\u{1f}\u{7f}",
        "\"\\/\\u0041",
        "data: x\n\nid: 9\nevent: stentor.gap",
        ":",
        "{\"cursor\":\"k3-1\"}",
        "0\r\n\r\n",
        "\\u003c",
    ];
    let jsons = [
        "1",
        " null ",
        "1e400",
        "12345678901234567890",
        "\"text\"",
        "\"\\ud800\"",
        "\"<\\u003c\\u2028\u{2028}>\"",
        "[]",
        "{\"a\":\r\n[1,\n2]}",
        "{\"__proto__\":1,\"__proto__\":{\"<\":\"\\\"\"}}",
        "{\"a\":1,\"a\":2}",
        "{\"\\\\<\":\"é\"}",
        "{\"gap\":1,\"cursor\":\"k3-1\"}",
        "\n[\r]\n",
    ];
    let mut all: Vec<Data> = texts.into_iter().map(text).chain(jsons.into_iter().map(json)).collect();
    all.push(Data::Binary([].into()));
    all.push(Data::Binary((0..=255).collect()));
    all.push(Data::Binary(b"text"[..].into()));
    all
}

fn decoder(encoding: &Encoding) -> StreamDecoder {
    StreamDecoder::new(encoding.transport, encoding.format, encoding.framing)
}

fn read_with(mut decoder: StreamDecoder, parts: &[&[u8]]) -> Result<Vec<Item>, DecodeError> {
    let mut items = Vec::new();
    for part in parts {
        decoder.decode(part, &mut items)?;
    }
    Ok(items)
}

fn read(encoding: &Encoding, parts: &[&[u8]]) -> Result<Vec<Item>, DecodeError> {
    read_with(decoder(encoding), parts)
}

fn delivered(encoding: &Encoding, event: &Event) -> Vec<Item> {
    let id = Cursor { epoch: EPOCH, offset: event.offset() };
    as_delivered(encoding.transport, encoding.format, encoding.framing, id, event)
}

#[test]
fn every_event_comes_back_from_every_stream() {
    for encoding in streams() {
        for data in data() {
            for name in [None, Some("name"), Some("é \" </script>\u{2028}"), Some("message")] {
                let event = event(u64::MAX, "a/<b>\\\"\u{2028}", name, data.clone());
                let mut bytes = Vec::new();
                encode_event(&encoding, EPOCH, &event, &mut bytes);
                let items = read(&encoding, &[&bytes]);
                assert_eq!(items, Ok(delivered(&encoding, &event)), "{encoding:?} {event:?}");
            }
        }
    }
}

#[test]
fn an_envelope_delivers_text_and_bytes_unchanged() {
    for encoding in streams() {
        for data in data() {
            let is_exact = match &data {
                Data::Text(_) => {
                    encoding.format == Format::Json || encoding.transport == Transport::WebSocket
                }
                Data::Binary(_) => {
                    encoding.format == Format::Json || encoding.transport == Transport::WebSocket
                }
                Data::Json(_) => encoding.format == Format::Raw && encoding.transport == Transport::WebSocket,
            };
            let event = event(7, "a", None, data);
            let items = delivered(&encoding, &event);
            if is_exact {
                let [Item::Event { data, is_binary, .. }] = &items[..] else { panic!("{items:?}") };
                assert_eq!(data, event.data().bytes(), "{encoding:?}");
                assert_eq!(*is_binary, matches!(event.data(), Data::Binary(_)));
            }
        }
    }
}

#[test]
fn a_mebibyte_of_every_kind_comes_back_from_every_transport() {
    let mebibyte = 1 << 20;
    let noise = |seed: u32| {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
    };
    for data in [
        text(&"line é\r\n".repeat(mebibyte / 9)),
        json(&format!("[{}0]", "\"</script>\",\r\n".repeat(mebibyte / 14))),
        Data::Binary(noise(1).take(mebibyte).collect()),
    ] {
        let event = Arc::new(event(7, "a", Some("n"), data));
        for encoding in streams() {
            let mut bytes = Vec::new();
            encode_event(&encoding, EPOCH, &event, &mut bytes);
            let parts: Vec<&[u8]> = bytes.chunks(65_521).collect();
            assert!(read(&encoding, &parts) == Ok(delivered(&encoding, &event)), "{encoding:?}");
        }
        for format in [Format::Json, Format::Raw] {
            let encoding = encoding(Transport::Poll, format, Framing::Length);
            let mut bytes = Vec::new();
            encode_answer(&encoding, &answer(std::slice::from_ref(&event)), &mut bytes);
            let parts: Vec<&[u8]> = bytes.chunks(65_521).collect();
            let items = read(&encoding, &parts).unwrap();
            assert!(items[1..2] == delivered(&encoding, &event), "{encoding:?}");
        }
    }
}

fn answer(events: &[Arc<Event>]) -> Answer<'_> {
    Answer {
        gap: None,
        events,
        epoch: EPOCH,
        cursor: cursor(9),
        has_more: false,
        is_keep_alive: true,
        is_http10: false,
        is_head: false,
        extra_head: "",
    }
}

/// What a stream of `encoding` says from start to end, and the items that it should give.
fn script(encoding: &Encoding) -> (Vec<u8>, Vec<Item>) {
    let long = "0123456789".repeat(20);
    let events = [
        event(4, "a", None, text("é\n")),
        event(5, "a/b", Some("n"), json("{\"a\":\r\n\"<\"}")),
        event(6, "a", None, text(&long)),
        event(7, "a", None, Data::Binary([0, 255].into())),
    ];
    let (mut bytes, mut items) = (Vec::new(), Vec::new());
    let carries_places =
        encoding.format == Format::Json || matches!(encoding.transport, Transport::Sse | Transport::Iframe);
    let place = |offset: u64| carries_places.then_some(Item::Cursor(cursor(offset)));
    let tells_life = matches!(encoding.transport, Transport::Sse | Transport::WebSocket);

    encode_start(encoding, cursor(3), 1_500, &mut bytes);
    if encoding.transport == Transport::Sse {
        items.push(Item::Retry(1_500));
    }
    items.extend(place(3));
    for event in &events {
        encode_event(encoding, EPOCH, event, &mut bytes);
        items.extend(delivered(encoding, event));
    }
    encode_heartbeat(encoding, &mut bytes);
    if tells_life {
        items.push(Item::Heartbeat);
    }
    encode_place(encoding, cursor(8), &mut bytes);
    items.extend(place(8));
    if encoding.transport == Transport::WebSocket {
        items.push(Item::Heartbeat);
    }
    encode_end(encoding, End::Drain, &mut bytes);
    match (encoding.transport, encoding.framing) {
        (Transport::WebSocket, _) => {
            items.push(Item::End { code: Some(1001), reason: "the server goes away".into() });
        }
        (_, Framing::Chunked) => items.push(Item::End { code: None, reason: String::new() }),
        _ => {}
    }
    (bytes, items)
}

#[test]
fn a_whole_stream_cut_at_any_byte_reads_the_same() {
    for encoding in streams() {
        let (bytes, items) = script(&encoding);
        assert_eq!(read(&encoding, &[&bytes]).as_ref(), Ok(&items), "{encoding:?}");
        for cut in 0..=bytes.len() {
            let parts = [&bytes[..cut], &bytes[cut..]];
            assert_eq!(read(&encoding, &parts).as_ref(), Ok(&items), "{encoding:?} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&encoding, &single).as_ref(), Ok(&items), "{encoding:?} a byte at a time");
    }
}

#[test]
fn a_stream_with_its_head_cut_at_any_byte_reads_the_same() {
    for encoding in streams().iter().filter(|encoding| encoding.transport != Transport::WebSocket) {
        let mut bytes = Vec::new();
        let extra_head = "Date: x\r\n";
        let head = StreamHead { cursor: None, target: Default::default(), is_head: false, extra_head };
        stream_head(encoding, &head, &mut bytes);
        let (script, mut items) = script(encoding);
        bytes.extend_from_slice(&script);
        // The head says how the body is framed: what the decoder was told before does not matter.
        let new = || StreamDecoder::with_head(encoding.transport, encoding.format, Framing::Chunked);
        let whole = read_with(new(), &[&bytes]).unwrap();
        let Item::Head { status: 200, headers } = &whole[0] else { panic!("{whole:?}") };
        assert!(headers.contains(&("date".into(), "x".into())));
        items.insert(0, whole[0].clone());
        assert_eq!(whole, items, "{encoding:?}");
        for cut in 0..=bytes.len() {
            assert_eq!(
                read_with(new(), &[&bytes[..cut], &bytes[cut..]]).as_ref(),
                Ok(&items),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn a_gap_is_told_or_ends_the_stream_and_may_come_before_any_cursor() {
    for encoding in streams() {
        let mut bytes = Vec::new();
        encode_preamble(&encoding, 1_500, &mut bytes);
        let ending = encode_gap(&encoding, &gap(), &mut bytes);
        let mut decoder = decoder(&encoding);
        let mut items = Vec::new();
        decoder.decode(&bytes, &mut items).unwrap();
        items.retain(|item| *item != Item::Retry(1_500));
        match (encoding.transport, encoding.format) {
            (Transport::WebSocket, Format::Raw) => {
                assert_eq!(ending, Ending::Close);
                assert_eq!(items, [Item::End { code: Some(4410), reason: "k3-9".into() }]);
            }
            (Transport::Stream, Format::Raw) => {
                assert_eq!((ending, bytes.len()), (Ending::Close, 0));
                if encoding.framing == Framing::Chunked {
                    assert!(decoder.finish(&mut items).is_err(), "a cut is no clean end");
                }
            }
            _ => {
                assert_eq!(ending, Ending::None);
                let gap = gap();
                let told = Item::Gap { after: gap.after, resumed: gap.resumed, cursor: Some(gap.cursor) };
                assert_eq!(items, [told], "{encoding:?}");
            }
        }
    }
}

#[test]
fn answers_in_a_row_cut_at_any_byte_read_the_same() {
    for (transport, format) in [Transport::Poll, Transport::LongPoll]
        .into_iter()
        .flat_map(|transport| [(transport, Format::Json), (transport, Format::Raw)])
    {
        let encoding = encoding(transport, format, Framing::Length);
        let events: Vec<Arc<Event>> = data()
            .into_iter()
            .enumerate()
            .map(|(index, data)| Arc::new(event(index as u64 + 1, "a/b", Some("n\"<"), data)))
            .collect();
        let mut bytes = Vec::new();
        encode_answer(&encoding, &Answer { has_more: true, ..answer(&events) }, &mut bytes);
        encode_not_modified(&answer(&[]), &mut bytes);
        let last = bytes.len();
        encode_answer(&encoding, &Answer { gap: Some(gap()), ..answer(&events[..1]) }, &mut bytes);

        let whole = read(&encoding, &[&bytes]).unwrap();
        let mut expected: Vec<Item> = events.iter().flat_map(|event| delivered(&encoding, event)).collect();
        expected.push(Item::Answer { cursor: cursor(9), has_more: true });
        expected.push(Item::Answer { cursor: cursor(9), has_more: false });
        expected.push(Item::Gap { after: cursor(3), resumed: cursor(9), cursor: None });
        expected.extend(delivered(&encoding, &events[0]));
        expected.push(Item::Answer { cursor: cursor(9), has_more: false });
        let mut without_heads = whole.clone();
        without_heads.retain(|item| !matches!(item, Item::Head { .. }));
        assert_eq!(without_heads, expected);
        let statuses: Vec<u16> = whole
            .iter()
            .filter_map(|item| match item {
                Item::Head { status, .. } => Some(*status),
                _ => None,
            })
            .collect();
        assert_eq!(statuses, [200, 304, 200]);
        for cut in (0..500).chain(last - 300..bytes.len()) {
            let parts = [&bytes[..cut], &bytes[cut..]];
            assert_eq!(read(&encoding, &parts).as_ref(), Ok(&whole), "cut at {cut}");
        }
    }
}

#[test]
fn a_connection_that_ends_in_the_middle_is_told_from_one_that_ends_cleanly() {
    for encoding in streams() {
        let (bytes, _) = script(&encoding);
        let ends_cleanly = |bytes: &[u8]| {
            let mut decoder = decoder(&encoding);
            let mut items = Vec::new();
            decoder.decode(bytes, &mut items).unwrap();
            let result = decoder.finish(&mut items);
            result.is_ok() && matches!(items.last(), Some(Item::End { .. }))
        };
        assert!(ends_cleanly(&bytes), "{encoding:?}");
        if encoding.framing != Framing::UntilClose {
            assert!(!ends_cleanly(&bytes[..bytes.len() - 1]), "{encoding:?}");
            assert!(!ends_cleanly(b""), "{encoding:?}");
        }
    }
    let encoding = encoding(Transport::Poll, Format::Json, Framing::Length);
    let mut bytes = Vec::new();
    encode_answer(&encoding, &answer(&[]), &mut bytes);
    let finish = |bytes: &[u8]| {
        let mut decoder = decoder(&encoding);
        decoder.decode(bytes, &mut Vec::new()).unwrap();
        decoder.finish(&mut Vec::new())
    };
    assert_eq!(finish(&bytes), Ok(()));
    assert!(finish(&bytes[..10]).is_err());
    assert!(finish(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn what_stentor_would_not_send_is_refused() {
    let chunked = |transport, format| encoding(transport, format, Framing::Chunked);
    let plain = |transport, format| encoding(transport, format, Framing::UntilClose);
    let frames = |format| encoding(Transport::WebSocket, format, Framing::Frames);
    for (encoding, bytes) in [
        (plain(Transport::Sse, Format::Raw), &b"data: without an id\n\n"[..]),
        (plain(Transport::Sse, Format::Raw), b"data: x\nid: 7\n\n"),
        (plain(Transport::Sse, Format::Json), b"data: x\nid: k3-7\n\n"),
        (
            plain(Transport::Sse, Format::Json),
            b"data: {\"id\":\"k3-8\",\"topic\":\"a\",\"data\":1}\nid: k3-7\n\n",
        ),
        (plain(Transport::Sse, Format::Raw), b"event: stentor.gap\ndata: {}\nid: k3-7\n\n"),
        (plain(Transport::Stream, Format::Json), b"text\n"),
        (plain(Transport::Stream, Format::Json), b"\n"),
        (plain(Transport::Stream, Format::Json), b"{\"cursor\":\"x\"}\n"),
        (plain(Transport::Stream, Format::Json), b"{\"topic\":\"a\",\"data\":1}\n"),
        (plain(Transport::Stream, Format::Json), b"{\"id\":\"k3-1\",\"topic\":\"a\"}\n"),
        (
            plain(Transport::Stream, Format::Json),
            b"{\"id\":\"k3-1\",\"topic\":\"a\",\"data\":1,\"base64\":\"\"}\n",
        ),
        (plain(Transport::Stream, Format::Json), b"{\"id\":\"k3-1\",\"topic\":\"a\",\"base64\":\"*\"}\n"),
        (plain(Transport::Iframe, Format::Json), b"<script>e(1)</script>\n"),
        (chunked(Transport::Stream, Format::Raw), b"1\r\nx\r\n"),
        (chunked(Transport::Stream, Format::Json), b"x\r\n"),
        (chunked(Transport::Stream, Format::Json), b"1\r\n{\r\n0\r\n\r\n"),
        (chunked(Transport::Sse, Format::Raw), b"0\r\n\r\nmore"),
        // A masked frame, a reserved opcode, a text that is not UTF-8, anything after a close frame.
        (frames(Format::Raw), b"\x81\x80\0\0\0\0"),
        (frames(Format::Raw), b"\x83\0"),
        (frames(Format::Raw), b"\x81\x01\xff"),
        (frames(Format::Raw), b"\x88\x02\x03\xe8\x81\0"),
        (frames(Format::Json), b"\x81\x01x"),
    ] {
        let shown = String::from_utf8_lossy(bytes);
        assert!(read(&encoding, &[bytes]).is_err(), "{encoding:?} {shown:?}");
    }
    let poll = encoding(Transport::Poll, Format::Json, Framing::Length);
    for body in
        ["", "[]", "{}", "{\"cursor\":\"k3-1\"}", "{\"events\":[]}", "{\"cursor\":\"k3-1\",\"events\":[1]}"]
    {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert!(read(&poll, &[bytes.as_bytes()]).is_err(), "{body:?}");
    }
}
