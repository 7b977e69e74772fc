//! TLS, by rustls: versions 1.2 and 1.3, and the ciphers that it holds for safe.

use std::{
    fmt::{self, Display},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use tracing::{info, warn};

use crate::{
    exit::{Exit, Failure},
    files::Version,
};

/// Where the server's identity is, in PEM.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// What makes TLS of connections, with what is in the files now: certificates are renewed while a server runs.
pub(crate) struct Tls {
    files: TlsFiles,
    read: Mutex<Read>,
}

struct Read {
    /// Of the files when they were last read, whatever came of it.
    versions: Versions,
    /// Of the last that could be used.
    acceptor: TlsAcceptor,
}

/// Of the certificate and of the key; nothing where one cannot be looked at.
type Versions = Option<(Version, Version)>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be read, or do not belong together.
    pub(crate) fn open(files: &TlsFiles) -> Result<Self, Failure> {
        let versions = files.versions();
        let acceptor = acceptor(files)?;
        Ok(Self { files: files.clone(), read: Mutex::new(Read { versions, acceptor }) })
    }

    /// For the next connection. Files that cannot be used change nothing, but for a warning: one of them may be replaced
    /// a moment before the other.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before they are read: a change in between is seen the next time.
        let versions = self.files.versions();
        if versions != read.versions {
            read.versions = versions;
            let certificate = self.files.certificate.display();
            match acceptor(&self.files) {
                Ok(acceptor) => {
                    info!("{certificate} has changed, and is served from now on");
                    read.acceptor = acceptor;
                }
                Err(failure) => warn!("still serving the certificate before: {failure}"),
            }
        }
        read.acceptor.clone()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl TlsFiles {
    fn versions(&self) -> Versions {
        let versions: io::Result<_> =
            Version::of(&self.certificate).and_then(|it| Ok((it, Version::of(&self.key)?)));
        versions.ok()
    }
}

/// What makes TLS of a connection, with what is in the files now.
fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, Failure> {
    let TlsFiles { certificate, key } = files;
    let no_certificate = |reason: &dyn Display| refused("a certificate in PEM", certificate, reason);
    let no_key = |reason: &dyn Display| refused("a private key in PEM", key, reason);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|e| no_certificate(&e))?;
    if chain.is_empty() {
        return Err(no_certificate(&"there is none in it"));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| no_key(&e))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|e| {
        let files = format!("{} and {}", certificate.display(), files.key.display());
        Failure::new(Exit::Setting, format!("TLS cannot be served with {files}: {e}"))
            .help("name a certificate with --tls-cert, its chain after it, and with --tls-key the key that it is of")
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn refused(expected: &str, file: &std::path::Path, reason: &dyn Display) -> Failure {
    Failure::new(Exit::Setting, format!("expected {expected}, got {}: {reason}", file.display()))
        .help("the files of --tls-cert and --tls-key must be PEM, and readable for the server's user")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(certificate: &str, key: &str) -> Result<(), String> {
        let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/tls"));
        let files = TlsFiles { certificate: fixtures.join(certificate), key: fixtures.join(key) };
        let accepted = acceptor(&files).map(drop);
        accepted.map_err(|failure| {
            assert_eq!(failure.exit(), Exit::Setting);
            failure.to_string()
        })
    }

    #[test]
    fn files_that_are_no_identity_are_refused_by_name() {
        assert_eq!(of("certificate.pem", "key.pem"), Ok(()));
        for (certificate, key, expected) in [
            ("missing.pem", "key.pem", "missing.pem"),
            ("certificate.pem", "missing.pem", "missing.pem"),
            ("key.pem", "key.pem", "a certificate in PEM"),
            ("README.md", "key.pem", "README.md"),
            ("certificate.pem", "certificate.pem", "a private key in PEM"),
            ("certificate.pem", "other-key.pem", "TLS cannot be served with"),
        ] {
            let refused = of(certificate, key).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
