//! A subscriber whose connection breaks again and again, in the middle of whatever, and that misses nothing.
//!
//! The lesson: keep the id of the last whole event and bring it when you come back. Nothing else is needed:
//! no acknowledgement, no state in the server.
//!
//! ```sh
//! cargo run --package stentor-examples --example resume
//! ```

use std::error::Error;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use stentor::{Engine, Event, Open, Publisher};
use stentor_protocol::sse::{Decoder, Item};

const EVENTS: usize = 500;
const EVENT_BYTES_MAX: usize = 1 << 20;
/// A server that is gone says nothing. One that is there sends a heartbeat every 25 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::builder().listen("127.0.0.1:0".parse()?).start(Open)?;
    let publisher = engine.publisher();
    let publishing = std::thread::spawn(move || publish(&publisher));

    let mut subscriber = Subscriber { address: engine.local_addrs()[0], cursor: None, heard: Vec::new() };
    let mut cuts = 0;
    while subscriber.heard.len() < EVENTS {
        // Cuts everywhere: within heads, within events, and between them.
        let bytes_max = 200 + cuts * 61 % 1_500;
        subscriber.listen(bytes_max)?;
        cuts += 1;
    }
    publishing.join().map_err(|_| "the publisher panicked")??;

    if subscriber.heard != (1..=EVENTS).collect::<Vec<_>>() {
        return Err(format!("not every event once and in order: {:?}", subscriber.heard).into());
    }
    println!("{EVENTS} events over {cuts} connections: none lost, none twice");
    Ok(())
}

/// Publishes 1, 2, 3 and so on, whether somebody listens or not.
fn publish(publisher: &Publisher) -> Result<(), String> {
    for number in 1..=EVENTS {
        let event = Event::text("numbers", number.to_string()).map_err(|error| error.to_string())?;
        publisher.publish(event).map_err(|error| error.to_string())?;
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

struct Subscriber {
    address: SocketAddr,
    /// All events up to here were heard.
    cursor: Option<String>,
    heard: Vec<usize>,
}

impl Subscriber {
    /// Subscribes, and hears what comes until `bytes_max` bytes were read. Then the connection is cut.
    fn listen(&mut self, bytes_max: u64) -> Result<(), Box<dyn Error>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        // HTTP/1.0, so that the stream comes without chunks.
        write!(stream, "GET /events?topic=numbers&transport=sse&cursor=earliest HTTP/1.0\r\n")?;
        // It counts for more than the parameter, which is for the first time.
        if let Some(cursor) = &self.cursor {
            write!(stream, "Last-Event-ID: {cursor}\r\n")?;
        }
        write!(stream, "\r\n")?;

        let mut answer = BufReader::new(stream.take(bytes_max));
        let mut line = String::new();
        answer.read_line(&mut line)?;
        if !line.contains(" 200 ") {
            return Err(format!("refused: {line}").into());
        }
        while line != "\r\n" && !line.is_empty() {
            line.clear();
            answer.read_line(&mut line)?;
        }
        self.hear(&mut answer)
    }

    fn hear(&mut self, body: &mut impl BufRead) -> Result<(), Box<dyn Error>> {
        // One decoder a connection: what it holds of an event that was cut off goes with it.
        let mut decoder = Decoder::new(EVENT_BYTES_MAX);
        while self.heard.len() < EVENTS {
            // Whatever broke it, the way back is the same.
            let Ok(bytes) = body.fill_buf() else { return Ok(()) };
            let count = bytes.len();
            if count == 0 {
                return Ok(());
            }
            let mut rest = bytes;
            while let Some(item) = decoder.decode(&mut rest)? {
                let Item::Event { name, data, id } = item else { continue };
                match name.as_str() {
                    // Events that the log no longer holds; a program of yours fetches a fresh state here.
                    "stentor.gap" => return Err(format!("a gap: {data}").into()),
                    // Only says where the stream begins.
                    "stentor.cursor" => {}
                    _ => self.heard.push(data.parse()?),
                }
                self.cursor = id.or(self.cursor.take());
            }
            body.consume(count);
        }
        Ok(())
    }
}
