use crate::http::{EventStream, ask};
use crate::program::Program;

#[test]
fn the_clock_ticks_once_a_second_and_serves_the_page_that_shows_it() {
    let (_program, address) = Program::serve("clock");
    let mut stream = EventStream::open(address, "topic=clock", &[]);
    let mut times = Vec::new();
    for _ in 0..3 {
        let (name, data) = stream.next().expect("a tick");
        assert_eq!(name, "tick");
        let ms = data.strip_prefix(r#"{"ms":"#).and_then(|rest| rest.strip_suffix('}'));
        times.push(ms.and_then(|ms| ms.parse::<u64>().ok()).unwrap_or_else(|| panic!("{data}")));
    }
    let seconds: Vec<u64> = times.iter().map(|ms| ms / 1_000).collect();
    assert!(seconds.is_sorted() && seconds[2] > seconds[0], "{times:?}");

    let (status, head, body) = ask(address, "GET /", &[], "");
    assert_eq!(status, 200, "{head}");
    assert!(head.contains("text/html") && body.contains("new EventSource"), "{head}");
    assert_eq!(ask(address, "GET /nothing", &[], "").0, 404);
}
