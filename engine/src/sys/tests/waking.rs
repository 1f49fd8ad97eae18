//! How a sleeping shard is woken, and what holds the sockets where io_uring is refused.

use super::*;

with_both! {
    a_sleeping_task_is_woken_by_a_publisher_and_by_a_socket
    tasks_that_always_find_something_ready_leave_others_and_timers_their_turn
    sockets_that_are_written_to_from_other_cores_never_hold_a_harvest
}

fn a_sleeping_task_is_woken_by_a_publisher_and_by_a_socket(backend: Backend) {
    let eventfd = Arc::new(EventFd::new().unwrap());
    let publisher = Arc::clone(&eventfd);
    let (server, mut client) = pair();
    let outside = std::thread::spawn(move || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            publisher.wake();
            std::thread::sleep(Duration::from_millis(5));
            client.write_all(b"x").unwrap();
        }
        client
    });
    let main = async move {
        let mut parked =
            ParkedSet::new(&eventfd, &ParkedOptions { backend, ..ParkedOptions::default() }).unwrap();
        let sleeper = parked.sleeper(&eventfd).unwrap();
        let socket = parked.add(server.into(), 1).unwrap();
        let (mut sleeps, mut bytes, mut events) = (0, 0, Vec::new());
        while bytes < 20 {
            while parked.harvest(16, &mut events) {}
            for event in events.drain(..) {
                match event.kind {
                    ParkedEventKind::Ready(_) => parked.receive(socket),
                    ParkedEventKind::Received(received) => {
                        bytes += parked.bytes(&received).len();
                        parked.release(received);
                    }
                    kind => panic!("{kind:?}"),
                }
            }
            eventfd.drain();
            if bytes < 20 && !parked.has_work() {
                let timeout = monoio::time::timeout(PATIENCE, sleeper.wait()).await;
                timeout.expect("a wake-up is lost").unwrap();
                sleeps += 1;
            }
        }
        sleeps
    };
    let sleeps = block_on(backend, main).unwrap();
    assert!((20..200).contains(&sleeps), "{sleeps} sleeps for 40 wake-ups");
    drop(outside.join().unwrap());
}

/// The kernel may mark a ring after its work was run: who runs it until the mark is gone never comes back.
fn sockets_that_are_written_to_from_other_cores_never_hold_a_harvest(backend: Backend) {
    const WRITES: usize = 40_000;
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut shard = Shard::new(backend);
        let (sockets, mut clients): (Vec<_>, Vec<_>) = (0..32).map(|token| shard.connect(token)).unzip();
        let others = clients.split_off(16);
        let writers = [clients, others].map(|mut clients| {
            std::thread::spawn(move || {
                for number in 0..WRITES {
                    let at = number % clients.len();
                    clients[at].write_all(b"x").unwrap();
                }
                clients
            })
        });
        let (mut events, mut is_receiving, mut bytes) = (Vec::new(), [false; 32], 0);
        while bytes < 2 * WRITES {
            shard.parked.harvest(64, &mut events);
            for ParkedEvent { token, kind } in events.drain(..) {
                let (socket, is_receiving) = (sockets[token as usize], &mut is_receiving[token as usize]);
                match kind {
                    ParkedEventKind::Ready(_) if *is_receiving => continue,
                    ParkedEventKind::Ready(_) => *is_receiving = true,
                    ParkedEventKind::Received(received) => {
                        bytes += shard.parked.bytes(&received).len();
                        shard.parked.release(received);
                    }
                    ParkedEventKind::Drained => {
                        *is_receiving = false;
                        continue;
                    }
                    kind => panic!("{kind:?}"),
                }
                shard.parked.receive(socket);
            }
        }
        done.send(writers.map(|writer| writer.join().unwrap())).unwrap();
    });
    drop(is_done.recv_timeout(6 * PATIENCE).expect("each harvest ends"));
}

/// What a shard does with much to do, and a connection whose peer always has more: they wait for what is
/// ready.
fn tasks_that_always_find_something_ready_leave_others_and_timers_their_turn(backend: Backend) {
    let main = async {
        let busy = EventFd::new().unwrap();
        busy.wake();
        let sleeper = busy.sleeper().unwrap();
        let is_over = std::rc::Rc::new(std::cell::Cell::new(false));
        for _ in 0..2 {
            let (server, client) = pair();
            let is_over = std::rc::Rc::clone(&is_over);
            monoio::spawn(async move {
                let mut stream = crate::sys::Stream::new(server.into());
                while !is_over.get() {
                    stream.writable().await.unwrap();
                }
                drop(client);
            });
        }
        let (server, mut client) = pair();
        let other = monoio::spawn(async move {
            let mut stream = crate::sys::Stream::new(server.into());
            monoio::time::sleep(Duration::from_millis(20)).await;
            stream.readable().await.unwrap();
        });
        client.write_all(b"x").unwrap();
        let flag = std::rc::Rc::clone(&is_over);
        monoio::spawn(async move {
            other.await;
            flag.set(true);
        });
        let begun = Instant::now();
        while !is_over.get() {
            sleeper.wait().await.unwrap();
            assert!(begun.elapsed() < PATIENCE, "the other task has no turn");
        }
    };
    block_on(backend, main).unwrap();
}

/// Refuses io_uring to this thread and those that it starts, as container runtimes do.
pub(crate) fn refuse_io_uring() {
    const LOAD_SYSCALL: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD_SYSCALL, 0, 0, 0),
        step(JUMP_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: takes no pointer.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel reads the program and its steps during the call.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

#[test]
fn where_io_uring_is_refused_epoll_takes_its_place() {
    let refused = std::thread::spawn(|| {
        refuse_io_uring();
        let (backend, reason) = Backend::available();
        assert_eq!(backend, Backend::Epoll);
        assert!(reason.unwrap().starts_with("io_uring is refused (EPERM)"));
        a_sleeping_task_is_woken_by_a_publisher_and_by_a_socket(backend);
    });
    refused.join().unwrap();
}
