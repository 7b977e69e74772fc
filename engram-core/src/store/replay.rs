//! What a log holds is applied by one thread, while another reads it and makes its records ready.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    panic::resume_unwind,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};

use engram_storage::{Lsn, RecoveryReport};

use crate::{
    StoreError,
    payload::{Config, ForgetRecord, Record},
    prepared::Prepared,
    state::State,
};

/// Records that are handed over together.
const BATCH_RECORDS: usize = 256;

/// Batches that wait to be applied: some megabytes, whichever of the two is slower.
const BATCHES_MAX: usize = 8;

type Batch = Vec<(Lsn, Prepared)>;

/// Changes that were not made, since the version that they expect was not there, or their space: of each memory, by space and
/// id, those after the last that was made. In a sound log they had lost to another change. In a damaged one what they stand
/// on may be lost, and they themselves acknowledged.
#[derive(Default)]
pub(super) struct Refused {
    kept: HashMap<String, OfSpace>,
    /// When a memory was last forgotten, by the hash of its space and id, and a space dropped: what comes after that and
    /// counts on what was before it had lost.
    forgotten: HashMap<u64, Lsn>,
    dropped: HashMap<String, Lsn>,
    hasher: RandomState,
}

type OfSpace = HashMap<Arc<str>, Batch>;

/// The reading side. All records are applied when [`finish`](Self::finish) returns; until then, nobody else has the state.
pub(super) struct Replay {
    state: Arc<State>,
    /// The form of the vectors at the place that was read last: the applying side may be behind.
    config: Config,
    batch: Batch,
    /// Nothing when there can be no thread: then this one does it all.
    applying: Option<(SyncSender<Batch>, JoinHandle<Refused>)>,
    /// Of what this thread has applied.
    refused: Refused,
    /// What is left of batches that were applied. Its memory is used again, or given back by the thread that took it: two
    /// of them at the allocator wait for each other.
    given_back: Receiver<Batch>,
    /// One of those.
    applied: Batch,
}

impl Replay {
    pub(super) fn start(state: &Arc<State>) -> Self {
        let (sender, receiver) = sync_channel::<Batch>(BATCHES_MAX);
        let (back, given_back) = channel();
        let shared = Arc::clone(state);
        let work = move || {
            let mut refused = Refused::default();
            for mut batch in receiver {
                apply(&shared, &mut batch, &mut refused);
                // Nobody is there to take it after an error over there: then it ends here.
                drop(back.send(batch));
            }
            refused
        };
        let thread = thread::Builder::new().name("engram-replay".to_owned()).spawn(work);
        let applying = thread.map(|thread| (sender, thread));
        if let Err(error) = &applying {
            tracing::warn!(%error, "the log is replayed by one thread alone");
        }
        Self {
            state: Arc::clone(state),
            config: state.config(),
            batch: Batch::new(),
            applying: applying.ok(),
            refused: Refused::default(),
            given_back,
            applied: Batch::new(),
        }
    }

    /// From the next record on the store is like this.
    pub(super) fn configure(&mut self, lsn: Lsn, config: Config) {
        self.config = config.clone();
        self.batch.push((lsn, Prepared::Config(config)));
    }

