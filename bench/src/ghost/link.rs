//! A pair of virtual Ethernet devices: on one end the kernel with the server, on the other the ghosts.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The server's address on the pair.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Everything in 10.0.0.0/8 is on the pair.
const MASK: Ipv4Addr = Ipv4Addr::new(255, 0, 0, 0);
/// Hardware address of the kernel's end: frames go there.
pub(super) const KERNEL_END: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Hardware address of the ghosts' end.
pub(super) const GHOST_END: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The two devices. They end with the namespace that they are in.
#[derive(Debug)]
pub struct Pair {
    /// Index of the ghosts' end.
    pub(super) ghosts: u32,
}

impl Pair {
    /// Makes the pair in the network namespace of the calling thread, which should be one of its own.
    ///
    /// # Errors
    /// The kernel's, with what was tried.
    pub fn make() -> io::Result<Self> {
        let at = |what: &'static str| {
            move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
        };
        add_veth("ghosts0", "ghosts1").map_err(at("making the veth pair"))?;
        for name in ["ghosts0", "ghosts1"] {
            // The devices are to be silent: no neighbour discovery among the figures.
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        }
        let socket = Control::open()?;
        socket.set_address("ghosts0", SERVER, libc::SIOCSIFADDR).map_err(at("giving the pair an address"))?;
        socket.set_address("ghosts0", MASK, libc::SIOCSIFNETMASK).map_err(at("giving the pair a netmask"))?;
        // Without ARP the kernel sends every frame to its own end's address, which the stack of the other end
        // takes for somebody else's and drops early; the packet ring has it by then.
        socket.set_flags("ghosts0", libc::IFF_UP | libc::IFF_NOARP).map_err(at("bringing the pair up"))?;
        socket.set_flags("ghosts1", libc::IFF_UP | libc::IFF_NOARP).map_err(at("bringing the pair up"))?;
        Ok(Self { ghosts: index("ghosts1")? })
    }
}

/// A socket for requests about devices.
struct Control(OwnedFd);

impl Control {
    fn open() -> io::Result<Self> {
        // SAFETY: makes a descriptor, which is ours alone if it is one.
        unsafe {
            let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            if socket < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(socket))) }
        }
    }

    fn ask(&self, name: &str, request: libc::Ioctl, fill: impl FnOnce(&mut libc::ifreq)) -> io::Result<()> {
        // SAFETY: all zeros are a valid request; the name is shorter than its field, so it ends within it;
        // the kernel reads no more than the request.
        let result = unsafe {
            let mut asked: libc::ifreq = std::mem::zeroed();
            for (to, from) in asked.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from as libc::c_char;
            }
            fill(&mut asked);
            libc::ioctl(self.0.as_raw_fd(), request, &asked)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn set_flags(&self, name: &str, flags: i32) -> io::Result<()> {
        self.ask(name, libc::SIOCSIFFLAGS as _, |asked| asked.ifr_ifru.ifru_flags = flags as libc::c_short)
    }

    fn set_address(&self, name: &str, address: Ipv4Addr, request: libc::c_ulong) -> io::Result<()> {
        self.ask(name, request as _, |asked| {
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: 0,
                sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: both are plain data of 16 bytes.
            asked.ifr_ifru.ifru_addr =
                unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
        })
    }
}

fn index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name).expect("no zero in it");
    // SAFETY: the name ends with a zero.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// `VETH_INFO_PEER` of `linux/veth.h`.
const VETH_INFO_PEER: u16 = 1;

/// Asks for a pair of devices over rtnetlink.
fn add_veth(kernel_end: &str, ghost_end: &str) -> io::Result<()> {
    let device = |name: &str, address: [u8; 6], more: &[u8]| {
        // `ifinfomsg`: nothing is known of the device yet.
        let mut message = vec![0; 16];
        message.extend(attribute(libc::IFLA_IFNAME, format!("{name}\0").as_bytes()));
        message.extend(attribute(libc::IFLA_ADDRESS, &address));
        message.extend(more);
        message
    };
    let peer = attribute(VETH_INFO_PEER, &device(ghost_end, GHOST_END, &[]));
    let mut kind = attribute(libc::IFLA_INFO_KIND, b"veth");
    kind.extend(attribute(libc::IFLA_INFO_DATA, &peer));
    let body = device(kernel_end, KERNEL_END, &attribute(libc::IFLA_LINKINFO, &kind));
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut message = Vec::new();
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    let mut answer = [0_u8; 1_024];
    // SAFETY: a descriptor of our own, closed with its owner; the kernel reads the message and writes no more
    // than the answer's length.
    let length = unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        if libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
    };
    if length < 20 {
        return Err(io::Error::other("the kernel gave no answer"));
    }
    // An acknowledgement is an error of 0.
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// `rtattr` with its padding.
fn attribute(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((4 + data.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
