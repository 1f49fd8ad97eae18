//! The opening handshake of a WebSocket (RFC 6455 §4.2) as this server answers it: which subprotocol, whether
//! compressed, and how a refusal is told over it.

use stentor_protocol::ws::deflate::{Params, Policy, negotiate};
use stentor_protocol::ws::{Side, handshake};

use super::http1::Incoming;
use crate::config::WebSocket;
use crate::cursor::Cursor;
use crate::error::{Problem, Refusable};
use crate::transport::websocket::SUBPROTOCOL;
use crate::transport::websocket::encode_close;
use crate::transport::{Format, Framing};

/// A handshake that is accepted, though its subscription may still be refused.
#[derive(Debug)]
pub(super) struct Handshake {
    accept_key: String,
    is_v1: bool,
    deflate: Option<Params>,
}

impl Handshake {
    /// Makes every check of RFC 6455 §4.2.1 on `incoming`.
    ///
    /// # Errors
    /// A 400, 405 or 426 that names the field.
    pub(super) fn accept(incoming: &Incoming, config: &WebSocket) -> Refusable<Self> {
        let headers = &incoming.request.headers;
        let fields: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let upgrade = handshake::accept(&incoming.request.method, !incoming.is_http10, &fields)?;
        let deflate = if config.deflate { negotiate(&upgrade.extensions, &Policy::SHARED) } else { None };
        let is_v1 = handshake::choose_subprotocol(&upgrade.subprotocols, &[SUBPROTOCOL]).is_some();
        Ok(Self { accept_key: upgrade.accept_key, is_v1, deflate })
    }

    /// Whether the client speaks `stentor.v1`.
    pub(super) fn is_v1(&self) -> bool {
        self.is_v1
    }

    pub(super) fn deflate(&self) -> Option<Params> {
        self.deflate
    }

    /// What its events look like, where `?format=` says this.
    ///
    /// # Errors
    /// A 400 where that contradicts the subprotocol.
    pub(super) fn format(&self, asked: Option<Format>) -> Refusable<Format> {
        match (self.is_v1, asked) {
            (true, Some(Format::Raw)) => {
                let detail = format!("format raw does not go with the subprotocol {SUBPROTOCOL}");
                Err(Box::new(Problem::parameter("format", detail)))
            }
            (true, _) => Ok(Format::Json),
            (false, asked) => Ok(asked.unwrap_or(Format::Raw)),
        }
    }

    pub(super) fn framing(&self) -> Framing {
        match &self.deflate {
            Some(params) => Framing::Deflate(params.window_bits(Side::Server)),
            None => Framing::Frames,
        }
    }

    /// Appends the 101, with the place where the subscription begins.
    pub(super) fn write_response(&self, cursor: Option<Cursor>, out: &mut Vec<u8>) {
        let cursor = cursor.map(|cursor| cursor.to_string());
        let fields = cursor.as_deref().map(|cursor| ("Stentor-Cursor", cursor));
        let upgrade = handshake::Upgrade {
            accept_key: self.accept_key.clone(),
            subprotocols: Vec::new(),
            extensions: Vec::new(),
            origin: None,
        };
        let subprotocol = self.is_v1.then_some(SUBPROTOCOL);
        handshake::write_response(out, &upgrade, subprotocol, self.deflate.as_ref(), fields);
    }

    /// Writes the 101 and the close frame that tells of `problem`.
    pub(super) fn write_refusal(&self, problem: &Problem, out: &mut Vec<u8>) {
        out.clear();
        self.write_response(None, out);
        encode_close(problem.close_code(), &problem.close_reason(), out);
    }
}
