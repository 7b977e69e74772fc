//! How the verbs talk to a server: where it is, and how to be let in.

mod call;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::http::{Method, Uri};
use serde_json::Value;
use ureq::{
    Agent,
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::{
    config::setting,
    exit::{Exit, Failure},
    keys::secret::Secret,
};

pub(crate) use call::{Call, NoReply, Reply};

/// Flags of the verbs that talk to a server.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// The server to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7432", env = "ENGRAM_SERVER")]
    server: String,

    /// A file with the key to send; the variable `ENGRAM_API_KEY` takes the key itself
    #[arg(long, value_name = "FILE", env = "ENGRAM_API_KEY_FILE", hide_env_values = true)]
    api_key_file: Option<PathBuf>,

    /// Certificates in PEM to trust, instead of those of the public authorities: of the server, or of who has signed it
    #[arg(long, value_name = "FILE", env = "ENGRAM_TLS_CA")]
    tls_ca: Option<PathBuf>,
}

/// A server, and the key for it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
    key: Option<Secret>,
}

/// Why a server did not do it.
pub(crate) enum Refused {
    /// Nobody answers, or somebody else does.
    NoServer(String),
    /// It wants a key, or another one.
    NotAllowed(String),
    /// It says why.
    Answered(String),
}

impl ServerArgs {
    pub(crate) fn new(server: String, api_key_file: Option<PathBuf>, tls_ca: Option<PathBuf>) -> Self {
        Self { server, api_key_file, tls_ca }
    }

    /// A client, with so much patience for each answer.
    pub(crate) fn client(&self, time_max: Duration) -> Result<Client, Failure> {
        let key = Secret::from_environment(self.api_key_file.as_deref())?;
        Client::new(&self.server, key, self.tls_ca.as_deref(), time_max)
    }
}

impl Client {
    /// A client of the server at `url`, who sends this key and trusts the certificates in this file, or those of the public
    /// authorities, with so much patience for each answer.
    ///
    /// # Errors
    /// What is no URL; a file without certificates.
    pub(crate) fn new(
        url: &str,
        key: Option<Secret>,
        trusted_file: Option<&Path>,
        time_max: Duration,
    ) -> Result<Self, Failure> {
        let is_url = |url: &Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
        if !url.parse().is_ok_and(|url| is_url(&url)) {
            return Err(Failure::new(
                Exit::Usage,
                format!("expected the URL of a server such as http://127.0.0.1:7432, got {url:?}"),
            )
            .help("correct --server, or ENGRAM_SERVER"));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(time_max))
            // A connection that was kept may be of a server that is gone, and then nobody knows what has reached it.
            .max_idle_connections(0)
            // Whom it would lead to gets no key.
            .max_redirects(0)
            .max_redirects_will_error(false);
        if call::loopback_address(url).is_some() {
            // What is on this machine is not asked for through a proxy.
            config = config.proxy(None);
        }
        if let Some(file) = trusted_file {
            config = config.tls_config(TlsConfig::builder().root_certs(trusted(file)?).build());
        }
        Ok(Self { agent: config.build().into(), url: url.trim_end_matches('/').to_owned(), key })
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Posts nothing to this path; the body of the answer, if it did what it was asked for.
    pub(crate) fn post(&self, path: &str) -> Result<Value, Refused> {
        let reply = self.call(&Call::new(Method::POST, path));
        let reply = reply.map_err(|no_reply| Refused::NoServer(no_reply.reason().to_owned()))?;
        if reply.is_success() {
            return Ok(reply.body);
        }
        let said = reply.field("detail").map(str::to_owned);
        let said = said.unwrap_or_else(|| format!("it answered {}", reply.status));
        Err(match reply.status {
            401 | 403 => Refused::NotAllowed(said),
            _ => Refused::Answered(said),
        })
    }
}

impl Refused {
    /// What it comes to; the verb's own affair are what `else_help` may do without a server, and what the server has
    /// `answered`.
    pub(crate) fn into_failure(
        self,
        url: &str,
        else_help: &str,
        answered: impl FnOnce(String) -> Failure,
    ) -> Failure {
        match self {
            Self::NoServer(reason) => {
                Failure::new(Exit::CannotListen, format!("no answer from {url}: {reason}"))
                    .help(format!("start the server, or name it with --server; {else_help}"))
            }
            Self::NotAllowed(said) => Failure::new(Exit::NotAllowed, format!("{url} has refused: {said}"))
                .help("set ENGRAM_API_KEY, or name a file with the key with --api-key-file"),
            Self::Answered(said) => answered(said),
        }
    }
}

fn trusted(file: &Path) -> Result<RootCerts, Failure> {
    let refused =
        |reason: String| setting(format!("expected certificates in PEM, got {}: {reason}", file.display()));
    let pem = std::fs::read(file).map_err(|e| refused(e.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| refused(e.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(refused("there is none in it".to_owned()));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}
