//! A request as it is kept beyond its bytes: for the embedder, and for later commands of a WebSocket.

use std::borrow::Cow;
use std::net::SocketAddr;

use stentor_protocol::h1::RequestHead;

use crate::app::Request;
use crate::topic::Matcher;
use crate::transport::Transport;

/// The parts of a request head that [`crate::App`] sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnedRequest {
    pub(crate) method: Cow<'static, str>,
    /// Percent-decoded.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) peer: SocketAddr,
}

impl OwnedRequest {
    pub(crate) fn new(
        head: &RequestHead<'_>,
        path: &str,
        query: Vec<(String, String)>,
        peer: SocketAddr,
    ) -> Self {
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            method: owned_method(head.method),
            path: path.into(),
            query,
            headers: head.fields.iter().map(own).collect(),
            peer,
        }
    }

    /// As the embedder sees it where it subscribes to `matchers` over `transport`.
    pub(crate) fn subscribing<'a>(&'a self, matchers: &'a [Matcher], transport: Transport) -> Request<'a> {
        Request { matchers, transport: Some(transport), ..self.with_body(&[]) }
    }

    /// As the embedder sees it with this body.
    pub(crate) fn with_body<'a>(&'a self, body: &'a [u8]) -> Request<'a> {
        Request {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            peer: self.peer,
            matchers: &[],
            transport: None,
            body,
        }
    }

    /// The value of the first header field called `name`, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The values of all header fields called `name`, in any case.
    pub(crate) fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// The usual methods need no memory.
fn owned_method(method: &str) -> Cow<'static, str> {
    match method {
        "GET" => Cow::Borrowed("GET"),
        "POST" => Cow::Borrowed("POST"),
        other => Cow::Owned(other.to_owned()),
    }
}
