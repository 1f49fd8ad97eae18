//! What the process may use: descriptors and processors.

use std::io;
use std::time::Duration;

use super::sockopt::check;

/// How many descriptors the process may have open (`RLIMIT_NOFILE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What holds now.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// Reads the limit of descriptors.
///
/// # Errors
/// None that is known.
pub fn descriptor_limit() -> io::Result<DescriptorLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(DescriptorLimit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Raises the soft limit of descriptors to the hard one, and answers what holds then.
///
/// # Errors
/// The system does not allow it.
pub fn raise_descriptor_limit() -> io::Result<DescriptorLimit> {
    let DescriptorLimit { hard, .. } = descriptor_limit()?;
    let limit = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: the kernel reads one `rlimit`.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    descriptor_limit()
}

/// Has the kernel give this process memory in small pages only (`PR_SET_THP_DISABLE`). Allocators ask for
/// huge ones, of 2 MiB each: then what a storm took in many places does not go back, for something is left in
/// each.
///
/// # Errors
/// The kernel knows no huge pages.
pub fn refuse_huge_pages() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }).map(drop)
}

/// How much memory the processes of this user may lock in all (`RLIMIT_MEMLOCK`), in bytes; `u64::MAX` if
/// there is no limit. Newer kernels (Linux 6.18 does) count rings of io_uring as locked, but for those who
/// may lock what they like (`CAP_IPC_LOCK`): about 0.55 MiB a shard, and 0.2 MiB for every 16,384 connections
/// of a shard.
///
/// # Errors
/// None that is known.
pub fn locked_memory_limit() -> io::Result<u64> {
    locked_memory().map(|limit| limit.rlim_cur)
}

/// Raises the soft limit of locked memory to the hard one, and answers what holds then.
///
/// # Errors
/// The system does not allow it.
pub fn raise_locked_memory_limit() -> io::Result<u64> {
    let hard = locked_memory()?.rlim_max;
    let limit = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: the kernel reads one `rlimit`.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) })?;
    locked_memory_limit()
}

fn locked_memory() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`.
    check(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) })?;
    Ok(limit)
}

/// Tries a few times to make what locks memory, for a fifth of a second in all: the kernel gives back what a
/// process had locked a little after it has ended, and the next one may have begun by then.
pub(super) fn patiently<T>(mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const TRIES: u32 = 10;
    for _ in 0..TRIES {
        match make() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            made => return made,
        }
    }
    make()
}

/// The processors that this thread may run on, ascending; at least one.
///
/// # Errors
/// The machine has more than 1,024 processors.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = no_cpus();
    // SAFETY: the kernel writes at most the size of `set` to it.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
    // SAFETY: `set` is initialised, and each number is below its size.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Lets this thread run on `cpu` only.
///
/// # Errors
/// There is no such processor, or this process may not use it.
pub(crate) fn pin_thread(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = no_cpus();
    // SAFETY: `cpu` is below the size of the set (checked above).
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads the size of `set` from it.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
}

fn no_cpus() -> libc::cpu_set_t {
    // SAFETY: it is an array of integers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Whether a system call failed because the process, or the system, has no descriptor left.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_memory_is_waited_for_and_nothing_else() {
        let mut tries = 0;
        let lack = || io::Error::from_raw_os_error(libc::ENOMEM);
        let made = patiently(|| {
            tries += 1;
            if tries < 4 { Err(lack()) } else { Ok(tries) }
        });
        assert_eq!(made.unwrap(), 4);
        assert_eq!(patiently::<()>(|| Err(lack())).unwrap_err().raw_os_error(), Some(libc::ENOMEM));
        let mut tries = 0;
        let refused = patiently::<()>(|| {
            tries += 1;
            Err(io::Error::from_raw_os_error(libc::EPERM))
        });
        assert_eq!((refused.unwrap_err().raw_os_error(), tries), (Some(libc::EPERM), 1));
    }

    #[test]
    fn the_limits_and_processors_are_those_of_this_process() {
        let raised = raise_descriptor_limit().unwrap();
        assert_eq!(raised.soft, raised.hard);
        assert_eq!(descriptor_limit().unwrap(), raised);
        let locked = raise_locked_memory_limit().unwrap();
        assert_eq!(locked_memory_limit().unwrap(), locked);
        let cpus = allowed_cpus().unwrap();
        assert!(!cpus.is_empty() && cpus.is_sorted());
        let last = *cpus.last().unwrap();
        std::thread::spawn(move || {
            pin_thread(last).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [last]);
            assert!(pin_thread(1_000_000).is_err());
        })
        .join()
        .unwrap();
    }
}
