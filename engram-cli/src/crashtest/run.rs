//! The rounds: load, kill, cut, start, check.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    thread::sleep,
    time::Duration,
};

use indicatif::ProgressBar;

use super::{
    args::CrashtestArgs,
    directory::Stores,
    emergency::Emergency,
    load::{KillAt, Load},
    model::{Allowed, Checked, Loss, Model},
    power::Power,
    random::Random,
    report::{Report, Spread},
    server::{Ended, Launcher, Server},
    snapshot::{Embeddings, Snapshot},
};
use crate::{
    count::count,
    exit::{Exit, Failure},
};

/// Bytes of its files after which a store is given up for a new one: a log only grows, and so does its recovery.
const STORE_BYTES_MAX: u64 = 32 << 20;

/// Embeddings that each check reads.
const EMBEDDINGS_SAMPLED: usize = 24;

/// Servers whose log is kept: the one that has acknowledged, one that was killed on its way, and the one that was read.
const LOGS_KEPT: usize = 3;

/// One start in so many is killed on its way.
const KILL_OF_START_ONE_IN: u64 = 8;

/// How long a start that is to be killed may take.
const KILLED_START_TIME_MAX_US: u64 = 20_000;

/// A part of a run with choices of its own, apart from its clients, which have theirs by number.
const DIRECTOR: u64 = u64::MAX;

/// Why a test ends early, apart from losses.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// The server has done what it should not: somebody will want to see how.
    pub(super) is_of_server: bool,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self { failure, is_of_server: false }
    }
}

impl Broken {
    fn server(message: String) -> Self {
        Self { failure: Failure::new(Exit::LogFailed, message), is_of_server: true }
    }

    fn disk(error: &io::Error) -> Self {
        Failure::new(Exit::BadDirectory, format!("cannot work in the directory of the test: {error}")).into()
    }
}

fn new_model(args: &CrashtestArgs) -> Model {
    Model::new(if args.fsync.syncs_before_acknowledging() { "synced" } else { "written" })
}

/// A test that runs.
pub(super) struct Run<'a> {
    args: &'a CrashtestArgs,
    seed: u64,
    launcher: Launcher,
    power: Power,
    stores: Stores,
    model: Model,
    /// What the last servers have said, the latest first.
    logs: VecDeque<String>,
    recoveries: Vec<Duration>,
    bar: &'a ProgressBar,
    report: &'a mut Report,
}

