use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use super::*;

/// The request of RFC 6455 section 1.2, with an extension.
const FIELDS: [(&str, &str); 8] = [
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Origin", "http://example.com"),
    ("Sec-WebSocket-Protocol", "chat, superchat"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
];

/// `FIELDS` with the value of `name` replaced.
fn with<'a>(name: &str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    FIELDS.iter().map(|field| if field.0 == name { (field.0, value) } else { *field }).collect()
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    FIELDS.iter().copied().filter(|field| field.0 != name).collect()
}

fn with_also<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut fields = FIELDS.to_vec();
    fields.push((name, value));
    fields
}

#[test]
fn the_key_of_section_1_3_gets_the_answer_of_section_1_3() {
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn the_request_of_section_1_2_is_accepted_with_all_that_it_offers() {
    let upgrade = accept("GET", true, &FIELDS).unwrap();
    assert_eq!(upgrade.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(upgrade.subprotocols, ["chat", "superchat"]);
    assert_eq!(upgrade.origin, Some("http://example.com"));
    let params = vec![("client_max_window_bits", None)];
    assert_eq!(upgrade.extensions, [Extension { name: "permessage-deflate", params }]);
}

#[test]
fn what_section_4_2_1_leaves_free_is_accepted() {
    let lists = [
        ("Upgrade", "WebSocket"),
        ("Upgrade", "h2c,\twebsocket"),
        ("Upgrade", " websocket "),
        ("Connection", "keep-alive, Upgrade"),
        ("Connection", "upgrade,keep-alive"),
        ("Sec-WebSocket-Version", " 13\t"),
        ("Sec-WebSocket-Protocol", ",chat,,superchat ,"),
        // The last character's low bits mean nothing.
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZR=="),
    ];
    for (name, value) in lists {
        assert!(accept("GET", true, &with(name, value)).is_ok(), "{name}: {value}");
    }
    for name in ["Origin", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"] {
        assert!(accept("GET", true, &without(name)).is_ok(), "without {name}");
    }
    let lower: Vec<_> = FIELDS.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
    let lower: Vec<_> = lower.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert!(accept("GET", true, &lower).is_ok(), "field names have no case");
}

#[test]
fn lists_in_several_fields_count_as_one() {
    let mut fields = with("Upgrade", "h2c");
    fields.extend([("upgrade", "websocket"), ("sec-websocket-protocol", "third")]);
    fields.push(("sec-websocket-extensions", "x-other"));
    let upgrade = accept("GET", true, &fields).unwrap();
    assert_eq!(upgrade.subprotocols, ["chat", "superchat", "third"]);
    assert_eq!(upgrade.extensions.len(), 2);
}

#[test]
fn each_fault_of_section_4_2_1_is_refused_with_its_field_and_status() {
    use HandshakeError::*;
    let key = "Sec-WebSocket-Key";
    let version = "Sec-WebSocket-Version";
    let protocol = "Sec-WebSocket-Protocol";
    type Row<'a> = (Vec<(&'a str, &'a str)>, HandshakeError, u16, &'a str);
    let table: &[Row<'_>] = &[
        (without("Host"), Missing { field: "Host" }, 400, "Host"),
        (with_also("host", "b"), Repeated { field: "Host" }, 400, "Host"),
        (without("Upgrade"), NoUpgrade, 426, "Upgrade"),
        (with("Upgrade", "websockets"), NoUpgrade, 426, "Upgrade"),
        (with("Upgrade", "websocket/13"), NoUpgrade, 426, "Upgrade"),
        (without("Connection"), NoConnectionUpgrade, 400, "Connection"),
        (with("Connection", "keep-alive"), NoConnectionUpgrade, 400, "Connection"),
        (without(key), Missing { field: key }, 400, key),
        (with_also(key, "dGhlIHNhbXBsZSBub25jZQ=="), Repeated { field: key }, 400, key),
        (with(key, ""), Key, 400, key),
        (with(key, "dGhlIHNhbXBsZSBub25jZQ"), Key, 400, key),
        (with(key, "dGhlIHNhbXBsZSBub25j"), Key, 400, key),
        (with(key, "dGhlIHNhbXBsZSBub25jZTE="), Key, 400, key),
        (with(key, "dGhlIHNhbXBsZSBub25jZTEy"), Key, 400, key),
        (with(key, "dGhlIHNhbXBsZSBub25jZTEyMzQ1Njc4OQ=="), Key, 400, key),
        (with(key, "dGhlIHNhbXBsZSBub25j*Q=="), Key, 400, key),
        (without(version), Missing { field: version }, 400, version),
        (with(version, "8"), Version, 426, version),
        (with(version, "13, 8"), Version, 426, version),
        (with(version, "013"), Version, 426, version),
        (with_also(version, "13"), Repeated { field: version }, 400, version),
        (with_also("Origin", "http://b"), Repeated { field: "Origin" }, 400, "Origin"),
        (with(protocol, "chat, chat"), Malformed { field: protocol }, 400, protocol),
        (with(protocol, "two words"), Malformed { field: protocol }, 400, protocol),
        (with(protocol, "a/b"), Malformed { field: protocol }, 400, protocol),
    ];
    for (fields, error, status, field) in table {
        assert_eq!(accept("GET", true, fields), Err(*error), "{fields:?}");
        assert_eq!((error.status(), error.field()), (*status, Some(*field)), "{error:?}");
        assert!(error.to_string().contains(field), "{error} names {field}");
    }
    assert_eq!(accept("POST", true, &FIELDS), Err(Method));
    assert_eq!(accept("get", true, &FIELDS), Err(Method), "methods have a case");
    assert_eq!(accept("GET", false, &FIELDS), Err(HttpVersion));
    assert_eq!((Method.status(), HttpVersion.status()), (405, 400));
}

#[test]
fn a_wrong_version_is_told_the_right_one() {
    // Section 4.4: the answer names the versions that are understood.
    assert!(HandshakeError::Version.response_fields().contains(&("Sec-WebSocket-Version", "13")));
    assert!(HandshakeError::NoUpgrade.response_fields().contains(&("Upgrade", "websocket")));
}

#[test]
fn extensions_are_read_by_the_grammar_of_section_9_1() {
    type Params = &'static [(&'static str, Option<&'static str>)];
    let table: &[(&str, &[(&str, Params)])] = &[
        ("", &[]),
        (" , ,", &[]),
        ("foo", &[("foo", &[])]),
        // The three equal ways of section 9.1, as one list.
        ("foo, bar; baz=2", &[("foo", &[]), ("bar", &[("baz", Some("2"))])]),
        ("bar;baz = 2 ;q", &[("bar", &[("baz", Some("2")), ("q", None)])]),
        (r#"bar; baz="2""#, &[("bar", &[("baz", Some("2"))])]),
        (r#"bar; baz="1\0",foo"#, &[("bar", &[("baz", Some("10"))]), ("foo", &[])]),
        ("a;b;b=1", &[("a", &[("b", None), ("b", Some("1"))])]),
    ];
    for (value, expected) in table {
        let extensions = parse_extensions(&[("Sec-WebSocket-Extensions", *value)]).unwrap();
        let read: Vec<_> = extensions
            .iter()
            .map(|extension| {
                let params = extension.params.iter().map(|(name, value)| (*name, value.as_deref()));
                (extension.name, params.collect::<Vec<_>>())
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(|(name, params)| (*name, params.to_vec())).collect();
        assert_eq!(read, expected, "{value}");
    }
}

#[test]
fn a_malformed_extension_is_refused() {
    let table = [
        ";",
        "foo;",
        "foo;;bar",
        "foo; =1",
        "foo; a=",
        "foo; a=b c",
        "foo bar",
        "foo=1",
        "foo; a=\"",
        "foo; a=\"b",
        "foo; a=\"b\\\"",
        "foo; a=\"b c\"",
        "foo; a=\"\"",
        "foo; a=\"b\"c",
        "foo; a=b/c",
        "\"foo\"",
        "fo\u{f6}",
        "foo; a=\"\u{f6}\"",
    ];
    for value in table {
        let error = accept("GET", true, &with("Sec-WebSocket-Extensions", value));
        assert_eq!(error, Err(HandshakeError::Malformed { field: "Sec-WebSocket-Extensions" }), "{value}");
    }
}

#[test]
fn offers_without_end_are_refused() {
    let name = |i: usize| format!("n{i}");
    let list = |count| (0..count).map(name).collect::<Vec<_>>();
    let protocols = list(OFFERS_MAX).join(",");
    assert_eq!(
        accept("GET", true, &with("Sec-WebSocket-Protocol", &protocols)).unwrap().subprotocols.len(),
        OFFERS_MAX
    );
    for (field, separator) in [
        ("Sec-WebSocket-Protocol", ","),
        ("Sec-WebSocket-Extensions", ","),
        ("Sec-WebSocket-Extensions", ";"),
    ] {
        let value = list(OFFERS_MAX + 2).join(separator);
        assert_eq!(accept("GET", true, &with(field, &value)), Err(HandshakeError::TooMany { field }));
    }
}

#[test]
fn the_clients_order_chooses_the_subprotocol() {
    let supported = ["stentor.v1", "superchat", "chat"];
    assert_eq!(choose_subprotocol(&["chat", "superchat"], &supported), Some("chat"));
    assert_eq!(choose_subprotocol(&["other", "stentor.v1"], &supported), Some("stentor.v1"));
    assert_eq!(choose_subprotocol(&["Chat"], &supported), None, "subprotocols have a case");
    assert_eq!(choose_subprotocol(&[], &supported), None);
}

#[test]
fn the_answer_is_the_head_of_section_1_2() {
    let upgrade = accept("GET", true, &FIELDS).unwrap();
    let mut out = Vec::new();
    write_response(&mut out, &upgrade, None, None, []);
    let bare = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    assert_eq!(core::str::from_utf8(&out).unwrap(), format!("{bare}\r\n"));

    out.clear();
    let params = deflate::negotiate(&upgrade.extensions, &deflate::Policy::SHARED).unwrap();
    write_response(&mut out, &upgrade, Some("chat"), Some(&params), [("Stentor-Cursor", "k3-42")]);
    let full = format!(
        "{bare}Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate; \
         server_no_context_takeover; client_no_context_takeover\r\nStentor-Cursor: k3-42\r\n\r\n"
    );
    assert_eq!(core::str::from_utf8(&out).unwrap(), full);
}
