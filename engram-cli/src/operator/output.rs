//! Where results go, and how times and sizes look.

use std::io::{self, BufWriter, StdoutLock, Write as _};

use engram_core::chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// Standard output. Who closes it early, as `head` does, has seen enough: that is no failure.
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

/// Whether anybody still reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Listens,
    IsGone,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<Reader, Failure> {
        answer(self.0.write_all(text.as_bytes()).and_then(|()| self.0.write_all(b"\n")))
    }

    /// A line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<Reader, Failure> {
        answer(
            serde_json::to_writer(&mut self.0, value)
                .map_err(io::Error::from)
                .and_then(|()| self.0.write_all(b"\n")),
        )
    }

    /// All of it is written.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        answer(self.0.flush()).map(drop)
    }
}

fn answer(written: io::Result<()>) -> Result<Reader, Failure> {
    match written {
        Ok(()) => Ok(Reader::Listens),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::IsGone),
        Err(e) => Err(Failure::new(Exit::Failure, format!("cannot print: {e}"))),
    }
}

/// A time of the log, in microseconds since 1970, as RFC 3339.
pub(crate) fn time(us: u64) -> String {
    let time = i64::try_from(us).ok().and_then(DateTime::from_timestamp_micros);
    time.map_or_else(|| format!("{us} µs"), |time| time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// A size for people: three digits that matter.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_for_people() {
        assert_eq!(time(1_772_357_400_000_001), "2026-03-01T09:30:00.000001Z");
        assert_eq!(time(u64::MAX), "18446744073709551615 µs");
        assert_eq!(
            ["512 bytes", "64.0 KiB", "1.5 MiB"].map(str::to_owned),
            [512, 65_536, 1_572_864].map(size)
        );
    }
}
