//! All subscribers of a run: ghosts, and a control group on kernel sockets; or kernel sockets alone.
//!
//! Both hear the same topics. If what the control group sees differs from what the ghosts see, the figures
//! are the clients' and not the server's.

use std::io;
use std::ops::Range;

use crate::clients::{Clients, Plan};
use crate::ghost::{Ghosts, Leaving, Options, Pair};
use crate::judge::Judgement;
use crate::target::Target;

/// Slices in which a crowd connects, so that the control group stands among the ghosts and not behind them.
const SLICES: u32 = 50;

/// Who hears what.
pub struct Cast {
    /// Ghosts, the first of the subscribers; 0 for none.
    pub ghosts: usize,
    /// Kernel sockets, which follow.
    pub sockets: usize,
    /// Topics; subscriber `n` hears topic `n % topics`.
    pub topics: u32,
    /// Whether the sockets hear a further topic instead, of their own.
    pub is_apart: bool,
}

impl Cast {
    /// Topics in all.
    pub fn topics_in_all(&self) -> u32 {
        self.topics + u32::from(self.is_apart)
    }
}

/// The subscribers.
pub struct Crowd<'a> {
    ghosts: Option<Ghosts<'a>>,
    sockets: Clients<'a>,
    cast: Cast,
}

impl<'a> Crowd<'a> {
    /// The subscribers of `target`, none of them connected. Ghosts need `pair`.
    ///
    /// # Errors
    /// No packet ring, or no ring, may be had.
    pub fn new(target: &'a Target, pair: Option<(&Pair, &Options)>, cast: Cast) -> io::Result<Self> {
        let (first, topics, is_apart) = (cast.ghosts as u32, cast.topics, cast.is_apart);
        let in_all = cast.topics_in_all();
        let ghosts = match pair {
            Some((pair, options)) if cast.ghosts > 0 => {
                let options = Options { count: cast.ghosts, port: target.port, ..*options };
                let topic_of = move |number| number % topics;
                Some(Ghosts::new(pair, &target.subscribe, &options, in_all, topic_of, Clients::topic)?)
            }
            _ => None,
        };
        let mut plan = Plan::shared(cast.sockets, in_all);
        plan.topic_of = Box::new(move |number| if is_apart { topics } else { (first + number) % topics });
        let sockets = Clients::new(&target.subscribe, target.port, &plan)?;
        Ok(Self { ghosts, sockets, cast })
    }

    /// Handles what has come. Answers how much that was.
    ///
    /// # Errors
    /// A ring's.
    pub fn turn(&mut self) -> io::Result<usize> {
        let came = self.ghosts.as_mut().map_or(0, Ghosts::turn);
        Ok(came + self.sockets.turn()?)
    }

    /// Waits a little for packets.
    pub fn wait(&mut self) {
        match &mut self.ghosts {
            Some(ghosts) => ghosts.wait(),
            None => std::thread::sleep(std::time::Duration::from_micros(100)),
        }
    }

    /// Lets everybody in a share of the crowd connect as turns are taken, the control group among the ghosts:
    /// call it for each of [`Crowd::slices`], and let each settle before the next.
    pub fn connect(&mut self, slice: &Slice, resumes: bool) {
        if let Some(ghosts) = &mut self.ghosts {
            ghosts.start_connecting(slice.ghosts.clone(), resumes);
        }
        self.sockets.start_connecting(slice.sockets.clone(), resumes);
    }

    /// The first `share` of the ghosts and of the sockets, each from 0 to 1, in slices.
    pub fn slices(&self, from: f64, to: f64) -> Vec<Slice> {
        let part = |count: usize, at: f64| (count as f64 * at).round() as u32;
        (0..SLICES)
            .map(|slice| {
                let at = |step: u32| from + (to - from) * f64::from(step) / f64::from(SLICES);
                let range = |count| part(count, at(slice))..part(count, at(slice + 1));
                Slice { ghosts: range(self.cast.ghosts), sockets: range(self.cast.sockets) }
            })
            .collect()
    }

