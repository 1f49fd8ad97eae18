//! A WebSocket echo server made of the codecs alone: what comes back is what was sent, text and binary,
//! compressed where the client offers permessage-deflate, and then with context takeover.
//!
//! The lesson: `stentor_protocol::ws` does no I/O. It takes bytes and gives messages, so that any runtime can
//! carry it; here it is monoio.
//!
//! ```sh
//! cargo run --package stentor-examples --example echo -- 127.0.0.1:9001
//! ```

use std::error::Error;
use std::io;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::time::{sleep, timeout};
use stentor_protocol::h1::request::{HeadLimits, decode_head};
use stentor_protocol::h1::{Version, response};
use stentor_protocol::ws::Side;
use stentor_protocol::ws::close::{CloseCode, ClosingHandshake};
use stentor_protocol::ws::deflate::{Compressor, Params, Policy, negotiate};
use stentor_protocol::ws::frame::{Opcode, encode_frame, encode_frame_with};
use stentor_protocol::ws::handshake;
use stentor_protocol::ws::message::{Incoming, Limits, MessageDecoder};

const MESSAGE_BYTES_MAX: usize = 16 << 20;
const HEAD_LIMITS: HeadLimits = HeadLimits { bytes: 16 << 10, fields: 100 };
/// What is read at once, and what may wait to be sent before more of the input is looked at.
const PIECE_BYTES: usize = 64 << 10;
/// Of zlib's levels, 1 to 9, one that is fast.
const LEVEL: u8 = 2;
/// How long the opening handshake may take.
const OPENING: Duration = Duration::from_secs(10);
/// How long the other side may take to end the connection once we have.
const CLOSING: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".into());
    // io_uring where the system allows it, epoll where not.
    let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new().enable_timer().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address)?;
        println!("ws://{}/", listener.local_addr()?);
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    monoio::spawn(async move {
                        if let Err(error) = serve(stream).await {
                            eprintln!("{peer}: {error}");
                        }
                    });
                }
                // Out of descriptors, or the client is gone already: the next one may do.
                Err(error) => {
                    eprintln!("accept: {error}");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    })
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let opened = timeout(OPENING, open(&mut stream)).await.unwrap_or(Ok(None))?;
    if let Some((deflate, input)) = opened {
        echo(&mut stream, deflate, input).await?;
    }
    end(&mut stream).await
}

/// Reads the request and answers it: what was agreed on and what came after the head, or `None` if the
/// request was refused.
async fn open(stream: &mut TcpStream) -> io::Result<Option<(Option<Params>, Vec<u8>)>> {
    let mut received = Vec::new();
    let mut output = Vec::new();
    let opened = loop {
        match accept(&received, &mut output) {
            Ok(Some((deflate, used))) => break Some((deflate, received.split_off(used))),
            Ok(None) => {}
            Err(()) => break None,
        }
        let (count, piece) = stream.read(Vec::with_capacity(HEAD_LIMITS.bytes)).await;
        if count? == 0 {
            return Ok(None);
        }
        received.extend_from_slice(&piece);
    };
    stream.write_all(output).await.0?;
    Ok(opened)
}

/// Appends the answer to the request head that `received` begins with. `Ok(None)`: it is not whole yet;
/// `Err`: the answer is a refusal.
fn accept(received: &[u8], output: &mut Vec<u8>) -> Result<Option<(Option<Params>, usize)>, ()> {
    let (head, used) = match decode_head(received, &HEAD_LIMITS) {
        Ok(Some(whole)) => whole,
        Ok(None) => return Ok(None),
        Err(error) => {
            refuse(error.status(), &error, &[], output);
            return Err(());
        }
    };
    match handshake::accept(head.method, head.version == Version::Http11, &head.fields) {
        Ok(upgrade) => {
            let deflate = negotiate(&upgrade.extensions, &Policy::TAKEOVER);
            handshake::write_response(output, &upgrade, None, deflate.as_ref(), []);
            Ok(Some((deflate, used)))
        }
        Err(error) => {
            refuse(error.status(), &error, error.response_fields(), output);
            Err(())
        }
    }
}

