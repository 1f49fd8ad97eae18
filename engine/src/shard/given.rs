//! What the application gave a subscriber, which only some have: kept beside the slots, as small as it can
//! be, because a WebSocket keeps it as long as it lives.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::connection::OwnedRequest;
use crate::topic::Matcher;

/// What the application gave a subscriber. Shared by all who were given the same, where that shows.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// What its WebSocket may publish to.
    pub(super) publish: Vec<Matcher>,
    /// The embedder's.
    pub(super) data: Option<Arc<dyn Any + Send + Sync>>,
    /// What the application is asked with when it subscribes to more.
    pub(super) request: Option<Packed>,
}

impl Given {
    pub(super) fn is_nothing(&self) -> bool {
        self.publish.is_empty() && self.data.is_none() && self.request.is_none()
    }

    /// The same rights again, and nothing that is a subscriber's own.
    pub(super) fn clone_plain(&self) -> Self {
        Self { publish: self.publish.clone(), data: None, request: None }
    }

    /// Whether `other` may stand for it.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_plain = |given: &Self| given.data.is_none() && given.request.is_none();
        is_plain(self) && is_plain(other) && self.publish == other.publish
    }
}

/// A request in one piece of memory, which is a third of what it takes else: it waits, perhaps for ever, for
/// a command.
#[derive(Debug)]
pub(super) struct Packed {
    /// Method and path; then so many query parameters and so many header fields, each a name and a value.
    texts: Box<[u8]>,
    queries: u32,
    peer: SocketAddr,
}

impl Packed {
    pub(super) fn new(request: &OwnedRequest) -> Self {
        let mut texts = Vec::new();
        put(&mut texts, &request.method);
        put(&mut texts, &request.path);
        for (name, value) in request.query.iter().chain(&request.headers) {
            put(&mut texts, name);
            put(&mut texts, value);
        }
        Self { texts: texts.into(), queries: request.query.len() as u32, peer: request.peer }
    }

    pub(super) fn unpack(&self) -> OwnedRequest {
        let mut rest = &*self.texts;
        let mut request = OwnedRequest {
            method: take(&mut rest).unwrap_or_default().into(),
            path: take(&mut rest).unwrap_or_default(),
            query: Vec::new(),
            headers: Vec::new(),
            peer: self.peer,
        };
        while let (Some(name), Some(value)) = (take(&mut rest), take(&mut rest)) {
            let is_query = request.query.len() < self.queries as usize;
            let list = if is_query { &mut request.query } else { &mut request.headers };
            list.push((name, value));
        }
        request
    }
}

/// Appends a text after its length, of which each byte but the last has its highest bit set.
fn put(texts: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    while length >= 0x80 {
        texts.push(length as u8 | 0x80);
        length >>= 7;
    }
    texts.push(length as u8);
    texts.extend_from_slice(text.as_bytes());
}

fn take(rest: &mut &[u8]) -> Option<String> {
    let mut length = 0usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (&byte, further) = rest.split_first()?;
        *rest = further;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (text, further) = rest.split_at_checked(length)?;
    *rest = further;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_packed_request_is_unpacked_as_it_was() {
        let long = "v".repeat(70_000);
        let whole = OwnedRequest {
            method: "GET".into(),
            path: "/eveñts".into(),
            query: pairs(&[("topic", "a\n\0b"), ("", "")]),
            headers: pairs(&[
                ("Host", "x"),
                ("Cookie", &long),
                ("Origin", &"o".repeat(127)),
                ("B", &"o".repeat(128)),
            ]),
            peer: "[::1]:80".parse().unwrap(),
        };
        for (query, headers) in [(2, 4), (2, 0), (0, 4), (0, 0)] {
            let mut request = whole.clone();
            request.query.truncate(query);
            request.headers.truncate(headers);
            assert_eq!(Packed::new(&request).unpack(), request);
        }
    }

    #[test]
    fn a_request_of_a_browser_takes_little_more_than_its_text() {
        use crate::sys::counting::held_bytes;
        let headers: Vec<_> = (0..14).map(|n| (format!("Header-Name-{n}"), "x".repeat(40))).collect();
        let text: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let peer = "127.0.0.1:1".parse().unwrap();
        let (method, path) = ("GET".into(), String::from("/events"));
        let request = OwnedRequest { method, path, query: Vec::new(), headers, peer };
        let before = held_bytes();
        let packed = Packed::new(&request);
        let held = (held_bytes() - before) as usize;
        assert!(held <= text + 64, "{held} bytes for {text}");
        assert_eq!(packed.unpack(), request);
    }
}