    /// Whether nobody waits for a connection or an answer.
    pub fn is_settled(&self) -> bool {
        self.ghosts.as_ref().is_none_or(Ghosts::is_settled) && self.sockets.is_connected()
    }

    /// Lets a slice leave: the ghosts as `how` says, the sockets with a reset.
    ///
    /// # Errors
    /// A ring's.
    pub fn leave(&mut self, slice: &Slice, how: Leaving) -> io::Result<()> {
        if let Some(ghosts) = &mut self.ghosts {
            ghosts.start_leaving(slice.ghosts.clone(), how);
        }
        self.sockets.leave(slice.sockets.clone())
    }

    /// From here on a slice takes nothing more.
    pub fn deafen(&mut self, slice: &Slice) {
        if let Some(ghosts) = &mut self.ghosts {
            ghosts.deafen(slice.ghosts.clone());
        }
        self.sockets.deafen(slice.sockets.clone());
    }

    /// Subscribers that hear: of both kinds.
    pub fn open(&self) -> usize {
        self.ghosts.as_ref().map_or(0, Ghosts::open) + self.sockets.open()
    }

    /// Sockets of the control group that are still on their way out.
    pub fn leaving(&self) -> usize {
        self.sockets.leaving()
    }

    /// Of subscribers that were refused or never answered.
    pub fn failed(&self) -> u64 {
        self.ghosts.as_ref().map_or(0, Ghosts::failed) + self.sockets.failed()
    }

    /// Deliveries of an event of topic 0 since it was counted anew.
    pub fn delivered(&self, number: u64) -> usize {
        self.ghosts.as_ref().map_or(0, |ghosts| ghosts.delivered(number)) + self.sockets.delivered(number)
    }

    /// The event of that number of topic 0 is about to be published.
    pub fn count_anew(&mut self, number: u64) {
        if let Some(ghosts) = &mut self.ghosts {
            ghosts.count_anew(number);
        }
        self.sockets.count_anew(number);
    }

    /// From here on times are kept, and no earlier ones.
    pub fn time(&mut self, is_timed: bool) {
        if let Some(ghosts) = &mut self.ghosts {
            ghosts.time(is_timed);
        }
        self.sockets.time(is_timed);
    }

    /// The longest time from publish to delivery since this was last asked, in nanoseconds.
    pub fn take_slowest(&mut self) -> u64 {
        let ghosts = self.ghosts.as_mut().map_or(0, Ghosts::take_slowest);
        ghosts.max(self.sockets.take_slowest())
    }

    /// Events that are still to come, if `last_of(topic)` was the last of each topic.
    pub fn missing(&self, last_of: impl Fn(u32) -> u32 + Copy) -> u64 {
        self.ghosts.as_ref().map_or(0, |ghosts| ghosts.missing(last_of)) + self.sockets.missing(last_of)
    }

    /// From here on everybody of a slice takes the event `next_of(topic)` of its topic for the next.
    pub fn expect(&mut self, next_of: impl Fn(u32) -> u32 + Copy) {
        if let Some(ghosts) = &mut self.ghosts {
            let all = 0..ghosts.count() as u32;
            ghosts.expect(all, next_of);
        }
        self.sockets.expect(next_of);
    }

    /// What came to everybody.
    pub fn judgement(&self) -> Judgement {
        let sockets = self.sockets.judgement();
        self.ghosts.as_ref().map_or(sockets, |ghosts| ghosts.judgement().and(sockets))
    }

    /// The ghosts, if there are any.
    pub fn ghosts(&mut self) -> Option<&mut Ghosts<'a>> {
        self.ghosts.as_mut()
    }

    /// The kernel sockets.
    pub fn sockets(&self) -> &Clients<'a> {
        &self.sockets
    }

    /// How many of each kind there are to be.
    pub fn cast(&self) -> &Cast {
        &self.cast
    }
}

/// Some of the ghosts, and as large a share of the sockets.
#[derive(Debug, Clone)]
pub struct Slice {
    ghosts: Range<u32>,
    sockets: Range<u32>,
}
