use crate::program::Program;

#[test]
fn a_subscriber_that_is_cut_off_again_and_again_misses_nothing() {
    let mut program = Program::start("resume", &[]);
    let line = program.line();
    assert!(line.starts_with("500 events over ") && line.ends_with("none lost, none twice"), "{line}");
    let connections: usize = line.split(' ').nth(3).and_then(|word| word.parse().ok()).unwrap();
    assert!(connections > 10, "it was cut off {connections} times only");
    assert!(program.end().success());
}
