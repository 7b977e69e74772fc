//! How texts are embedded: the flags, checked.

use std::{fs, path::Path, time::Duration};

use engram_core::DIMENSION_MAX;
use ureq::http::Uri;

use super::args::{EmbedArgs, Secret};
use crate::exit::{Exit, Failure};

/// The most texts of one request that can be asked for.
const BATCH_MAX: usize = 1_000;

/// The longest that one request may be waited for.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

/// Bytes of a key: a file with more is another file.
const KEY_BYTES_MAX: usize = 8 << 10;

/// How texts are embedded.
#[derive(Debug, Clone)]
pub(crate) struct EmbedConfig {
    pub(crate) source: Source,
    pub(crate) prefixes: Prefixes,
    /// Texts of one request: 1 to 1000.
    pub(crate) batch: usize,
    /// Whether a text without an embedding is refused.
    pub(crate) required: bool,
}

/// Who makes the embeddings.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Endpoint(EndpointConfig),
    #[cfg(feature = "local-model")]
    Directory(std::path::PathBuf),
}

/// What the model wants before a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Prefixes {
    pub(crate) document: String,
    pub(crate) query: String,
}

/// An OpenAI-compatible endpoint.
#[derive(Debug, Clone)]
pub(crate) struct EndpointConfig {
    /// Where the requests go, `…/embeddings`.
    pub(crate) url: String,
    pub(crate) model: String,
    pub(crate) key: Option<Secret>,
    pub(crate) dimensions: Option<usize>,
    pub(crate) timeout: Duration,
}

impl EmbedConfig {
    /// The key of the endpoint, if one is typed.
    pub(crate) fn key_of(args: &EmbedArgs) -> Result<Option<Secret>, Failure> {
        key(args)
    }

    /// Checks the flags; nothing when they ask for nothing.
    pub(crate) fn from_args(args: EmbedArgs) -> Result<Option<Self>, Failure> {
        let Some(source) = source(&args)? else {
            return if args.embed_required { Err(required_of_nobody()) } else { Ok(None) };
        };
        if !(1..=BATCH_MAX).contains(&args.embed_batch) {
            return Err(setting(format!(
                "expected an --embed-batch of 1 to {BATCH_MAX}, got {}",
                args.embed_batch
            )));
        }
        Ok(Some(Self {
            source,
            prefixes: Prefixes { document: args.embed_document_prefix, query: args.embed_query_prefix },
            batch: args.embed_batch,
            required: args.embed_required,
        }))
    }
}

fn source(args: &EmbedArgs) -> Result<Option<Source>, Failure> {
    #[cfg(feature = "local-model")]
    if let Some(directory) = &args.embed_model_dir {
        let directory = std::path::absolute(directory).map_err(|e| {
            setting(format!("expected an --embed-model-dir, got {:?}: {e}", directory.display()))
        })?;
        return Ok(Some(Source::Directory(directory)));
    }
    let Some(url) = &args.embed_url else {
        return match args.embed_model.as_deref() {
            None | Some("") => Ok(None),
            Some(_) => Err(setting("expected an --embed-url beside --embed-model, got none".to_owned())),
        };
    };
    let Some(model) = args.embed_model.clone().filter(|model| !model.is_empty()) else {
        return Err(setting("expected an --embed-model beside --embed-url, got none".to_owned()));
    };
    if let Some(n) = args.embed_dimensions.filter(|n| !(1..=DIMENSION_MAX).contains(n)) {
        return Err(setting(format!("expected --embed-dimensions of 1 to {DIMENSION_MAX}, got {n}")));
    }
    Ok(Some(Source::Endpoint(EndpointConfig {
        url: endpoint_url(url)?,
        model,
        key: key(args)?,
        dimensions: args.embed_dimensions,
        timeout: timeout(&args.embed_timeout)?,
    })))
}

fn required_of_nobody() -> Failure {
    setting("expected an --embed-url beside --embed-required, got none".to_owned())
}

/// Where the requests go. The URL is logged: it may have no password in it.
fn endpoint_url(typed: &str) -> Result<String, Failure> {
    let expected = "expected an --embed-url such as http://127.0.0.1:11434/v1";
    let uri: Uri = typed.parse().map_err(|e| setting(format!("{expected}, got {typed:?}: {e}")))?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if !is_http || !has_host || typed.contains(['?', '#']) {
        return Err(setting(format!("{expected}, got {typed:?}")));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(setting(format!(
            "{expected}, got one with a user or a password: put the key into --embed-key-file"
        )));
    }
    let base = typed.trim_end_matches('/');
    Ok(if base.ends_with("/embeddings") { base.to_owned() } else { format!("{base}/embeddings") })
}

fn key(args: &EmbedArgs) -> Result<Option<Secret>, Failure> {
    let Some(file) = &args.embed_key_file else { return checked_key(args.embed_key.clone()) };
    checked_key(Some(read_key(file)?))
}

