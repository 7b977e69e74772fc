//! What a server shows: all memories, and how its log ended.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};

use super::random::Random;

/// Memories of one page.
const PAGE: usize = 1_000;

/// How long an answer may take. It is far longer than any should, and ends the test.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(2);

/// What a server holds.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) memories: Vec<Found>,
    /// The last change that readers see.
    pub(super) applied_lsn: u64,
    /// Places of the log that recovery could not read, and the records that were in them.
    pub(super) damaged_ranges: u64,
    pub(super) lost_records: u64,
}

/// A memory, as it is read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) content: String,
    pub(super) lsn: u64,
    pub(super) has_embedding: bool,
    /// Nothing where it was not asked for.
    pub(super) embedding: Option<Vec<f32>>,
}

/// Which embeddings are read. They come one by one, all else page by page.
#[derive(Debug)]
pub(super) enum Embeddings<'r> {
    Sample(usize, &'r mut Random),
    All,
}

#[derive(Debug, Deserialize)]
struct Page {
    memories: Vec<Found>,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Status {
    applied_lsn: u64,
    recovery: Option<Recovery>,
}

#[derive(Debug, Deserialize)]
struct Recovery {
    damaged_ranges: u64,
    lost_records: u64,
}

impl Snapshot {
    /// Reads all that the server at `url` holds.
    ///
    /// # Errors
    /// In words, when it does not answer as it should.
    pub(super) fn read(url: &str, embeddings: Embeddings) -> Result<Self, String> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(ANSWER_TIME_MAX))
            .build();
        let reader = Reader { agent: config.into(), url };
        let status: Status = reader.get("/v1/status")?;
        let mut memories = reader.memories()?;
        let with_embedding: Vec<usize> = (0..memories.len()).filter(|&i| memories[i].has_embedding).collect();
        let chosen: Vec<usize> = match embeddings {
            Embeddings::All => with_embedding,
            Embeddings::Sample(n, random) if !with_embedding.is_empty() => {
                (0..n).map(|_| with_embedding[random.index(with_embedding.len())]).collect()
            }
            Embeddings::Sample(..) => Vec::new(),
        };
        for i in chosen {
            let path = format!("/v1/memories/{}?include=embedding", memories[i].id);
            memories[i] = reader.get(&path)?;
        }
        let Status { applied_lsn, recovery } = status;
        let (damaged_ranges, lost_records) =
            recovery.map_or((0, 0), |it| (it.damaged_ranges, it.lost_records));
        Ok(Self { memories, applied_lsn, damaged_ranges, lost_records })
    }
}

struct Reader<'u> {
    agent: ureq::Agent,
    url: &'u str,
}

impl Reader<'_> {
    fn memories(&self) -> Result<Vec<Found>, String> {
        let mut memories = Vec::new();
        let mut cursor = String::new();
        loop {
            let page: Page = self.get(&format!("/v1/memories?limit={PAGE}{cursor}"))?;
            memories.extend(page.memories);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(memories),
            }
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let failed = |error: &dyn std::fmt::Display| format!("GET {path}: {error}");
        let mut response = self.agent.get(format!("{}{path}", self.url)).call().map_err(|e| failed(&e))?;
        let body = response.body_mut().with_config().limit(1 << 30).read_to_vec().map_err(|e| failed(&e))?;
        if response.status() != 200 {
            return Err(failed(&format!("{}: {}", response.status(), String::from_utf8_lossy(&body))));
        }
        serde_json::from_slice(&body).map_err(|e| failed(&e))
    }
}
