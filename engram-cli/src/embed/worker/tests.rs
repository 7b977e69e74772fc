//! The worker, with a store of the test's own.

use std::thread;

use engram_core::{Episode, FsyncMode, Precision};
use serde_json::json;
use tokio::{runtime, task::JoinHandle};

use super::{
    super::{
        embed_endpoint::{EmbedEndpoint, Reply, vector},
        progress::Snapshot,
        testing::embedder,
    },
    *,
};

const PACE: Pace = Pace {
    pause_min: Duration::from_millis(1),
    pause_max: Duration::from_millis(2),
    refused_retry: Duration::from_hours(1),
};

/// What takes longer will never come.
const HANGS: Duration = Duration::from_mins(1);

/// A store in memory alone, with these contents, each of which is its id, too.
fn store(contents: &[&str]) -> Arc<MemoryStore> {
    let store = MemoryStore::new(100).with_dimension(3).unwrap().with_precision(Precision::F32).unwrap();
    for content in contents {
        add(&store, content);
    }
    Arc::new(store)
}

fn add(store: &MemoryStore, content: &str) {
    store.store(Episode::text(content, content)).unwrap();
}

fn vector_of(store: &MemoryStore, id: &str) -> Option<Embedding> {
    store.get_with_embedding(id).unwrap().1
}

/// A worker at work.
struct Work {
    runtime: runtime::Runtime,
    worker: JoinHandle<()>,
    progress: Arc<Progress>,
}

