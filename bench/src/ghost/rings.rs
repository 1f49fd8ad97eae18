//! Packet rings (`AF_PACKET`, `PACKET_MMAP`) at the ghosts' end of the pair: whole frames in memory that the
//! kernel and this process share. Receiving is `TPACKET_V3`, which packs frames of any size into blocks;
//! sending is `TPACKET_V2` on a second socket, one frame a place.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::link::{GHOST_END, KERNEL_END, Pair};

/// Bytes of a block of the receive ring.
const BLOCK: usize = 1 << 18;
/// Milliseconds after which a block that is not full is handed over.
const BLOCK_MS: u32 = 1;
/// Places of the send ring, and the bytes of each: no ghost sends a large segment.
const PLACES: usize = 4_096;
const PLACE: usize = 512;
/// Frames that one system call sends.
const FLUSH: usize = 256;
/// Bytes before the frame in a place: `TPACKET2_HDRLEN` less the address that follows the header.
const PLACE_HEAD: usize = 32;
const ETHERNET: usize = 14;
/// Largest IP packet that fits a place.
pub(super) const PACKET_MAX: usize = PLACE - PLACE_HEAD - ETHERNET;

/// Both rings.
pub(super) struct Rings {
    receive: Map,
    blocks: usize,
    block: usize,
    /// Frames of the block in hand that are still to be read, and where the next one stands.
    left: u32,
    at: usize,
    send: Map,
    place: usize,
    queued: usize,
    /// Frames that found the send ring full, since the start.
    unsent: u64,
    dropped: u64,
    /// System calls.
    pub(super) calls: u64,
}

/// A socket and the memory that it shares with the kernel.
struct Map {
    socket: OwnedFd,
    memory: *mut u8,
    bytes: usize,
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `Map::new` with this length, and used by nobody else.
        unsafe { libc::munmap(self.memory.cast(), self.bytes) };
    }
}

impl Map {
    fn new<T>(version: libc::tpacket_versions, option: i32, request: &T, bytes: usize) -> io::Result<Self> {
        // SAFETY: a descriptor of our own; the kernel reads options of the sizes that it is given; the
        // mapping is new memory of `bytes`, which the ring of that size backs.
        unsafe {
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if socket < 0 {
                return Err(io::Error::last_os_error());
            }
            let socket = OwnedFd::from_raw_fd(socket);
            set(&socket, libc::PACKET_VERSION, &(version as i32))?;
            set(&socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
            if option == libc::PACKET_TX_RING {
                set(&socket, libc::PACKET_QDISC_BYPASS, &1_i32)?;
                // A frame that is malformed is passed over, not waited for.
                set(&socket, libc::PACKET_LOSS, &1_i32)?;
            }
            set(&socket, option, request)?;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let memory =
                libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, socket.as_raw_fd(), 0);
            if memory == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { socket, memory: memory.cast(), bytes })
        }
    }

    fn bind(&self, device: u32, protocol: u16) -> io::Result<()> {
        // SAFETY: all zeros are a valid address; the kernel reads no more than it.
        let result = unsafe {
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol.to_be();
            address.sll_ifindex = device as i32;
            let length = size_of_val(&address) as u32;
            libc::bind(self.socket.as_raw_fd(), (&raw const address).cast(), length)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// A word that the kernel and we hand places to each other with.
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= self.bytes && offset.is_multiple_of(4), "inside the ring");
        // SAFETY: inside the mapping, aligned, and only ever read and written as an atomic while it is
        // shared.
        unsafe { AtomicU32::from_ptr(self.memory.add(offset).cast()) }
    }

    fn read<T: Copy>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= self.bytes, "inside the ring");
        // SAFETY: inside the mapping; the fields read so are plain numbers, and the place is ours meanwhile.
        unsafe { self.memory.add(offset).cast::<T>().read_unaligned() }
    }

    fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset.checked_add(length).is_some_and(|end| end <= self.bytes), "inside the ring");
        // SAFETY: inside the mapping, and the kernel does not write to a place that it has handed over.
        unsafe { std::slice::from_raw_parts(self.memory.add(offset), length) }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.bytes, "inside the ring");
        // SAFETY: inside the mapping, of a place that is ours.
        unsafe { self.memory.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}

