//! Clients that store, replace and forget until the server is gone or refuses, and what must be found afterwards.

use std::{collections::BTreeMap, thread};

use serde_json::json;

use crate::{random::Random, server::Server};

/// Ids of each client: few, so that most are replaced and forgotten many times.
const IDS: u64 = 12;

/// The most requests of a client whom nothing stops.
const REQUESTS_MAX: u64 = 200;

/// Bytes of the longest content: several sectors, so that a write can be torn.
const CONTENT_MAX: u64 = 3_000;

/// What a memory holds; nothing when it is not there.
type Content = Option<String>;

/// A client, and what it knows: it owns its ids.
pub(crate) struct Client {
    name: u64,
    /// As last acknowledged, or shown.
    known: BTreeMap<String, Content>,
    /// Sent, and not acknowledged.
    in_flight: Option<(String, Content)>,
    pub(crate) acknowledged: u64,
}

impl Client {
    pub(crate) fn new(name: u64) -> Self {
        Self { name, known: BTreeMap::new(), in_flight: None, acknowledged: 0 }
    }

    /// Works until a request has no receipt.
    fn work(&mut self, server: &Server, seed: u64) {
        let mut random = Random::new(seed ^ self.name);
        for _ in 0..REQUESTS_MAX {
            let id = format!("{}-{}", self.name, random.below(IDS));
            let is_there = self.known.get(&id).is_some_and(Option::is_some);
            let content = (!is_there || random.below(4) > 0).then(|| {
                let filler = usize::try_from(random.below(CONTENT_MAX)).unwrap();
                format!("{id} {:x} {}", random.below(1 << 40), "x".repeat(filler))
            });
            self.in_flight = Some((id.clone(), content.clone()));
            let path = format!("/v1/memories/{id}");
            let answer = match &content {
                Some(content) => {
                    let body = json!({"content": content}).to_string();
                    server.send("PUT", &path, "application/json", body.as_bytes()).ok()
                }
                None => server.try_delete(&path),
            };
            // A connection that breaks in the middle of an answer gives an empty one.
            let is_receipt = |status, text: &str| (200..300).contains(&status) && text.ends_with('}');
            if !answer.is_some_and(|answer| is_receipt(answer.status, &answer.text)) {
                return;
            }
            self.known.insert(id, content);
            self.in_flight = None;
            self.acknowledged += 1;
        }
    }

    /// What is shown must be what was acknowledged, or else what was in flight, whole; it stays from now on.
    fn check(&mut self, shown: &mut BTreeMap<String, String>) {
        let in_flight = self.in_flight.take();
        if let Some((id, _)) = &in_flight {
            self.known.entry(id.clone()).or_default();
        }
        for (id, known) in &mut self.known {
            let found = shown.remove(id);
            let is_in_flight = in_flight.as_ref().is_some_and(|(of, sent)| of == id && *sent == found);
            assert!(found == *known || is_in_flight, "{id}: {found:?} where {known:?} was acknowledged");
            *known = found;
        }
    }
}

/// Lets all clients work at the same time until each has found the server gone, or refusing, or has done enough.
pub(crate) fn work(clients: &mut [Client], server: &Server, seed: u64) {
    thread::scope(|scope| {
        for client in clients {
            scope.spawn(move || client.work(server, seed));
        }
    });
}

/// Compares what the server shows with what each client knows; nothing else may be there.
pub(crate) fn check(clients: &mut [Client], server: &Server) {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let memories = server.all_memories();
    let mut shown: BTreeMap<_, _> =
        memories.iter().map(|it| (text(&it["id"]), text(&it["content"]))).collect();
    assert_eq!(shown.len(), memories.len(), "none is there twice");
    for client in clients {
        client.check(&mut shown);
    }
    assert!(shown.is_empty(), "nobody has stored {shown:?}");
}