impl Work {
    fn start(store: &Arc<MemoryStore>, server: &EmbedEndpoint, pace: Pace) -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let embed = EmbedService::new(embedder(server, 4), false);
        let progress = Arc::clone(embed.progress());
        let seat = Arc::new(Seat::new(Some(embed.clone())));
        let worker = Worker::new(Arc::clone(store), embed, seat, pace);
        let worker = runtime.spawn(worker.run());
        Self { runtime, worker, progress }
    }

    /// Its numbers, when it rests and has embedded so many memories.
    #[track_caller]
    fn at_rest_after(&self, embedded: u64) -> Snapshot {
        self.until(|now| (now.state, now.embedded) == (State::Idle, embedded))
    }

    /// Its numbers, once they are so.
    #[track_caller]
    fn until(&self, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let begun = Instant::now();
        loop {
            let now = self.progress.snapshot();
            if is_so(&now) {
                return now;
            }
            assert!(!self.worker.is_finished() && begun.elapsed() < HANGS, "{now:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.worker.abort();
        let idle = runtime::Builder::new_current_thread().build().unwrap();
        std::mem::replace(&mut self.runtime, idle).shutdown_background();
    }
}

#[test]
fn what_is_there_at_the_start_is_embedded_and_then_what_comes() {
    let (store, server) = (store(&["a", "b", "c", "d", "e", "f"]), EmbedEndpoint::of_words(3));
    let work = Work::start(&store, &server, PACE);
    work.at_rest_after(6);
    add(&store, "tea");
    work.progress.wake();
    assert_eq!(work.at_rest_after(7).last_error, None);
    assert_eq!(vector_of(&store, "tea"), Some(vector("tea", 3).into()));
    let sizes: Vec<usize> = server.requests().iter().map(|request| request.texts().len()).collect();
    assert_eq!((sizes, store.status().unembedded), (vec![4, 2, 1], 0));
}

#[test]
fn memories_of_all_spaces_are_embedded() {
    let (store, server) = (store(&["a"]), EmbedEndpoint::of_words(3));
    store.make_space("other", None).unwrap();
    store.space("other").unwrap().store(Episode::text("a", "tea")).unwrap();
    let work = Work::start(&store, &server, PACE);
    work.at_rest_after(2);
    let (_, of_other) = store.space("other").unwrap().get_with_embedding("a").unwrap();
    assert_eq!(of_other, Some(vector("tea", 3).into()));
    assert_eq!(vector_of(&store, "a"), Some(vector("a", 3).into()));
}

#[test]
fn what_fails_for_now_is_tried_until_it_works() {
    let store = store(&["a", "b"]);
    let server = EmbedEndpoint::start(|request| match request.number {
        0 => Reply::Text(429, "retry-after: 0\r\n", "slow down".to_owned()),
        1 => Reply::Half,
        2 => Reply::Json(401, json!({"error": {"message": "who are you?"}})),
        3 => Reply::Text(503, "", "loading".to_owned()),
        _ => Reply::Vectors(3),
    });
    let work = Work::start(&store, &server, PACE);
    let last_error = work.at_rest_after(2).last_error.unwrap();
    assert!(last_error.ends_with("loading"), "{last_error}");
}

#[test]
fn a_mistake_is_told_and_tried_now_and_then() {
    let server = EmbedEndpoint::start(|_| Reply::Json(401, json!({"error": {"message": "who are you?"}})));
    let work = Work::start(&store(&["a"]), &server, PACE);
    server.wait_for_requests(3);
    let now = work.progress.snapshot();
    assert!(now.last_error.unwrap().contains("who are you?"));
    assert_eq!((now.embedded, now.failed), (0, 0));
}

/// An endpoint that does not take the text "bad", the first so many times.
fn refusing(times: usize) -> EmbedEndpoint {
    EmbedEndpoint::start(move |request| {
        if request.number < times && request.texts().contains(&"bad") {
            Reply::Json(400, json!({"error": {"message": "not this"}}))
        } else {
            Reply::Vectors(3)
        }
    })
}

#[test]
fn a_text_that_is_not_taken_does_not_block_the_others_and_is_not_asked_for_again() {
    let (store, server) = (store(&["a", "bad", "c"]), refusing(usize::MAX));
    let work = Work::start(&store, &server, PACE);
    assert_eq!(work.at_rest_after(2).failed, 1);
    let asked = server.requests().len();
    add(&store, "d");
    work.progress.wake();
    assert_eq!(work.at_rest_after(3).failed, 1);
    assert_eq!(vector_of(&store, "bad"), None);
    let later = server.requests().split_off(asked);
    assert_eq!(later.iter().map(|request| request.texts().join(" ")).collect::<Vec<_>>(), ["d"]);
    store.store(Episode::text("bad", "better")).unwrap();
    work.progress.wake();
    assert_eq!(work.at_rest_after(4).failed, 0);
}

#[test]
fn a_text_that_was_not_taken_is_asked_for_again_after_a_while() {
    let (store, server) = (store(&["bad"]), refusing(4));
    let pace = Pace { refused_retry: Duration::from_millis(1), ..PACE };
    let work = Work::start(&store, &server, pace);
    assert_eq!(work.at_rest_after(1).failed, 0);
}

#[test]
fn a_memory_that_is_gone_or_another_meanwhile_gets_no_vector_of_its_old_text() {
    let store = store(&["gone", "changed", "kept"]);
    let of_server = Arc::clone(&store);
    let server = EmbedEndpoint::start(move |request| {
        if request.number == 0 {
            of_server.forget("gone").unwrap();
            of_server.store(Episode::text("changed", "tea")).unwrap();
        }
        Reply::Vectors(3)
    });
    let work = Work::start(&store, &server, PACE);
    let now = work.at_rest_after(2);
    assert_eq!((now.failed, now.last_error), (0, None));
    assert_eq!(vector_of(&store, "changed"), Some(vector("tea", 3).into()));
}

#[test]
fn a_store_that_takes_no_writes_costs_no_requests() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&[]);
    let store = Arc::into_inner(store).unwrap().with_wal(directory.path(), FsyncMode::None).unwrap();
    add(&store, "a");
    store.close().unwrap();
    let (store, server) = (Arc::new(store), EmbedEndpoint::of_words(3));
    let work = Work::start(&store, &server, PACE);
    let now = work.until(|now| now.state == State::Retrying);
    assert!(now.last_error.unwrap().contains("no writes"));
    assert_eq!(server.requests().len(), 0);
}