fn refuse(status: u16, reason: &dyn Error, fields: &[(&str, &str)], output: &mut Vec<u8>) {
    let body = format!("{reason}\n");
    let length = body.len().to_string();
    let own = [("Content-Type", "text/plain"), ("Content-Length", length.as_str()), ("Connection", "close")];
    response::write_status_line(output, Version::Http11, status);
    for (name, value) in own.iter().chain(fields) {
        // Nothing of the request stands in these, so that they are valid fields.
        let _ = response::write_field(output, name, value);
    }
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(body.as_bytes());
}

/// Returns when nothing more is to be said: after both close frames, or one of ours that answers a fault.
async fn echo(stream: &mut TcpStream, deflate: Option<Params>, mut input: Vec<u8>) -> io::Result<()> {
    let mut conversation = Conversation::new(deflate);
    let mut output = Vec::new();
    loop {
        let mut rest = input.as_slice();
        while !rest.is_empty() && !conversation.closing.has_begun() {
            rest = conversation.handle(rest, &mut output);
            // A few compressed bytes may be a long answer: it goes out before the next is made.
            if output.len() >= PIECE_BYTES || rest.is_empty() || conversation.closing.has_begun() {
                let (sent, buffer) = stream.write_all(output).await;
                sent?;
                output = buffer;
                output.clear();
            }
        }
        if conversation.closing.has_begun() {
            return Ok(());
        }
        input.clear();
        input.reserve(PIECE_BYTES);
        let (count, buffer) = stream.read(input).await;
        if count? == 0 {
            return Ok(());
        }
        input = buffer;
    }
}

/// The protocol of one connection: bytes in, bytes out.
struct Conversation {
    decoder: MessageDecoder,
    /// There if permessage-deflate was agreed on.
    compressor: Option<Compressor>,
    closing: ClosingHandshake,
}

impl Conversation {
    fn new(deflate: Option<Params>) -> Self {
        let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX };
        Self {
            decoder: MessageDecoder::new(Side::Server, limits, deflate),
            compressor: deflate.map(|params| Compressor::new(&params, Side::Server, LEVEL)),
            closing: ClosingHandshake::new(Side::Server),
        }
    }

    /// Reads up to the end of the next message and appends its answer: what is left of `input`.
    fn handle<'i>(&mut self, input: &'i [u8], output: &mut Vec<u8>) -> &'i [u8] {
        let used = match self.decoder.decode(input) {
            Ok((used, incoming)) => {
                if let Some(incoming) = incoming {
                    self.answer(incoming, output);
                }
                used
            }
            // The peer is told what it did wrong; whatever else it sends is not looked at.
            Err(error) => {
                self.close(Side::Server, error.close_code(), &error.to_string());
                input.len()
            }
        };
        if let Some(frame) = self.closing.poll_frame() {
            frame.encode(output);
        }
        input.get(used..).unwrap_or_default()
    }

    fn answer(&mut self, incoming: Incoming, output: &mut Vec<u8>) {
        match incoming {
            Incoming::Text(text) => self.send(Opcode::Text, text.as_bytes(), output),
            Incoming::Binary(bytes) => self.send(Opcode::Binary, &bytes, output),
            Incoming::Ping(payload) => encode_frame(Opcode::Pong, &payload, output),
            Incoming::Pong(_) => {}
            Incoming::Close(frame) => self.close(Side::Client, frame.code, ""),
        }
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8], output: &mut Vec<u8>) {
        match &mut self.compressor {
            Some(compressor) => {
                encode_frame_with(opcode, true, output, |out| compressor.compress(payload, out));
            }
            None => encode_frame(opcode, payload, output),
        }
    }

    fn close(&mut self, from: Side, code: CloseCode, reason: &str) {
        // The decoder lets no code pass that may not be sent, and reports one close frame at most.
        let _ = self.closing.handle_close_with_reason(from, code, reason);
    }
}

/// Ends the connection so that the peer reads our last bytes: to close while it still sends would reset it.
async fn end(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let rest_is_read = async {
        let mut buffer = Vec::with_capacity(PIECE_BYTES);
        loop {
            let (count, read) = stream.read(buffer).await;
            match count {
                Ok(0) | Err(_) => return,
                Ok(_) => buffer = read,
            }
        }
    };
    // Whoever goes on sending for longer than that may be reset.
    let _ = timeout(CLOSING, rest_is_read).await;
    Ok(())
}
