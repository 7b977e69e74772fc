//! Clients that store memories until they are told to stop, or the server is gone.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::server::Server;

/// Waits until something is so that others bring about. They take far less time than this, or they never do it.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_mins(2), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs `meanwhile` while so many clients store memories; the ids of all that were acknowledged.
pub(crate) fn under_load(
    server: &Server,
    clients: usize,
    content_bytes: usize,
    meanwhile: impl FnOnce(&dyn Fn() -> usize),
) -> Vec<String> {
    /// Without this the clients would outlive a panic of `meanwhile`, and the test with them.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let (acknowledged, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let content = "x".repeat(content_bytes);
    thread::scope(|scope| {
        for client in 0..clients {
            let (acknowledged, is_over, content) = (&acknowledged, &is_over, &content);
            scope.spawn(move || {
                for n in 0.. {
                    let id = format!("{client}-{n}");
                    let body = json!({"id": id, "content": content}).to_string();
                    match server.send("POST", "/v1/memories", "application/json", body.as_bytes()) {
                        // A connection that breaks in the middle of an answer gives an empty one.
                        Ok(answer) if answer.status == 201 && answer.text.ends_with('}') => {
                            acknowledged.lock().unwrap().push(id);
                        }
                        Ok(_) | Err(_) => return,
                    }
                    if is_over.load(SeqCst) {
                        return;
                    }
                }
            });
        }
        let _over = Over(&is_over);
        meanwhile(&|| acknowledged.lock().unwrap().len());
    });
    acknowledged.into_inner().unwrap()
}

/// All of these are there, and all memories are whole.
pub(crate) fn check(server: &Server, acknowledged: &[String], content_bytes: usize) {
    let memories = server.all_memories();
    let found: std::collections::HashSet<&str> =
        memories.iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(found.len(), memories.len(), "none is there twice");
    let lost: Vec<_> = acknowledged.iter().filter(|id| !found.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "lost {} of {}: {lost:?}", lost.len(), acknowledged.len());
    assert!(memories.iter().all(|it| it["content"].as_str().unwrap().len() == content_bytes));
}
