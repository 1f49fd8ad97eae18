//! The ghosts' TCP against the kernel's: each test in a network namespace of its own, with the kernel's
//! sockets on the other side.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use stentor_bench::ghost::{Impairments, News, Options, Pair, SERVER, Wires};
use stentor_bench::network;

const PORT: u16 = 7_000;
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Runs a test in a namespace of its own, where one may be had; says so where not.
fn in_namespace(test: impl FnOnce(Pair) + Send + 'static) {
    let outcome = std::thread::spawn(move || {
        if let Err(error) = network::enter(1_000) {
            println!("not run: no network namespace may be had here ({error})");
            return;
        }
        test(Pair::make().expect("a namespace of our own has room for a pair"));
    });
    outcome.join().expect("the test passes");
}

/// A server of the kernel's: `serve` gets each connection in turn. What it answers is sent back.
fn server<T: Send + 'static>(
    count: usize,
    mut serve: impl FnMut(TcpStream) -> T + Send + 'static,
) -> mpsc::Receiver<T> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("a free port");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..count {
            let (stream, _) = listener.accept().expect("a ghost connects");
            stream.set_read_timeout(Some(WAIT_MAX)).expect("a timeout");
            let _ = sender.send(serve(stream));
        }
    });
    receiver
}

fn wires(pair: &Pair, count: usize, impairments: Impairments) -> Wires {
    let options = Options { port: PORT, count, ring_bytes: 16 << 20, delayed_ack_ms: 0, impairments };
    Wires::new(pair, SERVER, &options).expect("packet rings")
}

