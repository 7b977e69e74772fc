//! The real server, killed at a random moment under the load of 16 clients, again and again.
//!
//! `ENGRAM_SEED` repeats the choices of a run (not the machine's scheduling), `ENGRAM_KILLS` makes it longer.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what a run tried")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use random::{Random, count, seed};
use serde_json::{Value, json};
use server::Server;

const CLIENTS: u64 = 16;
const DIMENSION: u64 = 32;

/// One client's memories, as it knows them.
#[derive(Default)]
struct Client {
    /// What was acknowledged: the content's number and the LSN.
    acknowledged: BTreeMap<String, (u64, u64)>,
    /// What was sent and not answered: the id, and the content's number or nothing for a delete.
    in_flight: Option<(String, Option<u64>)>,
    /// All LSNs of this client's receipts.
    lsns: Vec<u64>,
}

fn content(id: &str, number: u64) -> String {
    format!("{id} holds number {number} {}", "words ".repeat((number % 40) as usize))
}

fn embedding(number: u64) -> Vec<f32> {
    let mut random = Random::new(number);
    (0..DIMENSION).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
}

impl Client {
    /// Works until the connection breaks. `acknowledge` is told of each answer.
    fn work(&mut self, server: &Server, name: &str, random: &mut Random, acknowledge: impl Fn()) {
        loop {
            let id = format!("{name}-{}", random.below(40));
            let forget = self.acknowledged.contains_key(&id) && random.below(4) == 0;
            let number = random.below(1 << 40);
            self.in_flight = Some((id.clone(), (!forget).then_some(number)));
            let answer = if forget {
                server.try_delete(&format!("/v1/memories/{id}"))
            } else {
                let body = json!({"content": content(&id, number), "embedding": embedding(number)});
                let path = format!("/v1/memories/{id}");
                server.send("PUT", &path, "application/json", body.to_string().as_bytes()).ok()
            };
            let Some(receipt) = answer.filter(|answer| matches!(answer.status, 200 | 201)) else { return };
            // The answer may be cut off with the server: then it is none.
            let Ok(receipt) = serde_json::from_str::<Value>(&receipt.text) else { return };
            assert_eq!(receipt["durability"], "synced", "{receipt}");
            let lsn = receipt["lsn"].as_u64().unwrap();
            self.lsns.push(lsn);
            self.in_flight = None;
            if forget {
                self.acknowledged.remove(&id);
            } else {
                self.acknowledged.insert(id, (number, lsn));
            }
            acknowledge();
        }
    }

    /// Compares with what the server holds after a restart, and takes over what became of the request in flight.
    fn check(&mut self, found: &BTreeMap<String, Value>, name: &str, server: &Server) {
        if let Some((id, number)) = self.in_flight.take() {
            let held = found.get(&id).map(|memory| memory["content"].as_str().unwrap());
            match (held, number) {
                (Some(text), Some(number)) if text == content(&id, number) => {
                    self.acknowledged.insert(id.clone(), (number, found[&id]["lsn"].as_u64().unwrap()));
                }
                (None, None) => drop(self.acknowledged.remove(&id)),
                // It was not stored: what was there before must be there, and is checked below.
                _ => {}
            }
        }
        let mine = found.keys().filter(|id| id.rsplit_once('-').is_some_and(|(client, _)| client == name));
        let expected: Vec<&String> = self.acknowledged.keys().collect();
        assert_eq!(mine.collect::<Vec<_>>(), expected, "{name}");
        for (id, (number, lsn)) in &self.acknowledged {
            let memory = &found[id];
            assert_eq!(
                (&memory["content"], &memory["lsn"]),
                (&json!(content(id, *number)), &json!(lsn)),
                "{id}"
            );
            let memory = server.memory(id).unwrap();
            let held: Vec<f64> =
                memory["embedding"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect();
            let sent = embedding(*number);
            let step = sent.iter().fold(0.0_f32, |max, n| max.max(n.abs())) / 127.0;
            for (held, sent) in held.iter().zip(&sent) {
                assert!((held - f64::from(*sent)).abs() <= f64::from(step) * 0.51, "{id}: {held} for {sent}");
            }
            assert_eq!(held.len(), sent.len());
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed_under_load() {
    let (seed, kills) = (seed(), count("ENGRAM_KILLS", 5));
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut random = Random::new(seed);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::default()).collect();
    let dimension = DIMENSION.to_string();
    let arguments = ["--fsync", "per-batch", "--dimension", &dimension];
    let (mut highest, mut total) = (0, 0);
    for kill in 0..=kills {
        let server = Server::start(directory.path(), &arguments);
        let found: BTreeMap<String, Value> = server
            .all_memories()
            .into_iter()
            .map(|memory| (memory["id"].as_str().unwrap().to_owned(), memory))
            .collect();
        for (i, client) in clients.iter_mut().enumerate() {
            client.check(&found, &format!("c{i}"), &server);
        }
        let lsn = server.get("/v1/status").expect(200)["applied_lsn"].as_u64().unwrap();
        assert!(lsn >= highest, "numbers go on: {lsn} after {highest}");
        highest = lsn;
        if kill == kills {
            break;
        }
        // The server is killed by whichever client gets so many-th answer.
        let (answers, kill_at) = (AtomicU64::new(0), 50 + random.below(3000));
        std::thread::scope(|scope| {
            for (i, client) in clients.iter_mut().enumerate() {
                let (server, answers) = (&server, &answers);
                let mut random = Random::new(seed ^ (kill << 32) ^ i as u64);
                scope.spawn(move || {
                    client.work(server, &format!("c{i}"), &mut random, || {
                        if answers.fetch_add(1, SeqCst) + 1 == kill_at {
                            server.signal("KILL");
                        }
                    });
                });
            }
        });
        drop(server);
        let new: Vec<u64> = clients.iter_mut().flat_map(|client| client.lsns.drain(..)).collect();
        assert!(new.iter().all(|lsn| *lsn > highest), "no number is given twice");
        assert_eq!(new.iter().collect::<HashSet<_>>().len(), new.len(), "no number is given twice");
        highest = new.iter().copied().max().unwrap_or(highest);
        total += new.len();
    }
    println!("{kills} kills, {total} acknowledged, 0 lost");
}
