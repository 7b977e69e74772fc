//! What must be true of the store, as its clients know it. Pure: it is told what was sent, acknowledged and found.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{
    memories::{content, embedding},
    snapshot::{Found, Snapshot},
};

/// Characters of a content that a loss quotes.
const QUOTED_MAX: usize = 80;

/// A change of one memory: the number that it now holds, or nothing for one that is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) id: String,
    pub(super) number: Option<u64>,
}

/// A change and its receipt.
#[derive(Debug, Clone)]
pub(super) struct Acknowledged {
    pub(super) change: Change,
    pub(super) lsn: u64,
    pub(super) durability: String,
}

/// What one client did until the server was gone: the answers in the order in which they came, and what had none.
#[derive(Debug, Clone, Default)]
pub(super) struct Work {
    pub(super) acknowledged: Vec<Acknowledged>,
    pub(super) in_flight: Vec<Change>,
}

/// What was to be found, and was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Loss {
    /// Nothing when it concerns the log as a whole.
    pub(super) id: Option<String>,
    /// Of the last acknowledgement.
    pub(super) lsn: Option<u64>,
    pub(super) expected: String,
    pub(super) found: String,
}

/// What the end of a round may have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Nothing that was acknowledged.
    Nothing,
    /// The newest changes since the last check, from some LSN on: the rest is a prefix.
    Newest,
}

/// The outcome of a check.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) losses: Vec<Loss>,
    /// Acknowledged changes that are gone, as the mode allows.
    pub(super) lost_allowed: u64,
    /// Changes without an answer that are there.
    pub(super) in_flight_kept: u64,
}

/// The state of one memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    number: Option<u64>,
    lsn: u64,
}

/// All memories of one store.
#[derive(Debug)]
pub(super) struct Model {
    /// What each receipt has to say of its durability.
    durability: &'static str,
    /// The last acknowledged, or shown, version of each id that was ever used.
    versions: BTreeMap<String, Version>,
    /// What the changes acknowledged since the last check have replaced, in the order of their LSNs.
    replaced: Vec<(u64, String, Option<Version>)>,
    in_flight: HashMap<String, Change>,
    /// The last LSN at the last check: whoever read then has seen all up to it.
    shown_lsn: u64,
}

impl Model {
    /// Of a new store, whose receipts promise this durability.
    pub(super) fn new(durability: &'static str) -> Self {
        Self {
            durability,
            versions: BTreeMap::new(),
            replaced: Vec::new(),
            in_flight: HashMap::new(),
            shown_lsn: 0,
        }
    }

    /// The ids of the memories that are there.
    pub(super) fn present(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().filter(|(_, version)| version.number.is_some()).map(|(id, _)| id.as_str())
    }

    /// Takes in what the clients did between a check and the end of the server. What their receipts alone show to be
    /// wrong is given back.
    pub(super) fn note(&mut self, work: Vec<Work>) -> Vec<Loss> {
        let mut losses = Vec::new();
        let mut acknowledged = Vec::new();
        for client in work {
            let mut last = self.shown_lsn;
            for ack in client.acknowledged {
                if ack.lsn <= last {
                    losses.push(ack.loss(format!("an LSN above {last}"), format!("LSN {}", ack.lsn)));
                }
                last = last.max(ack.lsn);
                if ack.durability != self.durability {
                    losses.push(
                        ack.loss(format!("a receipt that says {}", self.durability), ack.durability.clone()),
                    );
                }
                acknowledged.push(ack);
            }
            self.in_flight.extend(client.in_flight.into_iter().map(|change| (change.id.clone(), change)));
        }
        acknowledged.sort_by_key(|ack| ack.lsn);
        for pair in acknowledged.windows(2) {
            if pair[0].lsn == pair[1].lsn {
                let found = format!("the same as of {:?}", pair[0].change.id);
                losses.push(pair[1].loss("an LSN of its own".to_owned(), found));
            }
        }
        for Acknowledged { change: Change { id, number }, lsn, .. } in acknowledged {
            let before = self.versions.insert(id.clone(), Version { number, lsn });
            self.replaced.push((lsn, id, before));
        }
        losses
    }

    /// Compares with what a start has found. What was in flight and is there counts as acknowledged from now on: it
    /// has been shown.
    pub(super) fn check(&mut self, found: &Snapshot, allowed: Allowed) -> Checked {
        let mut checked = Checked::default();
        self.check_log(found, allowed, &mut checked);
        if allowed == Allowed::Newest {
            checked.lost_allowed = self.undo_above(found.applied_lsn);
        }
        let mut taken: BTreeSet<u64> = self.replaced.drain(..).map(|(lsn, ..)| lsn).collect();
        let in_flight = std::mem::take(&mut self.in_flight);
        let mut memories: BTreeMap<&str, &Found> = BTreeMap::new();
        for memory in &found.memories {
            if memories.insert(&memory.id, memory).is_some() {
                checked.losses.push(self.loss(&memory.id, None, Some(memory)));
            }
        }
        let known: BTreeSet<String> = self
            .versions
            .keys()
            .chain(in_flight.keys())
            .map(String::as_str)
            .chain(memories.keys().copied())
            .map(str::to_owned)
            .collect();
        for id in known {
            let memory = memories.get(id.as_str()).copied();
            if is_version(&id, self.versions.get(&id), memory) {
                continue;
            }
            let sent = in_flight.get(&id);
            match (sent.map(|change| change.number), memory) {
                (Some(Some(number)), Some(memory))
                    if memory.holds(number)
                        && (self.shown_lsn + 1..=found.applied_lsn).contains(&memory.lsn)
                        && taken.insert(memory.lsn) =>
                {
                    self.versions.insert(id, Version { number: Some(number), lsn: memory.lsn });
                    checked.in_flight_kept += 1;
                }
                (Some(None), None) => {
                    self.versions.insert(id, Version { number: None, lsn: found.applied_lsn });
                    checked.in_flight_kept += 1;
                }
                _ => checked.losses.push(self.loss(&id, sent, memory)),
            }
        }
        self.shown_lsn = found.applied_lsn;
        checked
    }