/// Takes turns until `until` says so.
#[track_caller]
fn run(wires: &mut Wires, mut hear: impl FnMut(u32, News<'_>) -> Vec<u8>, mut until: impl FnMut() -> bool) {
    let started = Instant::now();
    while !until() {
        if wires.turn(&mut hear) == 0 {
            wires.wait();
        }
        assert!(started.elapsed() < WAIT_MAX, "what is waited for comes: {:?}", wires.counts());
    }
}

/// Text of which every part is told from every other.
fn text(bytes: usize) -> Vec<u8> {
    (0..).flat_map(|number: u32| format!("{number:07} ").into_bytes()).take(bytes).collect()
}

/// Opens a flow with `request`; answers what came until the end.
fn ask(wires: &mut Wires, flow: u32, request: &[u8]) -> (Vec<u8>, &'static str) {
    let (mut got, mut end) = (Vec::new(), "");
    let end_cell = std::cell::RefCell::new((&mut got, &mut end));
    wires.open(flow);
    run(
        wires,
        |_, news| {
            let (got, end) = &mut *end_cell.borrow_mut();
            match news {
                News::Open => return request.to_vec(),
                News::Bytes(bytes) => got.extend_from_slice(bytes),
                News::End(bytes) => {
                    got.extend_from_slice(bytes);
                    **end = "end";
                }
                News::Reset => **end = "reset",
            }
            Vec::new()
        },
        || !end_cell.borrow().1.is_empty(),
    );
    (got, end)
}

/// Reads a request of 8 bytes, answers with `answer`, and ends.
fn answer(mut stream: TcpStream, answer: &[u8]) -> [u8; 8] {
    let mut request = [0; 8];
    stream.read_exact(&mut request).expect("the request");
    stream.write_all(answer).expect("the ghost takes the answer");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let _ = stream.read(&mut [0; 8]);
    request
}

/// What the server says next; the flows go on meanwhile.
#[track_caller]
fn said<T>(wires: &mut Wires, served: &mpsc::Receiver<T>) -> T {
    let said = std::cell::Cell::new(None);
    run(
        wires,
        |flow, news| panic!("nothing more comes over {flow}: {news:?}"),
        || {
            let it = said.take().or_else(|| served.try_recv().ok());
            let is_there = it.is_some();
            said.set(it);
            is_there
        },
    );
    said.take().expect("it was just seen")
}

#[test]
fn a_request_is_answered_and_the_flow_ends_in_order_and_can_be_opened_again() {
    in_namespace(|pair| {
        let served = server(3, |stream| answer(stream, b"hello"));
        let mut wires = wires(&pair, 1, Impairments::default());
        for _ in 0..3 {
            assert_eq!(ask(&mut wires, 0, b"request!"), (b"hello".to_vec(), "end"));
            assert_eq!(said(&mut wires, &served), *b"request!");
        }
        assert_eq!(wires.counts().resent, 0, "nothing had to be sent again");
        assert_eq!(wires.drops(), (0, 0));
    });
}

#[test]
fn a_megabyte_comes_whole_through_loss_delay_and_reordering() {
    in_namespace(|pair| {
        let served = server(4, |stream| answer(stream, &text(250_000)));
        let impairments = Impairments { delay_ms: 2, loss: 0.03, reordered: 0.05 };
        let mut wires = wires(&pair, 4, impairments);
        for flow in 0..4 {
            let (got, end) = ask(&mut wires, flow, b"request!");
            assert_eq!(end, "end");
            assert!(got == text(250_000), "every byte, in order");
            assert_eq!(said(&mut wires, &served), *b"request!");
        }
        assert!(wires.lost() > 0, "packets were lost");
        assert!(wires.counts().beyond_hole > 0, "holes were met: {:?}", wires.counts());
    });
}

#[test]
fn a_port_where_nobody_listens_resets() {
    in_namespace(|pair| {
        let mut wires = wires(&pair, 1, Impairments::default());
        assert_eq!(ask(&mut wires, 0, b"request!"), (Vec::new(), "reset"));
    });
}

#[test]
fn the_kernel_sees_a_ghosts_fin_as_the_end_and_its_rst_as_a_reset() {
    in_namespace(|pair| {
        let served = server(2, |mut stream| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.kind())
        });
        let mut wires = wires(&pair, 2, Impairments::default());
        let opened = std::cell::Cell::new(0);
        let hear = |_: u32, news: News<'_>| {
            assert!(matches!(news, News::Open), "nothing else comes: {news:?}");
            opened.set(opened.get() + 1);
            b"request!".to_vec()
        };
        wires.open(0);
        run(&mut wires, hear, || opened.get() == 1);
        wires.finish(0);
        assert_eq!(said(&mut wires, &served), Ok(b"request!".to_vec()));
        wires.open(1);
        run(&mut wires, hear, || opened.get() == 2);
        wires.reset(1);
        assert_eq!(said(&mut wires, &served), Err(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_deaf_ghost_shuts_its_window_and_a_vanished_one_is_not_there() {
    in_namespace(|pair| {
        // Writes until nothing was taken for half a second.
        let served = server(2, |mut stream| {
            stream.read_exact(&mut [0; 8]).expect("the request");
            stream.set_nonblocking(true).expect("it is a socket");
            let (mut taken, mut last) = (0, Instant::now());
            while last.elapsed() < Duration::from_millis(500) && taken < 100_000_000 {
                match stream.write(&[b'x'; 65_536]) {
                    Ok(count) => {
                        taken += count;
                        last = Instant::now();
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
            taken
        });
        let mut wires = wires(&pair, 2, Impairments::default());
        for flow in 0..2 {
            let is_open = std::cell::Cell::new(false);
            let mut heard = 0;
            let mut hear = |_: u32, news: News<'_>| match news {
                News::Open => {
                    is_open.set(true);
                    b"request!".to_vec()
                }
                News::Bytes(bytes) => {
                    heard += bytes.len();
                    Vec::new()
                }
                other => panic!("nothing else comes: {other:?}"),
            };
            wires.open(flow);
            run(&mut wires, &mut hear, || is_open.get());
            if flow == 0 {
                wires.deafen(flow)
            } else {
                wires.vanish(flow)
            }
            let taken = std::cell::Cell::new(None);
            run(&mut wires, &mut hear, || {
                taken.set(taken.get().or(served.try_recv().ok()));
                taken.get().is_some()
            });
            assert!(taken.get() < Some(100_000_000), "the kernel takes no more than its buffers hold");
            assert!(heard < 65_536, "{heard} bytes came all the same");
        }
    });
}
