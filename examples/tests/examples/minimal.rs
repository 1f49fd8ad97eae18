use crate::http::EventStream;
use crate::program::Program;

#[test]
fn each_line_of_input_reaches_the_subscribers_and_the_end_of_input_ends_them() {
    let (mut program, address) = Program::serve("minimal");
    let mut stream = EventStream::open(address, "topic=lines", &[]);
    let message = |data: &str| Some(("message".to_owned(), data.to_owned()));
    program.type_line("hello");
    assert_eq!(stream.next(), message("hello"));
    let cursor = program.line();
    program.type_line("añ€😀");
    assert_eq!(stream.next(), message("añ€😀"));
    program.line();

    // What it prints is the cursor of the event: who comes with it hears what followed.
    let mut later = EventStream::open(address, "topic=lines", &[&format!("Last-Event-ID: {cursor}")]);
    assert_eq!(later.next(), message("añ€😀"));

    assert!(program.end().success());
    assert_eq!((stream.next(), later.next()), (None, None));
}
