//! The flags of HTTP, and what they come to.

use std::path::PathBuf;

use axum::http::Uri;
use clap::{ArgAction, builder::BoolishValueParser};
use tokio::sync::Semaphore;

use super::{origin::Allowed, tls::TlsFiles};
use crate::{config::setting, exit::Failure, keys::secret::Secret};

/// Flags of `engram start` about who may ask, and how much at once.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct HttpArgs {
    /// A file with a key that may do everything; the variable `ENGRAM_API_KEY` takes the key itself. `engram key` makes others
    #[arg(long, value_name = "FILE", env = "ENGRAM_API_KEY_FILE", hide_env_values = true)]
    api_key_file: Option<PathBuf>,

    /// Serve beyond this machine without any key
    #[arg(long, env = "ENGRAM_INSECURE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    insecure: bool,

    /// The server's certificate and its chain, in PEM: serve TLS
    #[arg(long, value_name = "FILE", env = "ENGRAM_TLS_CERT")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", env = "ENGRAM_TLS_KEY")]
    tls_key: Option<PathBuf>,

    /// Requests that are answered at once; those beyond are told to come again
    #[arg(long, value_name = "N", default_value_t = 512, env = "ENGRAM_MAX_IN_FLIGHT")]
    max_in_flight: usize,

    /// A name that the server has for its clients, beside localhost; again for another one
    #[arg(long = "allowed-host", value_name = "HOST", env = "ENGRAM_ALLOWED_HOSTS", value_delimiter = ',')]
    allowed_hosts: Vec<String>,

    /// An origin (scheme, host and port) whose pages may send requests, beside those on loopback; again for another one
    #[arg(
        long = "allowed-origin",
        value_name = "ORIGIN",
        env = "ENGRAM_ALLOWED_ORIGINS",
        value_delimiter = ','
    )]
    allowed_origins: Vec<String>,
}

/// The flags, checked.
#[derive(Debug)]
pub(crate) struct HttpConfig {
    /// The key of the environment, which may do everything.
    pub(crate) root_key: Option<Secret>,
    pub(crate) insecure: bool,
    pub(crate) tls: Option<TlsFiles>,
    /// At least 1.
    pub(crate) in_flight_max: usize,
    pub(crate) allowed: Allowed,
}

impl HttpConfig {
    pub(crate) fn from_args(args: HttpArgs) -> Result<Self, Failure> {
        let tls = match (args.tls_cert, args.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(setting("expected --tls-key with --tls-cert, got none".to_owned()));
            }
            (None, Some(_)) => {
                return Err(setting("expected --tls-cert with --tls-key, got none".to_owned()));
            }
        };
        if !(1..=Semaphore::MAX_PERMITS).contains(&args.max_in_flight) {
            let got = args.max_in_flight;
            return Err(setting(format!("expected --max-in-flight of at least 1, got {got}")));
        }
        if let Some(host) = args.allowed_hosts.iter().find(|host| !is_host(host)) {
            return Err(setting(format!(
                "expected a host such as memory.example or memory.example:8443, got {host:?}"
            )));
        }
        if let Some(origin) = args.allowed_origins.iter().find(|origin| !is_origin(origin)) {
            let expected = "expected an origin such as https://app.example, without a path";
            return Err(setting(format!("{expected}, got {origin:?}")));
        }
        Ok(Self {
            root_key: Secret::from_environment(args.api_key_file.as_deref())?,
            insecure: args.insecure,
            tls,
            in_flight_max: args.max_in_flight,
            allowed: Allowed { hosts: args.allowed_hosts, origins: args.allowed_origins },
        })
    }
}

fn is_host(text: &str) -> bool {
    text.parse()
        .is_ok_and(|uri: Uri| uri.authority().is_some_and(|it| it.as_str() == text && !text.contains('@')))
}

/// One with a path would never be equal to what browsers send.
fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty()
            && scheme.bytes().all(|it| it.is_ascii_alphanumeric() || b"+-.".contains(&it))
            && is_host(host)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::exit::Exit;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        http: HttpArgs,
    }

    fn config(flags: &[&str]) -> Result<HttpConfig, Failure> {
        HttpConfig::from_args(Words::try_parse_from(["engram"].iter().chain(flags)).unwrap().http)
    }

    #[test]
    fn the_flags_are_checked() {
        let default = config(&[]).unwrap();
        assert_eq!((default.insecure, default.in_flight_max, default.tls.is_none()), (false, 512, true));
        let set = [
            "--insecure",
            "--allowed-host",
            "engram,engram:8443",
            "--allowed-origin",
            "https://app.example:1",
        ];
        let set = config(&set).unwrap();
        assert_eq!(set.allowed.hosts, ["engram", "engram:8443"]);
        assert!(set.insecure && set.allowed.origins == ["https://app.example:1"]);
        assert!(config(&["--allowed-origin", "chrome-extension://abc"]).is_ok());
        for (flags, expected) in [
            (["--tls-cert", "x"], "--tls-key"),
            (["--tls-key", "x"], "--tls-cert"),
            (["--max-in-flight", "0"], "got 0"),
            (["--allowed-host", "http://engram"], "got \"http://engram\""),
            (["--allowed-host", "engram/x"], "got \"engram/x\""),
            (["--allowed-host", "*"], "got \"*\""),
            (["--allowed-origin", "app.example"], "got \"app.example\""),
            (["--allowed-origin", "https://app.example/"], "got \"https://app.example/\""),
            (["--api-key-file", "/nowhere/key"], "/nowhere/key"),
        ] {
            let failure = config(&flags).unwrap_err();
            assert_eq!(failure.exit(), Exit::Setting, "{flags:?}");
            assert!(failure.to_string().contains(expected), "{failure}");
        }
    }
}