fn set<T>(socket: &OwnedFd, option: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as u32;
    // SAFETY: the kernel reads `length` bytes of the value.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Offsets in `tpacket_block_desc` (version 3) and in `tpacket3_hdr`, which `linux/if_packet.h` fixes.
const BLOCK_STATUS: usize = 8;
const BLOCK_FRAMES: usize = 12;
const BLOCK_FIRST: usize = 16;
const FRAME_NEXT: usize = 0;
const FRAME_CAPTURED: usize = 12;
const FRAME_MAC: usize = 24;
const FRAME_NET: usize = 26;

impl Rings {
    /// Rings on the ghosts' end of `pair`; the receive ring holds `bytes`, about 240 of them a small packet.
    ///
    /// # Errors
    /// The kernel's: no right to raw sockets, or no memory.
    pub(super) fn new(pair: &Pair, bytes: usize) -> io::Result<Self> {
        let blocks = bytes.div_ceil(BLOCK).max(2);
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: 2_048,
            tp_frame_nr: (BLOCK / 2_048 * blocks) as u32,
            tp_retire_blk_tov: BLOCK_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        let version = libc::tpacket_versions::TPACKET_V3;
        let receive = Map::new(version, libc::PACKET_RX_RING, &request, blocks * BLOCK)?;
        receive.bind(pair.ghosts, libc::ETH_P_IP as u16)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: (PLACES * PLACE / BLOCK) as u32,
            tp_frame_size: PLACE as u32,
            tp_frame_nr: PLACES as u32,
        };
        let version = libc::tpacket_versions::TPACKET_V2;
        let send = Map::new(version, libc::PACKET_TX_RING, &request, PLACES * PLACE)?;
        send.bind(pair.ghosts, 0)?;
        Ok(Self {
            receive,
            blocks,
            block: 0,
            left: 0,
            at: 0,
            send,
            place: 0,
            queued: 0,
            unsent: 0,
            dropped: 0,
            calls: 0,
        })
    }

    /// Hands over up to `max` IP packets; answers how many.
    pub(super) fn receive(&mut self, max: usize, mut take: impl FnMut(&[u8])) -> usize {
        for count in 0..max {
            let block = self.block * BLOCK;
            if self.left == 0 {
                if self.receive.word(block + BLOCK_STATUS).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0
                {
                    return count;
                }
                self.left = self.receive.read(block + BLOCK_FRAMES);
                self.at = block + self.receive.read::<u32>(block + BLOCK_FIRST) as usize;
            }
            if self.left > 0 {
                let frame = self.at;
                let next: u32 = self.receive.read(frame + FRAME_NEXT);
                let captured: u32 = self.receive.read(frame + FRAME_CAPTURED);
                let mac: u16 = self.receive.read(frame + FRAME_MAC);
                let net: u16 = self.receive.read(frame + FRAME_NET);
                let length = (captured as usize).saturating_sub(usize::from(net.saturating_sub(mac)));
                take(self.receive.bytes(frame + usize::from(net), length));
                self.at += next as usize;
                self.left -= 1;
            }
            if self.left == 0 {
                self.receive.word(block + BLOCK_STATUS).store(libc::TP_STATUS_KERNEL, Ordering::Release);
                self.block = (self.block + 1) % self.blocks;
            }
        }
        max
    }

    /// Queues an IP packet; it is gone with the next [`Rings::flush`]. Lost, and counted, if there is no
    /// room.
    pub(super) fn send(&mut self, packet: &[u8]) {
        assert!(packet.len() <= PACKET_MAX, "ghosts send small segments");
        let place = self.place * PLACE;
        if self.send.word(place).load(Ordering::Acquire) != libc::TP_STATUS_AVAILABLE {
            self.flush();
            if self.send.word(place).load(Ordering::Acquire) != libc::TP_STATUS_AVAILABLE {
                self.unsent += 1;
                return;
            }
        }
        self.send.write(place + PLACE_HEAD, &KERNEL_END);
        self.send.write(place + PLACE_HEAD + 6, &GHOST_END);
        self.send.write(place + PLACE_HEAD + 12, &(libc::ETH_P_IP as u16).to_be_bytes());
        self.send.write(place + PLACE_HEAD + ETHERNET, packet);
        self.send.write(place + 4, &((ETHERNET + packet.len()) as u32).to_ne_bytes());
        self.send.word(place).store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        self.place = (self.place + 1) % PLACES;
        self.queued += 1;
        if self.queued >= FLUSH {
            self.flush();
        }
    }

    /// Has the kernel send what is queued.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.queued) > 0 {
            self.calls += 1;
            // SAFETY: no memory is named; the frames stand in the ring.
            unsafe { libc::send(self.send.socket.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT) };
        }
    }

    /// Waits for packets, at most as many milliseconds.
    pub(super) fn wait(&mut self, milliseconds: i32) {
        self.calls += 1;
        let mut poll = libc::pollfd { fd: self.receive.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, ours.
        unsafe { libc::poll(&mut poll, 1, milliseconds) };
    }

    /// Packets that the receive ring had no room for, and those that the send ring had none for.
    pub(super) fn drops(&mut self) -> (u64, u64) {
        // SAFETY: all zeros are valid, and the kernel writes no more than the length.
        unsafe {
            let mut statistics: libc::tpacket_stats_v3 = std::mem::zeroed();
            let mut length = size_of_val(&statistics) as u32;
            let socket = self.receive.socket.as_raw_fd();
            let into = (&raw mut statistics).cast();
            if libc::getsockopt(socket, libc::SOL_PACKET, libc::PACKET_STATISTICS, into, &mut length) == 0 {
                // Reading them sets them back.
                self.dropped += u64::from(statistics.tp_drops);
            }
        }
        (self.dropped, self.unsent)
    }
}
