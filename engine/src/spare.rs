//! Memory that a storm took, and that nothing needs after it.

use std::collections::VecDeque;

/// A queue with less room gives nothing back.
const KEPT: usize = 1_024;

/// Gives back what a queue took when it was long.
pub(crate) fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > KEPT && queue.len() < queue.capacity() / 8 {
        queue.shrink_to(2 * queue.len());
    }
}