/// A server that was checked.
struct Ready {
    server: Server,
    url: String,
    /// How long its start took.
    took: Duration,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        args: &'a CrashtestArgs,
        seed: u64,
        power: Power,
        emergency: &Emergency,
        bar: &'a ProgressBar,
        report: &'a mut Report,
    ) -> Result<Self, Failure> {
        let cannot =
            |what: &str, e: io::Error| Failure::new(Exit::BadDirectory, format!("cannot {what}: {e}"));
        let program = std::env::current_exe().map_err(|e| cannot("find this program", e))?;
        let launcher = Launcher { program, fsync: args.fsync, emergency: emergency.clone() };
        let stores =
            Stores::make(power.directory()).map_err(|e| cannot("make a directory for the data", e))?;
        let model = new_model(args);
        let (logs, recoveries) = (VecDeque::new(), Vec::new());
        Ok(Self { args, seed, launcher, power, stores, model, logs, recoveries, bar, report })
    }

    /// All rounds, or those before the first loss, or before the wish to end.
    pub(super) fn rounds(&mut self) -> Result<(), Broken> {
        let Some(mut ready) = self.start(0)? else { return Ok(()) };
        for round in 1..=self.args.rounds {
            if self.launcher.emergency.is_asked() {
                break;
            }
            let mut random = Random::of_part(self.seed, round, DIRECTOR);
            let broken = self.load(ready, round, &mut random);
            self.power.cut()?;
            if random.one_in(KILL_OF_START_ONE_IN) {
                self.kill_a_start(&mut random)?;
            }
            let restarted = self.start(round)?;
            self.report.rounds = round;
            self.bar.inc(1);
            self.bar
                .set_message(format!("{} acknowledged, {} lost", self.report.acknowledged, self.report.lost));
            let Some(restarted) = restarted else { return Ok(()) };
            self.recoveries.push(restarted.took);
            ready = restarted;
            // What was acknowledged before is there; it ends here all the same.
            broken?;
            if self.stores.bytes().map_err(|e| Broken::disk(&e))? > STORE_BYTES_MAX {
                let Some(new) = self.renew(ready, round)? else { return Ok(()) };
                ready = new;
            }
        }
        self.end(ready.server);
        Ok(())
    }

    /// How long the restarts took.
    pub(super) fn recoveries(&self) -> Option<Spread> {
        Spread::of(&self.recoveries)
    }

    /// What the last servers said, by the name of a file.
    pub(super) fn evidence(&self) -> Vec<(&'static str, String)> {
        let names = ["server-last.log", "server-before.log", "server-before-that.log"];
        names.into_iter().zip(self.logs.iter().cloned()).collect()
    }

    /// Loads the server until it is killed, and takes in what was acknowledged.
    fn load(&mut self, ready: Ready, round: u64, random: &mut Random) -> Result<(), Broken> {
        let kill_at = KillAt::choose(random, self.args.clients);
        let load = Load {
            server: ready.server.pid(),
            url: &ready.url,
            clients: self.args.clients,
            present: self.model.present().map(str::to_owned).collect::<BTreeSet<_>>(),
            emergency: &self.launcher.emergency,
        };
        let (work, refused) = load.run(kill_at, |client| Random::of_part(self.seed, round, client));
        let ended = self.end(ready.server);
        self.report.acknowledged += work.iter().map(|work| work.acknowledged.len() as u64).sum::<u64>();
        let losses = self.model.note(work);
        self.report.add_losses(losses, round);
        if let Some(answer) = refused {
            return Err(Broken::server(format!("in round {round} the server answered {answer}")));
        }
        if !ended.was_killed() {
            return Err(Broken::server(format!(
                "in round {round} the server ended by itself: {}",
                ended.describe()
            )));
        }
        Ok(())
    }

    /// A crash in the middle of a recovery, whose outcome nobody sees.
    fn kill_a_start(&mut self, random: &mut Random) -> Result<(), Broken> {
        let server = self.spawn()?;
        sleep(Duration::from_micros(random.below(KILLED_START_TIME_MAX_US)));
        self.end(server);
        Ok(self.power.cut()?)
    }

    /// Starts a server and compares what it shows with what must be. Nothing when something is lost.
    fn start(&mut self, round: u64) -> Result<Option<Ready>, Broken> {
        let server = self.spawn()?;
        let (url, took) = match server.ready() {
            Ok(ready) => ready,
            Err(reason) => return self.failed_start(server, reason, round).map(|()| None),
        };
        let mut random = Random::of_part(self.seed, round, DIRECTOR - 1);
        let is_last = round == self.args.rounds || self.launcher.emergency.is_asked();
        let embeddings =
            if is_last { Embeddings::All } else { Embeddings::Sample(EMBEDDINGS_SAMPLED, &mut random) };
        let snapshot = match Snapshot::read(&url, embeddings) {
            Ok(snapshot) => snapshot,
            Err(reason) => {
                self.end(server);
                return Err(Broken::server(format!(
                    "after round {round} the server cannot be read: {reason}"
                )));
            }
        };
        let weak = !self.args.fsync.syncs_before_acknowledging() && self.power.is_cut();
        let allowed = if weak { Allowed::Newest } else { Allowed::Nothing };
        let Checked { losses, lost_allowed, in_flight_kept } = self.model.check(&snapshot, allowed);
        self.report.lost_allowed_by_mode += lost_allowed;
        self.report.in_flight_kept += in_flight_kept;
        self.report.add_losses(losses, round);
        if self.report.lost > 0 {
            self.end(server);
            return Ok(None);
        }
        Ok(Some(Ready { server, url, took }))
    }

    /// A start that does not come to its end has lost everything, unless there was nothing yet.
    fn failed_start(&mut self, server: Server, reason: &str, round: u64) -> Result<(), Broken> {
        let found = format!("{reason}: {}", self.end(server).describe());
        if round == 0 {
            let message = format!("cannot test a server that does not start: {found}");
            return Err(Failure::new(Exit::Failure, message).into());
        }
        let memories = self.model.present().count();
        let expected = format!("a start that recovers {}", count(memories, "memory", "memories"));
        self.report.add_losses(vec![Loss { id: None, lsn: None, expected, found }], round);
        // One loss tells of them all.
        self.report.lost = self.report.lost.max(memories as u64);
        Ok(())
    }

    /// Goes on with an empty store.
    fn renew(&mut self, ready: Ready, round: u64) -> Result<Option<Ready>, Broken> {
        self.end(ready.server);
        self.stores.next().map_err(|e| Broken::disk(&e))?;
        self.model = new_model(self.args);
        self.start(round)
    }

    /// Kills the server and keeps what it has said.
    fn end(&mut self, server: Server) -> Ended {
        let ended = server.kill();
        self.logs.truncate(LOGS_KEPT - 1);
        self.logs.push_front(ended.log.clone());
        ended
    }

    fn spawn(&self) -> Result<Server, Broken> {
        let spawned = self.launcher.spawn(&self.stores.data_dir());
        spawned.map_err(|e| {
            let message = format!("cannot start {}: {e}", self.launcher.program.display());
            Failure::new(Exit::Failure, message).into()
        })
    }
}