fn read_key(file: &Path) -> Result<Secret, Failure> {
    let expected =
        |reason: String| setting(format!("expected a key of the endpoint in {}: {reason}", file.display()));
    let text = fs::read_to_string(file).map_err(|e| expected(e.to_string()))?;
    if text.trim().is_empty() || text.len() > KEY_BYTES_MAX {
        return Err(expected(format!("the file has {} bytes", text.len())));
    }
    text.parse().map_err(|_| expected("it cannot be read".to_owned()))
}

/// A key goes into a header, which takes no line ends.
fn checked_key(key: Option<Secret>) -> Result<Option<Secret>, Failure> {
    match key {
        Some(key) if !key.reveal().bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(setting("expected a key of the endpoint of printable ASCII, got other characters".to_owned()))
        }
        key => Ok(key.filter(|key| !key.reveal().is_empty())),
    }
}

/// Reads `30s` or `500ms`.
fn timeout(text: &str) -> Result<Duration, Failure> {
    let number = |digits: &str| digits.parse::<u32>().ok().filter(|&n| n > 0).map(u64::from);
    let time = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => number(digits).map(Duration::from_millis),
        (None, Some(digits)) => number(digits).map(Duration::from_secs),
        (None, None) => None,
    };
    time.filter(|time| *time <= TIMEOUT_MAX).ok_or_else(|| {
        let most = TIMEOUT_MAX.as_secs();
        setting(format!("expected an --embed-timeout such as 30s or 500ms, up to {most}s, got {text:?}"))
    })
}

fn setting(message: String) -> Failure {
    Failure::new(Exit::Setting, message).help("docs/embedding.md has lines to copy for the usual servers")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        embed: EmbedArgs,
    }

    fn config(flags: &[&str]) -> Result<Option<EmbedConfig>, String> {
        let flags = Flags::try_parse_from([&["engram"], flags].concat()).map_err(|e| e.to_string())?;
        EmbedConfig::from_args(flags.embed).map_err(|failure| failure.to_string())
    }

    fn endpoint(flags: &[&str]) -> Result<EndpointConfig, String> {
        match config(flags)?.expect("an embedder").source {
            Source::Endpoint(endpoint) => Ok(endpoint),
            #[cfg(feature = "local-model")]
            Source::Directory(directory) => panic!("a directory: {directory:?}"),
        }
    }

    #[test]
    fn nothing_is_embedded_unless_it_is_asked_for() {
        assert!(config(&[]).unwrap().is_none());
    }

    #[test]
    fn requests_go_to_embeddings_below_the_url() {
        for (typed, url) in [
            ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1/embeddings"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1/embeddings"),
            ("http://[::1]:80/embeddings", "http://[::1]:80/embeddings"),
        ] {
            let endpoint = endpoint(&["--embed-url", typed, "--embed-model", "m"]).unwrap();
            assert_eq!((&*endpoint.url, endpoint.timeout), (url, Duration::from_secs(30)));
        }
    }

    #[test]
    fn a_key_comes_from_a_file_and_is_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        fs::write(&file, "sk-secret\n").unwrap();
        let flags =
            ["--embed-url", "http://h", "--embed-model", "m", "--embed-key-file", file.to_str().unwrap()];
        let config = endpoint(&flags).unwrap();
        assert_eq!(config.key.as_ref().unwrap().reveal(), "sk-secret");
        assert!(!format!("{config:?}").contains("secret"));
        fs::write(&file, "two\nlines\n").unwrap();
        let error = endpoint(&flags).unwrap_err();
        assert!(error.contains("printable ASCII") && !error.contains("lines"), "{error}");
        fs::write(&file, "\n").unwrap();
        assert!(endpoint(&flags).unwrap_err().contains("has 1 bytes"));
    }

    #[test]
    fn a_wrong_setting_is_refused_with_what_came() {
        let with_url = |rest: &[&str]| {
            endpoint(&[&["--embed-url", "http://h/v1", "--embed-model", "m"], rest].concat()).unwrap_err()
        };
        for (flags, expected) in [
            (&["--embed-batch", "0"] as &[&str], "got 0"),
            (&["--embed-batch", "5000"], "1 to 1000, got 5000"),
            (&["--embed-timeout", "soon"], "got \"soon\""),
            (&["--embed-timeout", "0s"], "such as 30s or 500ms"),
            (&["--embed-timeout", "999999999s"], "up to 600s"),
            (&["--embed-dimensions", "70000"], "got 70000"),
            (&["--embed-key-file", "/nowhere/key"], "/nowhere/key"),
        ] {
            let error = with_url(flags);
            assert!(error.contains(expected), "{error}");
        }
        for (flags, expected) in [
            (&["--embed-required"] as &[&str], "beside --embed-required"),
            (&["--embed-url", "http://h"], "an --embed-model"),
            (&["--embed-url", "ftp://h", "--embed-model", "m"], "got \"ftp://h\""),
            (&["--embed-url", "localhost:11434", "--embed-model", "m"], "such as http://"),
            (&["--embed-url", "http://h/v1?x=1", "--embed-model", "m"], "got \"http://h/v1?x=1\""),
        ] {
            let error = config(flags).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = config(&["--embed-url", "http://me:hunter2@h/v1", "--embed-model", "m"]).unwrap_err();
        assert!(error.contains("--embed-key-file") && !error.contains("hunter2"), "{error}");
    }
}
