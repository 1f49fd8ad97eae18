//! A batch: sends that are executed together, and what became of each. No send outlives its batch.

use super::behind;
use super::control::Control;
use super::prepared::Run;

/// Bytes of one batch, but for its last send.
const BATCH_BYTES_MAX: usize = 512 << 10;

/// What became of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it is in the kernel.
    Whole,
    /// So many bytes of it are.
    Short(usize),
    /// Nothing of it: the socket's buffer is full.
    Full,
    /// The connection is broken.
    Failed,
}

/// What a send is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The walk of this set.
    Walk(u32),
    /// From the log, to one that is behind; a number into [`Batch::behind`].
    Behind(u32),
    /// The rest of a half-sent run.
    Rest,
    /// A control; a number into [`Batch::controls`].
    Control(u32),
}

/// One send of a batch.
#[derive(Debug)]
pub(crate) struct BatchSend {
    pub(crate) socket: u32,
    /// Where in its run the bytes begin.
    pub(crate) from: usize,
    /// What became of it; the driver writes this where it is not [`Outcome::Whole`].
    pub(crate) outcome: Outcome,
    pub(super) run: u32,
    pub(super) slot: u32,
    pub(super) purpose: Purpose,
}

/// Sends that are executed together: at most one a socket.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) sends: Vec<BatchSend>,
    pub(super) runs: Vec<Run>,
    pub(super) bytes: usize,
    pub(super) sends_max: usize,
    /// Sets of which a walk has visited all members with this batch.
    pub(super) walked: Vec<u32>,
    pub(super) behind: Vec<behind::Served>,
    pub(super) controls: Vec<Control>,
    /// There was more to do than the batch had room for.
    pub(super) is_cut_short: bool,
}

impl Batch {
    /// The bytes of a send.
    pub(crate) fn bytes(&self, send: &BatchSend) -> &[u8] {
        self.runs[send.run as usize].bytes().get(send.from..).unwrap_or_default()
    }

    pub(super) fn clear(&mut self, sends_max: usize) {
        self.sends_max = sends_max;
        self.sends.clear();
        self.runs.clear();
        self.walked.clear();
        self.behind.clear();
        self.controls.clear();
        self.bytes = 0;
        self.is_cut_short = false;
    }

    pub(super) fn is_full(&self) -> bool {
        self.sends.len() >= self.sends_max || self.bytes >= BATCH_BYTES_MAX
    }

    /// Half of a batch is for rests and controls at most, so that they do not keep walks from going on.
    pub(super) fn is_half_full(&self) -> bool {
        self.sends.len() >= self.sends_max.div_ceil(2) || self.bytes >= BATCH_BYTES_MAX / 2
    }

    pub(super) fn run(&mut self, run: &Run) -> u32 {
        self.runs.push(run.clone());
        self.runs.len() as u32 - 1
    }

    pub(super) fn push(
        &mut self,
        socket: u32,
        slot: u32,
        run: u32,
        from: usize,
        length: usize,
        purpose: Purpose,
    ) {
        self.bytes += length;
        self.sends.push(BatchSend { socket, from, outcome: Outcome::Whole, run, slot, purpose });
    }
}
