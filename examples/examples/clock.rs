//! A clock in the browser: the time once a second, over Server-Sent Events, and the page that shows it.
//!
//! The lesson: an event may have a name, which a page listens to with `addEventListener`, and an [`App`]
//! serves its own pages beside the events.
//!
//! ```sh
//! cargo run --package stentor-examples --example clock
//! curl -N -H 'Accept: text/event-stream' 'http://127.0.0.1:8080/events?topic=clock'
//! ```

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stentor::{App, Engine, Event, Request, Response};

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Clock</title>
<h1 id="time">…</h1>
<script type="module">
const source = new EventSource("/events?topic=clock");
source.addEventListener("tick", ({ data }) => {
  document.getElementById("time").textContent = new Date(JSON.parse(data).ms).toLocaleTimeString();
});
</script>
</html>
"#;

struct Clock;

impl App for Clock {
    async fn request(&self, request: &Request<'_>) -> Option<Response> {
        (request.path == "/").then(|| Response::ok("text/html; charset=utf-8", PAGE))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let engine = Engine::builder().listen(address.parse()?).start(Clock)?;
    println!("http://{}/", engine.local_addrs()[0]);
    let publisher = engine.publisher();
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let tick = Event::json("clock", format!(r#"{{"ms":{}}}"#, now.as_millis()))?.named("tick")?;
        if let Err(error) = publisher.publish(tick) {
            eprintln!("no tick: {error}");
        }
        // Up to the next whole second, so that the ticks do not wander.
        std::thread::sleep(Duration::from_secs(1) - Duration::from_nanos(now.subsec_nanos().into()));
    }
}
