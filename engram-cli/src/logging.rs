//! Log lines, to stderr. Whoever reads them may be slow, stuck or gone: the server never waits for it.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use chrono::{SecondsFormat, Utc};
use clap::ValueEnum;
use serde_json::json;
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    count::count,
    exit::{Exit, Failure},
};

/// Lines that wait for a slow reader. What comes when there are so many is dropped and counted.
const LINES_WAITING_MAX: usize = 8_192;

/// How long the end of the process waits for lines to be read.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// What a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// An object: `timestamp`, `level`, `message`, the fields of the event, and under `span` the request it is of.
    Json,
}

/// Starts logging. Lines are written out by a thread of their own: a pipe that nobody empties would otherwise block
/// each thread that logs, and with it the server.
pub(crate) fn start(filter: EnvFilter, format: LogFormat) -> Result<LogFlush, Failure> {
    let (messages, received) = sync_channel(LINES_WAITING_MAX);
    let lines = Lines { messages, dropped: Arc::default() };
    let dropped = Arc::clone(&lines.dropped);
    thread::Builder::new()
        .name("engram-log".to_owned())
        .spawn(move || write_out(&received, &dropped, format))
        .map_err(|e| Failure::new(Exit::Failure, format!("cannot start the thread that logs: {e}")))?;
    let flush = LogFlush(lines.messages.clone());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Without this a line that cannot be written panics, since the complaint about it cannot be either.
        .log_internal_errors(false)
        .with_target(false)
        .with_writer(lines);
    // The library of the protocol logs what it is asked and what it answers, and no log has contents, whatever its filter.
    let ours = filter_fn(|metadata| !metadata.target().starts_with("rmcp"));
    match format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).finish().with(ours).init(),
        LogFormat::Json => {
            let subscriber = subscriber.with_ansi(false).json().flatten_event(true).with_span_list(false);
            subscriber.finish().with(ours).init();
        }
    }
    Ok(flush)
}

/// Waits for the lines logged so far when it is dropped, for as long as is reasonable.
pub(crate) struct LogFlush(SyncSender<Message>);

impl Drop for LogFlush {
    fn drop(&mut self) {
        let (written, wait) = sync_channel(1);
        // A full channel or a late answer means that nobody reads: there is nobody to wait for.
        if self.0.try_send(Message::Flush(written)).is_ok() {
            wait.recv_timeout(FLUSH_TIME_MAX).ok();
        }
    }
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where log lines go: to the thread that writes them out.
struct Lines {
    messages: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    /// Takes a whole line: the formatter writes each event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.messages.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_out(messages: &Receiver<Message>, dropped: &AtomicU64, format: LogFormat) {
    let mut stderr = io::stderr();
    // Every result is ignored here: a stderr that is closed or full has no place to complain to.
    for message in messages {
        match message {
            Message::Line(line) => drop(stderr.write_all(&line)),
            Message::Flush(written) => drop(written.send(())),
        }
        match dropped.swap(0, Relaxed) {
            0 => {}
            lines => drop(writeln!(stderr, "{}", of_dropped(lines, format))),
        }
    }
}

/// What is said in place of lines that were dropped.
fn of_dropped(lines: u64, format: LogFormat) -> String {
    let message = format!("{} dropped: stderr was not read", count(lines, "log line was", "log lines were"));
    match format {
        LogFormat::Text => format!("({message})"),
        LogFormat::Json => {
            let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
            json!({"timestamp": timestamp, "level": "WARN", "message": message, "lines": lines}).to_string()
        }
    }
}
