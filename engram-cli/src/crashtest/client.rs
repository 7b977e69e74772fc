//! One client: it owns its ids, and has one request in flight at most.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    load::Trigger,
    memories::{content, embedding},
    model::{Acknowledged, Change, Work},
    random::Random,
};

/// Ids that a client uses: few, so that most are replaced and forgotten many times.
const IDS: u64 = 50;

/// The most memories of one batch.
const BATCH_MAX: u64 = 12;

/// A client, and what it knows.
#[derive(Debug)]
pub(super) struct Client<'a> {
    agent: ureq::Agent,
    url: &'a str,
    name: String,
    random: Random,
    /// Which of its memories are there.
    present: BTreeSet<String>,
    work: Work,
}

#[derive(Debug, Deserialize)]
struct Receipt {
    id: String,
    lsn: u64,
    durability: String,
}

/// Why a client does no more.
enum End {
    /// The connection broke: the server is gone.
    Gone,
    /// The server answered with something else than a receipt.
    Refused(String),
}

impl<'a> Client<'a> {
    /// The client with this number, of a server where these memories are.
    pub(super) fn new(url: &'a str, number: u64, random: Random, present: &BTreeSet<String>) -> Self {
        let name = format!("c{number}-");
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        let present = present.iter().filter(|id| id.starts_with(&name)).cloned().collect();
        Self { agent: config.into(), url, name, random, present, work: Work::default() }
    }

    /// Stores, replaces and forgets until the server is gone. Gives what it did, and what was refused if anything was.
    pub(super) fn run(mut self, trigger: &Trigger) -> (Work, Option<String>) {
        loop {
            let before = self.work.acknowledged.len();
            let done = match self.random.below(8) {
                0 => self.store_batch(),
                1 | 2 => self.forget(),
                _ => self.store(),
            };
            trigger.count(self.work.acknowledged.len() - before);
            match done {
                Ok(()) => {}
                Err(End::Gone) => return (self.work, None),
                Err(End::Refused(answer)) => return (self.work, Some(answer)),
            }
        }
    }

    fn store(&mut self) -> Result<(), End> {
        let (id, number) = (self.id(), self.number());
        let body = body(&id, number);
        let path = format!("{}/v1/memories/{id}", self.url);
        self.send([Change { id, number: Some(number) }], |agent| {
            agent.put(path).content_type("application/json").send(body.to_string())
        })
    }

    fn store_batch(&mut self) -> Result<(), End> {
        let (first, len) = (self.random.below(IDS), 2 + self.random.below(BATCH_MAX - 1));
        let changes: Vec<Change> = (first..first + len)
            .map(|n| Change { id: format!("{}{}", self.name, n % IDS), number: Some(self.number()) })
            .collect();
        let body: Value =
            changes.iter().filter_map(|change| Some(body(&change.id, change.number?))).collect();
        let path = format!("{}/v1/memories/batch", self.url);
        self.send(changes, |agent| agent.post(path).content_type("application/json").send(body.to_string()))
    }

    /// Forgets one of its memories, or stores one if it has none.
    fn forget(&mut self) -> Result<(), End> {
        let chosen = self.random.index(self.present.len().max(1));
        let Some(id) = self.present.iter().nth(chosen).cloned() else { return self.store() };
        let path = format!("{}/v1/memories/{id}", self.url);
        self.send([Change { id, number: None }], |agent| agent.delete(path).call())
    }

    /// Sends the changes as one request, and takes in the receipts.
    fn send(
        &mut self,
        changes: impl Into<Vec<Change>>,
        request: impl FnOnce(&ureq::Agent) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<(), End> {
        self.work.in_flight = changes.into();
        let mut response = request(&self.agent).map_err(|_| End::Gone)?;
        // An answer that is cut off is none.
        let body = response.body_mut().with_config().limit(1 << 30).read_to_vec().map_err(|_| End::Gone)?;
        let refused = || {
            let body = String::from_utf8_lossy(&body);
            End::Refused(format!("{} to {:?}: {}", response.status(), self.work.in_flight, body.trim_end()))
        };
        if !response.status().is_success() {
            return Err(refused());
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|_| refused())?;
        let answers = if let Value::Array(answers) = answer { answers } else { vec![answer] };
        let receipts: Vec<Receipt> = answers
            .into_iter()
            .map(serde_json::from_value)
            .collect::<Result<_, _>>()
            .map_err(|_| refused())?;
        if !receipts.iter().map(|receipt| &receipt.id).eq(self.work.in_flight.iter().map(|change| &change.id))
        {
            return Err(refused());
        }
        for (change, receipt) in self.work.in_flight.drain(..).zip(receipts) {
            if change.number.is_some() {
                self.present.insert(change.id.clone());
            } else {
                self.present.remove(&change.id);
            }
            let Receipt { lsn, durability, .. } = receipt;
            self.work.acknowledged.push(Acknowledged { change, lsn, durability });
        }
        Ok(())
    }

    fn id(&mut self) -> String {
        format!("{}{}", self.name, self.random.below(IDS))
    }

    /// What a memory is to hold; no two are the same but by a rare chance, which would do no harm.
    fn number(&mut self) -> u64 {
        self.random.below(1 << 40)
    }
}

fn body(id: &str, number: u64) -> Value {
    let mut body = json!({"id": id, "content": content(id, number)});
    if let Some(embedding) = embedding(number) {
        body["embedding"] = embedding.as_slice().into();
    }
    body
}
