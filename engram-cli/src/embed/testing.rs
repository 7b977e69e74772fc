//! Embedders for tests.

use std::time::Duration;

use super::{
    EmbedConfig, Embedder,
    config::{EndpointConfig, Prefixes, Source},
    embed_endpoint::EmbedEndpoint,
};

/// An embedder by this endpoint, without prefixes.
pub(crate) fn embedder(server: &EmbedEndpoint, batch: usize) -> Embedder {
    with_prefixes(server, batch, Prefixes::default())
}

pub(crate) fn with_prefixes(server: &EmbedEndpoint, batch: usize, prefixes: Prefixes) -> Embedder {
    let source = Source::Endpoint(EndpointConfig {
        url: format!("{}/embeddings", server.url),
        model: "test".to_owned(),
        key: None,
        dimensions: None,
        timeout: Duration::from_secs(30),
    });
    Embedder::open(&EmbedConfig { source, prefixes, batch, required: false }).unwrap()
}
