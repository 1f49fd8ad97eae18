//! Request smuggling: every vector here is one that some server or proxy read differently than another, so
//! each must be refused, or read as one request of the one length that the RFC gives it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::body::BodyDecoder;
use super::head::HeadLimits;
use super::request::decode_head;

const LIMITS: HeadLimits = HeadLimits { bytes: 8192, fields: 100 };

/// What a server that keeps the connection open makes of `bytes`: the targets of the requests in it, and the
/// status with which it stopped, if it did; what is left over is no whole request.
fn requests_in(mut bytes: &[u8]) -> (Vec<String>, Option<u16>) {
    let mut targets = Vec::new();
    loop {
        let (head, used) = match decode_head(bytes, &LIMITS) {
            Ok(Some(whole)) => whole,
            Ok(None) => return (targets, None),
            Err(fault) => return (targets, Some(fault.status())),
        };
        let mut body = match BodyDecoder::new(head.framing, 1024) {
            Ok(body) => body,
            Err(fault) => return (targets, Some(fault.status())),
        };
        bytes = &bytes[used..];
        match body.decode(bytes, &mut Vec::new()) {
            Ok(used) => bytes = &bytes[used..],
            Err(fault) => return (targets, Some(fault.status())),
        }
        if !body.is_done() {
            return (targets, None);
        }
        targets.push(head.target.into());
    }
}

/// A body that a reader by `Content-Length: 6` and a reader by chunks end at different places.
const CL_TE_BODY: &str = "0\r\n\r\nGGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_plain_pipeline_is_read_whole() {
    let pipeline = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
        POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n\
        GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
    let expected = ["/1", "/2", "/3"].map(String::from).to_vec();
    assert_eq!(requests_in(pipeline.as_bytes()), (expected, None));
}

