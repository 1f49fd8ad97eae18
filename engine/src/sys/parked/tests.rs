//! Late completions, which no real socket brings about at will.

use super::*;

#[test]
fn a_completion_of_an_earlier_life_of_a_place_changes_nothing() {
    if let Err(reason) = crate::sys::probe() {
        return eprintln!("not tested: {reason}");
    }
    let eventfd = EventFd::new().unwrap();
    let mut rings = Rings::new(&eventfd, &ParkedOptions::default()).unwrap();
    let mut events = Vec::new();
    let mut keep = Vec::new();
    let mut socket = |rings: &mut Rings, token| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        keep.push(theirs);
        rings.add(ours.into(), token).unwrap()
    };
    let first = socket(&mut rings, 1);
    rings.close(first, Closing::Plain);
    while rings.harvest(64, &mut events) {}
    let second = socket(&mut rings, 2);
    assert_eq!(second, first);
    while rings.harvest(64, &mut events) {}
    let mut late = |rings: &mut Rings, what, generation, buffer, result, more| {
        let data = data(what, generation, 0, buffer);
        rings.handle(0, Completion { data, result, more }, &mut events);
        std::mem::take(&mut events).len()
    };
    let pollin = i32::from(libc::POLLIN);
    let buffers = rings.buffers.free();
    let buffer = rings.buffers.take().unwrap();
    for (what, result, more) in [
        (What::Poll, pollin, true),
        (What::Poll, pollin, false),
        (What::Poll, -libc::ECANCELED, false),
        (What::Rearm, -libc::EALREADY, false),
        (What::Drop, 0, false),
        (What::Receive, 5, false),
    ] {
        assert_eq!(late(&mut rings, what, 0, buffer.number(), result, more), 0, "{what:?}");
        assert!(rings.tables[0].places[0].is_armed && !rings.has_work(), "{what:?} {result}");
    }
    assert_eq!(rings.buffers.free(), buffers, "the buffer came back");
    assert_eq!(late(&mut rings, What::Poll, 1, 0, pollin, true), 1, "one of this life is reported");
    let pollout = i32::from(libc::POLLOUT);
    assert_eq!(late(&mut rings, What::Poll, 1, 0, pollout, true), 0, "room to send, unasked");
}