    /// What the log says of itself.
    fn check_log(&self, found: &Snapshot, allowed: Allowed, checked: &mut Checked) {
        let mut log = |lsn, expected, found| checked.losses.push(Loss { id: None, lsn, expected, found });
        let acknowledged = self.replaced.last().map_or(0, |(lsn, ..)| *lsn);
        let last =
            if allowed == Allowed::Nothing { self.shown_lsn.max(acknowledged) } else { self.shown_lsn };
        if found.applied_lsn < last {
            log(
                Some(last),
                format!("a log up to LSN {last}"),
                format!("one that ends at LSN {}", found.applied_lsn),
            );
        }
        if let Some(memory) = found.memories.iter().find(|memory| memory.lsn > found.applied_lsn) {
            let expected = format!("no LSN above the log's last, {}", found.applied_lsn);
            log(None, expected, format!("LSN {} of {:?}", memory.lsn, memory.id));
        }
        if found.damaged_ranges > 0 {
            let damage = format!("{} damaged, {} records lost", found.damaged_ranges, found.lost_records);
            log(None, "a log without damage".to_owned(), damage);
        }
    }

    /// Forgets the acknowledgements above `horizon`; how many there were.
    fn undo_above(&mut self, horizon: u64) -> u64 {
        let mut undone = 0;
        while let Some((_, id, before)) = self.replaced.pop_if(|(lsn, ..)| *lsn > horizon) {
            // What its client sent later cannot be there either.
            self.in_flight.remove(&id);
            match before {
                Some(version) => self.versions.insert(id, version),
                None => self.versions.remove(&id),
            };
            undone += 1;
        }
        undone
    }

    fn loss(&self, id: &str, in_flight: Option<&Change>, found: Option<&Found>) -> Loss {
        let version = self.versions.get(id);
        let mut expected = match version {
            None => "nothing: it was never stored".to_owned(),
            Some(Version { number: None, lsn }) => format!("nothing: forgotten at LSN {lsn}"),
            Some(Version { number: Some(number), lsn }) => {
                describe(&content(id, *number), *lsn, embedding(*number).is_some(), None)
            }
        };
        if let Some(Change { number, .. }) = in_flight {
            let sent =
                number.map_or("nothing".to_owned(), |number| format!("{:?}", quote(&content(id, number))));
            expected = format!("{expected}; or what was in flight, {sent}");
        }
        let found = found.map_or("nothing".to_owned(), |it| {
            describe(&it.content, it.lsn, it.has_embedding, it.embedding.as_deref())
        });
        Loss { id: Some(id.to_owned()), lsn: version.map(|version| version.lsn), expected, found }
    }
}

impl Acknowledged {
    fn loss(&self, expected: String, found: String) -> Loss {
        Loss { id: Some(self.change.id.clone()), lsn: Some(self.lsn), expected, found }
    }
}

impl Found {
    /// Whether this is, in every respect, what `number` stands for.
    fn holds(&self, number: u64) -> bool {
        let sent = embedding(number);
        self.content == content(&self.id, number)
            && self.has_embedding == sent.is_some()
            && self
                .embedding
                .as_deref()
                .is_none_or(|numbers| sent.is_some_and(|sent| numbers.iter().eq(&sent)))
    }
}

fn is_version(id: &str, version: Option<&Version>, found: Option<&Found>) -> bool {
    match (version.and_then(|version| version.number.map(|number| (number, version.lsn))), found) {
        (None, None) => true,
        (Some((number, lsn)), Some(found)) => found.id == id && found.lsn == lsn && found.holds(number),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn describe(content: &str, lsn: u64, has_embedding: bool, embedding: Option<&[f32]>) -> String {
    let with = match embedding {
        Some(numbers) => format!("the embedding {numbers:?}"),
        None if has_embedding => "an embedding".to_owned(),
        None => "no embedding".to_owned(),
    };
    format!("{:?} ({} bytes) at LSN {lsn}, with {with}", quote(content), content.len())
}

/// The beginning of a content.
fn quote(content: &str) -> String {
    let start: String = content.chars().take(QUOTED_MAX).collect();
    if start.len() < content.len() { start + "…" } else { start }
}
