//! What embeds texts, if the server is to.

use std::time::{Duration, Instant};

use super::finding::Finding;
use crate::{
    config::StartConfig,
    embed::{Embedder, Kind},
};

/// How long a model may take to embed one word.
const PROBE_TIME_MAX: Duration = Duration::from_secs(10);

/// A question waits for its embedding: one that takes longer is felt.
const SLOW: Duration = Duration::from_millis(500);

/// Asks the model for one embedding.
pub(super) fn embedder(config: &StartConfig) -> Option<Finding> {
    let embedder = match Embedder::open(config.embed.as_ref()?) {
        Ok(embedder) => embedder,
        Err(failure) => return Some(Finding::of_failure("model", &failure)),
    };
    let (source, name) = (embedder.source(), embedder.identity().name);
    // Of a model in this process the length is known without it.
    let began = Instant::now();
    Some(match embedder.embed_query("ping", PROBE_TIME_MAX) {
        Err(error) => {
            let mend = match error.kind {
                Kind::Misconfigured => "correct --embed-url, --embed-model or the key",
                _ => "start it, or correct --embed-url; until it answers, memories are recalled by words",
            };
            Finding::failed("model", format!("{name}: {error}"), mend)
        }
        Ok(vector) => {
            let (took, numbers) = (began.elapsed(), vector.len());
            let found = format!("{name} at {source}: {numbers} dimensions, {} ms", took.as_millis());
            match config.dimension {
                Some(wanted) if wanted != numbers => Finding::failed(
                    "model",
                    format!("{found}, and --dimension is {wanted}"),
                    "leave out --dimension, or choose another model; `engram reembed` changes that of a store",
                ),
                _ if took > SLOW => {
                    let mend = "each recall by text waits as long: run the model nearer, or a smaller one";
                    Finding::warning("model", format!("{found}: slow"), mend)
                }
                _ => Finding::ok("model", found),
            }
        }
    })
}
