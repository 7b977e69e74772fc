//! The load of one round, and the kill in its midst.

use std::{
    collections::BTreeSet,
    panic::resume_unwind,
    sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{client::Client, emergency::Emergency, model::Work, random::Random};

/// The longest load that a random time ends.
const LOAD_TIME_MAX_US: u64 = 100_000;

/// The most acknowledgements of each client, on average, in a load that an acknowledgement ends.
const ANSWERS_MAX: u64 = 25;

/// When a slow disk keeps the acknowledgement that was to end a load from coming, time ends it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the wish to end is looked for.
const TICK: Duration = Duration::from_millis(20);

/// When the server is killed.
#[derive(Debug, Clone, Copy)]
pub(super) struct KillAt {
    /// With the answer to this many-th change.
    answers: usize,
    /// After this time at the latest.
    after: Duration,
}

impl KillAt {
    /// By chance: half of all by time, half by an acknowledgement.
    pub(super) fn choose(random: &mut Random, clients: u64) -> Self {
        if random.one_in(2) {
            Self { answers: usize::MAX, after: Duration::from_micros(random.below(LOAD_TIME_MAX_US)) }
        } else {
            let answers = 1 + random.below(ANSWERS_MAX * clients);
            Self { answers: usize::try_from(answers).unwrap_or(usize::MAX), after: PATIENCE }
        }
    }
}

/// Kills the server at the very answer at which it is to die: whoever gets that one pulls it.
#[derive(Debug)]
pub(super) struct Trigger {
    server: Pid,
    kill_at: usize,
    answers: AtomicUsize,
}

impl Trigger {
    /// So many more changes were acknowledged.
    pub(super) fn count(&self, more: usize) {
        let before = self.answers.fetch_add(more, SeqCst);
        if before < self.kill_at && before + more >= self.kill_at {
            self.pull();
        }
    }

    fn pull(&self) {
        // It may have ended by itself. Its parent has not waited for it yet: the number is still its own.
        kill_process(self.server, Signal::KILL).ok();
    }
}

/// A server to load.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) server: Pid,
    pub(super) url: &'a str,
    pub(super) clients: u64,
    /// The ids of the memories that are there.
    pub(super) present: BTreeSet<String>,
    pub(super) emergency: &'a Emergency,
}

impl Load<'_> {
    /// Lets all clients work until the server is killed. Gives what each did, and what was refused if anything was.
    pub(super) fn run(&self, kill_at: KillAt, random: impl Fn(u64) -> Random) -> (Vec<Work>, Option<String>) {
        let trigger = Trigger { server: self.server, kill_at: kill_at.answers, answers: AtomicUsize::new(0) };
        let (ended, end) = channel();
        thread::scope(|scope| {
            let mut clients = Vec::new();
            for number in 0..self.clients {
                let client = Client::new(self.url, number, random(number), &self.present);
                let (trigger, ended) = (&trigger, EndSignal(ended.clone()));
                clients.push(scope.spawn(move || {
                    let _ended = ended;
                    client.run(trigger)
                }));
            }
            drop(ended);
            self.wait(kill_at.after, &end);
            trigger.pull();
            let joined = clients.into_iter().map(|it| it.join().unwrap_or_else(|panic| resume_unwind(panic)));
            let (work, refused): (Vec<Work>, Vec<Option<String>>) = joined.unzip();
            (work, refused.into_iter().flatten().next())
        })
    }

    /// Until the first client ends, the time is over, or the end is asked for.
    fn wait(&self, at_most: Duration, end: &Receiver<()>) {
        let until = Instant::now() + at_most;
        while !self.emergency.is_asked() {
            let left = until.saturating_duration_since(Instant::now());
            match end.recv_timeout(left.min(TICK)) {
                Err(RecvTimeoutError::Timeout) if left > TICK => {}
                _ => return,
            }
        }
    }
}

/// Says that a client has ended, however it did.
struct EndSignal(Sender<()>);

impl Drop for EndSignal {
    fn drop(&mut self) {
        // Nobody waits any more once the first has ended.
        self.0.send(()).ok();
    }
}