#[test]
fn no_field_lines_leave_the_length_open() {
    let vectors: [(&[u8], u16); 49] = [
        // Both lengths, either first (RFC 9112 §6.3, §11.2).
        (b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", 400),
        (b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Content-Length: 6\r\nTransfer-Encoding: identity\r\n", 400),
        (b"Content-Length: 6\r\nTransfer-Encoding:\r\n", 400),
        // Several lengths (RFC 9110 §8.6).
        (b"Content-Length: 6\r\nContent-Length: 5\r\n", 400),
        (b"Content-Length: 6\r\nContent-Length: 6\r\n", 400),
        (b"Content-Length: 6\r\ncontent-length: 0\r\n", 400),
        (b"Content-Length: 6, 6\r\n", 400),
        (b"Content-Length: 6,5\r\n", 400),
        (b"Content-Length: 6,\r\n", 400),
        // Numbers that parsers read in more than one way.
        (b"Content-Length: +6\r\n", 400),
        (b"Content-Length: -6\r\n", 400),
        (b"Content-Length: 6 6\r\n", 400),
        (b"Content-Length: 6.0\r\n", 400),
        (b"Content-Length: 0x6\r\n", 400),
        (b"Content-Length: 6e0\r\n", 400),
        (b"Content-Length: 6_0\r\n", 400),
        (b"Content-Length: \"6\"\r\n", 400),
        (b"Content-Length: 6;\r\n", 400),
        (b"Content-Length: \xD9\xA6\r\n", 400),
        (b"Content-Length: \r\n", 400),
        (b"Content-Length: 18446744073709551622\r\n", 413),
        // Codings that one reader ignores and another does not (RFC 9112 §6.1).
        (b"Transfer-Encoding: xchunked\r\n", 400),
        (b"Transfer-Encoding: chunkedx\r\n", 400),
        (b"Transfer-Encoding: chunked, identity\r\n", 400),
        (b"Transfer-Encoding: identity, chunked\r\n", 501),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", 501),
        (b"Transfer-Encoding: \"chunked\"\r\n", 400),
        (b"Transfer-Encoding: 'chunked'\r\n", 400),
        (b"Transfer-Encoding: chunked;q=1\r\n", 400),
        (b"Transfer-Encoding: chun ked\r\n", 400),
        (b"Transfer-Encoding: ,chunked\r\n", 400),
        (b"Transfer-Encoding: \x0Bchunked\r\n", 400),
        (b"Transfer-Encoding: \x0Cchunked\r\n", 400),
        (b"Transfer-Encoding: chunked\0\r\n", 400),
        (b"Transfer-Encoding: \xC2\xA0chunked\r\n", 400),
        (b"Transfer-Encoding: \xFFchunked\r\n", 400),
        // Names and line ends that one reader repairs and another does not (RFC 9112 §2.2, §5.1, §5.2).
        (b"Transfer-Encoding : chunked\r\n", 400),
        (b"Transfer-Encoding\t: chunked\r\n", 400),
        (b" Transfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding\r\n : chunked\r\n", 400),
        (b"Transfer-Encoding:\r\n chunked\r\n", 400),
        (b"X: y\nTransfer-Encoding: chunked\r\n", 400),
        (b"X: y\rTransfer-Encoding: chunked\r\n", 400),
        (b"X\0: y\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: chunked\r\r\n", 400),
    ];
    for (lines, status) in vectors {
        let mut request = b"POST / HTTP/1.1\r\nHost: a\r\n".to_vec();
        request.extend_from_slice(lines);
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(CL_TE_BODY.as_bytes());
        assert_eq!(requests_in(&request), (Vec::new(), Some(status)), "{}", lines.escape_ascii());
    }
}

#[test]
fn no_request_line_is_split_in_two() {
    for line in [
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r",
        "GET /\r\n",
        "GET / \r\n",
        "GET  / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET\t/ HTTP/1.1\r\n",
        "GET /\tHTTP/1.1\r\n",
        "GET /a b HTTP/1.1\r\n",
        "GET / HTTP/1.1 HTTP/1.1\r\n",
        "GET /\u{a0}HTTP/1.1\r\n",
        "GET /\0 HTTP/1.1\r\n",
        "GET / HTTP/1.1\0\r\n",
        "GET / HTTP/+1.1\r\n",
        "GET / HTTP/1.1\r\r\n",
        " GET / HTTP/1.1\r\n",
        "GE\u{0}T / HTTP/1.1\r\n",
        "GET: / HTTP/1.1\r\n",
    ] {
        let request = format!("{line}Host: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(requests_in(request.as_bytes()), (Vec::new(), Some(400)), "{line:?}");
    }
}

#[test]
fn no_head_ends_early() {
    for lines in [
        "Host: a\r\n\nGET /smuggled HTTP/1.1\r\n",
        "Host: a\n\nGET /smuggled HTTP/1.1\r\n",
        "Host: a\n\r\nGET /smuggled HTTP/1.1\r\n",
        "Host: a\r\r\nGET /smuggled HTTP/1.1\r\n",
        "Host: a\r\n\rX: y\r\n",
        "Host: a\r\n X: y\r\n",
        "Host: a\r\nX\r\n",
        "Host: a\r\n: x\r\n",
        "Host: a\r\nX: y\u{0}\r\n",
    ] {
        let request = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(requests_in(request.as_bytes()), (Vec::new(), Some(400)), "{lines:?}");
    }
}

#[test]
fn no_request_is_for_two_hosts() {
    for (target, lines) in [
        ("/", "Host: a\r\nHost: b\r\n"),
        ("/", "Host: a\r\nhOST: a\r\n"),
        ("/", "Host: a, b\r\n"),
        ("/", "Host: a b\r\n"),
        ("/", "Host: a@b\r\n"),
        ("/", "Host: a#b\r\n"),
        ("/", "Host: a\\b\r\n"),
        ("/", "Host: a/b\r\n"),
        ("/", "Host : a\r\n"),
        ("/", " Host: a\r\n"),
        ("/", "X: y\r\n Host: a\r\n"),
        ("http://b/", "Host: a\r\n"),
        ("http://a@b/", "Host: a\r\n"),
        ("http://b@a/", "Host: a\r\n"),
        ("http://a:80/", "Host: a:81\r\n"),
        ("@b/", "Host: a\r\n"),
        ("b:80", "Host: a\r\n"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(requests_in(request.as_bytes()), (Vec::new(), Some(400)), "{target} {lines:?}");
    }
}

#[test]
fn no_chunk_ends_at_two_places() {
    for body in [
        // Line ends (bare LF after an extension is how several proxies were passed in 2025).
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rhello\r\n0\r\n\r\n",
        "5;a=\"\nx\"\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0;\n\r\n",
        // Sizes.
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        "5.0\r\nhello\r\n0\r\n\r\n",
        "5,5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        // One more or one less than the data.
        "4\r\nhello\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        // Trailers.
        "0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: y\r\r\n",
        "0\r\nX: \0\r\n\r\n",
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}\
             GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        assert_eq!(requests_in(request.as_bytes()), (Vec::new(), Some(400)), "{body:?}");
    }
}

#[test]
fn a_size_that_wraps_around_is_not_small() {
    for (size, status) in [("10000000000000005", 413), ("100000005", 413), ("fffffffffffffffff", 413)] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n"
        );
        assert_eq!(requests_in(request.as_bytes()), (Vec::new(), Some(status)), "{size}");
    }
}

#[test]
fn http_1_0_has_no_chunks() {
    let request = "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(requests_in(request.as_bytes()), (Vec::new(), Some(400)));
}

#[test]
fn a_trailer_changes_nothing() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        0\r\nContent-Length: 40\r\nTransfer-Encoding: x\r\nHost: b\r\n\r\n\
        GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(requests_in(request.as_bytes()), (["/", "/next"].map(String::from).to_vec(), None));
}