    /// Takes the next record of the log.
    ///
    /// # Errors
    /// As [`Prepared::of_record`].
    pub(super) fn push(&mut self, lsn: Lsn, record: Record) -> Result<(), StoreError> {
        if let Some(config) = self.config.lost_before(&record) {
            let dimension = config.dimension;
            tracing::warn!(
                lsn = lsn.get(),
                dimension,
                "the record of a change to another model is lost: embeddings of the one before are not used any more"
            );
            self.configure(lsn, config);
        }
        let applied = self.applied.pop().map(|(_, applied)| applied);
        let prepared = Prepared::of_record(lsn, record, &self.config, applied)?;
        if let Prepared::Config(config) = &prepared {
            self.config = config.clone();
        }
        self.batch.push((lsn, prepared));
        if self.batch.len() >= BATCH_RECORDS {
            self.hand_over();
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        // By now the one before is empty, and its room that of the next batch.
        self.applied.clear();
        let next = std::mem::replace(&mut self.applied, self.given_back.try_recv().unwrap_or_default());
        let mut batch = std::mem::replace(&mut self.batch, next);
        match &self.applying {
            // It is gone only after a panic, which `finish` passes on.
            Some((sender, _)) => drop(sender.send(batch)),
            None => apply(&self.state, &mut batch, &mut self.refused),
        }
    }

    /// Waits until all records are applied. Gives those that were not.
    pub(super) fn finish(mut self) -> Refused {
        self.hand_over();
        let Some((sender, thread)) = self.applying.take() else { return self.refused };
        drop(sender);
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Refused {
    /// Applies the next record, or keeps it.
    pub(super) fn apply(&mut self, state: &State, lsn: Lsn, prepared: &mut Prepared) {
        // Without its space there is nothing to note an answer in.
        let is_homeless =
            matches!(prepared, Prepared::Receipt(record) if state.space(&record.space).is_none());
        if is_homeless || state.apply_prepared(lsn, prepared).is_err() {
            // What its terms kept from happening then does not happen now.
            self.keep(lsn, prepared);
        } else {
            self.end(lsn, prepared);
        }
    }

    /// Makes the changes that a damaged log may have acknowledged, in their order: those of a version that is lost, or in a
    /// space whose making is, or after a forgetting that is.
    pub(super) fn apply_after_loss(mut self, state: &State, report: &RecoveryReport) {
        let kept = std::mem::take(&mut self.kept);
        let mut records: Vec<_> = kept.into_values().flat_map(HashMap::into_values).flatten().collect();
        records.sort_unstable_by_key(|(lsn, _)| *lsn);
        for (lsn, mut prepared) in records {
            let Some((space, id)) = prepared.place() else { continue };
            let forgotten = self.forgotten.get(&self.hasher.hash_one((space, id))).copied();
            let forgotten = forgotten.unwrap_or(Lsn::ZERO);
            let dropped = self.dropped.get(space).copied();
            let may_hold = |expected: Option<Lsn>, there: Lsn| match expected {
                None => true,
                Some(expected) if expected == there => true,
                // What was there then may be forgotten by a record that is lost.
                Some(Lsn::ZERO) => report.is_lost_between(there, lsn),
                // A part of the snapshot that is lost leaves nothing of a memory that was in it.
                Some(expected) => {
                    expected > there.max(forgotten)
                        && (report.is_lost(expected)
                            || (there == Lsn::ZERO && report.may_be_lost_with_snapshot(expected)))
                }
            };
            // Since then nothing is lost that it may stand on, not the making of the next space of this name either.
            if dropped.is_some_and(|at| !report.is_lost_between(at, lsn)) {
                continue;
            }
            if state.apply_after_loss(lsn, &mut prepared, may_hold) {
                tracing::warn!(lsn = lsn.get(), "a change is applied though what it was made on is lost");
                self.end(lsn, &prepared);
            }
        }
    }

    fn keep(&mut self, lsn: Lsn, prepared: &mut Prepared) {
        let Some((space, id)) = prepared.place() else { return };
        let (space, id) = (space.to_owned(), Arc::from(id));
        let prepared = std::mem::replace(prepared, Prepared::Former);
        self.kept.entry(space).or_default().entry(id).or_default().push((lsn, prepared));
    }

    /// What was kept before a change that was made does not come back.
    fn end(&mut self, lsn: Lsn, prepared: &Prepared) {
        let (space, id) = match prepared {
            Prepared::DropSpace { space } => {
                self.dropped.insert(space.clone(), lsn);
                self.kept.remove(space);
                return;
            }
            Prepared::Forget(ForgetRecord { space, id, .. }) => {
                self.forgotten.insert(self.hasher.hash_one((&**space, &**id)), lsn);
                (space, id.as_str())
            }
            Prepared::Store { space, memory, .. } => (space, memory.id()),
            _ => return,
        };
        if let Some(of_space) = self.kept.get_mut(space) {
            of_space.remove(id);
        }
    }
}

fn apply(state: &State, batch: &mut Batch, refused: &mut Refused) {
    for (lsn, prepared) in batch {
        refused.apply(state, *lsn, prepared);
    }
}
