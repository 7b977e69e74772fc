//! A model as flags of `engram start`, and the key that may go with it.

use ureq::http::Uri;

use super::super::{
    EmbedConfig,
    args::Secret,
    config::{EndpointConfig, Source},
};

/// The flags by which a server embeds by this model, as one types them to a shell. The key is not among them.
pub(super) fn of(config: &EmbedConfig) -> String {
    let mut flags = match &config.source {
        Source::Endpoint(EndpointConfig { url, model, key, dimensions, timeout }) => {
            let url = url.strip_suffix("/embeddings").unwrap_or(url);
            let mut flags = format!("--embed-url {} --embed-model {}", quoted(url), quoted(model));
            if let Some(dimensions) = dimensions {
                add(&mut flags, "dimensions", &dimensions.to_string());
            }
            if timeout.as_secs() != 30 || timeout.subsec_millis() != 0 {
                add(&mut flags, "timeout", &format!("{}ms", timeout.as_millis()));
            }
            if key.is_some() {
                add(&mut flags, "key-file", "FILE");
            }
            flags
        }
        #[cfg(feature = "local-model")]
        Source::Directory(directory) => {
            format!("--embed-model-dir {}", quoted(&directory.display().to_string()))
        }
    };
    for (name, prefix) in
        [("document-prefix", &config.prefixes.document), ("query-prefix", &config.prefixes.query)]
    {
        if !prefix.is_empty() {
            add(&mut flags, name, prefix);
        }
    }
    if config.batch != 32 {
        add(&mut flags, "batch", &config.batch.to_string());
    }
    if config.required {
        flags.push_str(" --embed-required");
    }
    flags
}

fn add(flags: &mut String, name: &str, value: &str) {
    flags.extend([" --embed-", name, " ", &quoted(value)]);
}

/// As a shell reads it back.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@,+=%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The key that a server was started with, if the endpoint at this URL is of the same origin: it goes nowhere else.
pub(crate) fn key_for(own: Option<&EmbedConfig>, url: &str) -> Option<Secret> {
    #[cfg_attr(
        not(feature = "local-model"),
        expect(irrefutable_let_patterns, reason = "a directory has no key")
    )]
    let Source::Endpoint(endpoint) = &own?.source else { return None };
    let is_its = origin(&endpoint.url).is_some_and(|own| origin(url) == Some(own));
    endpoint.key.clone().filter(|_| is_its)
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let url: Uri = url.parse().ok()?;
    let scheme = url.scheme_str()?.to_ascii_lowercase();
    let port = url.port_u16().or(match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })?;
    Some((scheme, url.host()?.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::super::config::Prefixes, *};

    fn config(url: &str, key: Option<&str>) -> EmbedConfig {
        let source = Source::Endpoint(EndpointConfig {
            url: format!("{url}/embeddings"),
            model: "m".to_owned(),
            key: key.map(|key| key.parse().unwrap()),
            dimensions: None,
            timeout: Duration::from_secs(30),
        });
        EmbedConfig { source, prefixes: Prefixes::default(), batch: 32, required: false }
    }

    #[test]
    fn flags_are_those_that_are_not_the_default_and_have_no_key() {
        assert_eq!(of(&config("http://h/v1", None)), "--embed-url http://h/v1 --embed-model m");
        let mut config = config("http://h/v1", Some("hidden"));
        config.prefixes = Prefixes { document: "it's: ".to_owned(), query: "q: ".to_owned() };
        (config.batch, config.required) = (8, true);
        match &mut config.source {
            Source::Endpoint(endpoint) => {
                (endpoint.dimensions, endpoint.timeout) = (Some(256), Duration::from_millis(1_500));
            }
            #[cfg(feature = "local-model")]
            Source::Directory(directory) => panic!("{directory:?}"),
        }
        assert_eq!(
            of(&config),
            "--embed-url http://h/v1 --embed-model m --embed-dimensions 256 --embed-timeout 1500ms --embed-key-file \
             FILE --embed-document-prefix 'it'\\''s: ' --embed-query-prefix 'q: ' --embed-batch 8 --embed-required"
        );
    }

    #[test]
    fn the_key_of_the_server_goes_to_its_own_origin_alone() {
        let own = config("https://api.example/v1", Some("k"));
        let is_given = |url: &str| key_for(Some(&own), url).is_some();
        for url in ["https://api.example/v2", "https://API.example:443/other"] {
            assert!(is_given(url), "{url}");
        }
        for url in [
            "http://api.example/v1",
            "https://api.example:8443/v1",
            "https://api.example.evil/v1",
            "https://evil/api.example/v1",
            "https://api.example@evil/v1",
            "nothing",
        ] {
            assert!(!is_given(url), "{url}");
        }
        assert!(key_for(None, "https://api.example/v1").is_none());
        assert!(key_for(Some(&config("https://h", None)), "https://h").is_none());
    }
}
