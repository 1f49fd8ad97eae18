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

/// What a part was allowed before it was halved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    sends_until: usize,
    bytes_until: usize,
}

/// Sends that are executed together: at most one a socket.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) sends: Vec<BatchSend>,
    pub(super) runs: Vec<Run>,
    pub(super) bytes: usize,
    sends_max: usize,
    /// What the part that fills it may fill it up to.
    sends_until: usize,
    bytes_until: usize,
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

    /// The part of the work that fills it next may take a share of it: one in `shares`.
    pub(super) fn allow(&mut self, shares: usize) {
        self.sends_until = (self.sends.len() + self.sends_max.div_ceil(shares)).min(self.sends_max);
        self.bytes_until = (self.bytes + BATCH_BYTES_MAX / shares).min(BATCH_BYTES_MAX);
    }

    /// Halves what is allowed, until [`Batch::allow_again`]: of an odd number to the larger or smaller half.
    pub(super) fn allow_half(&mut self, is_larger: bool) -> Allowance {
        let allowance = Allowance { sends_until: self.sends_until, bytes_until: self.bytes_until };
        let sends = self.sends_until.saturating_sub(self.sends.len());
        self.sends_until = self.sends.len() + (sends + usize::from(is_larger)) / 2;
        self.bytes_until = self.bytes + self.bytes_until.saturating_sub(self.bytes) / 2;
        allowance
    }

    pub(super) fn allow_again(&mut self, allowance: Allowance) {
        self.sends_until = allowance.sends_until;
        self.bytes_until = allowance.bytes_until;
    }

    /// Whether the part that fills it has its share.
    pub(super) fn is_full(&self) -> bool {
        self.sends.len() >= self.sends_until || self.bytes >= self.bytes_until
    }

    /// Entries that a part may look at, those that turn out to need no send included.
    pub(super) fn looks_max(&self) -> usize {
        4 * self.sends_max
    }

    pub(super) fn run(&mut self, run: &Run) -> u32 {
        if self.runs.last().is_some_and(|last| last.is_same(run)) {
            return self.runs.len() as u32 - 1;
        }
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
