//! Publishes each line of standard input to whoever listens.
//!
//! The lesson: an engine, an address and a publisher are all that a program needs. The engine has its own
//! threads, so `main` is free to do what it likes.
//!
//! ```sh
//! cargo run --package stentor-examples --example minimal
//! curl -N 'http://127.0.0.1:8080/events?topic=lines&transport=sse'
//! ```

use std::error::Error;
use std::time::Duration;

use stentor::{Engine, Event, Open};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let engine = Engine::builder().listen(address.parse()?).start(Open)?;
    println!("http://{}/events?topic=lines", engine.local_addrs()[0]);
    let publisher = engine.publisher();
    for line in std::io::stdin().lines() {
        match publisher.publish(Event::text("lines", line?)?) {
            Ok(cursor) => println!("{cursor}"),
            // It says `Busy` where it would have to wait: `publish_wait` is for who would rather wait.
            Err(error) => eprintln!("not published: {error}"),
        }
    }
    // Tells the subscribers that it ends, instead of cutting them off.
    engine.drain(Duration::from_secs(5))?;
    Ok(())
}
