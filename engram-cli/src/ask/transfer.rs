//! `engram import` and `engram export`: any number of memories, a line each, as they come.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use axum::http::Method;
use serde_json::{Value, json};

use super::{SpaceArgs, TRANSFER_TIME_MAX, number, print, refused, text, unreachable};
use crate::{
    count::count,
    exit::{Exit, Failure},
    progress,
    server::percent_encoded,
};

/// Lines that were refused, as they are told; the server tells the first hundred.
const REFUSED_SHOWN_MAX: usize = 10;

/// Lines that were refused, as they are told as JSON.
const REFUSED_KEPT_MAX: usize = 100;

/// Lines that are sent in one request, and bytes with which no more are.
const LINES_SENT: u64 = 1_000;
const BYTES_SENT: usize = 1 << 20;

/// Bytes that are copied at once.
const COPY_BYTES: usize = 64 << 10;

/// How far it is where nobody knows how much there is.
const UNKNOWN_LENGTH: &str = "{spinner} {bytes}, {bytes_per_sec}";

/// Flags of `engram import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    at: SpaceArgs,

    /// The file; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The first line to store, to go on with an import that broke off
    #[arg(long, value_name = "N", default_value_t = 1)]
    from_line: u64,
}

pub(super) fn import(args: &ImportArgs) -> Result<(), Failure> {
    let unreadable = |e: io::Error| {
        Failure::new(Exit::Damaged, format!("cannot read {}: {e}", args.file.display()))
            .help("name a file with a memory a line, as `engram export` writes it, or - for standard input")
    };
    let (lines, length): (Box<dyn Read>, _) = if args.file == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(&args.file).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(unreadable(io::ErrorKind::IsADirectory.into()));
        }
        let length = metadata.len();
        (Box::new(file), Some(length))
    };
    let template = match length {
        Some(_) => "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go",
        None => UNKNOWN_LENGTH,
    };
    let bar = progress::bar(true, length, template);
    let client = args.at.server.client(TRANSFER_TIME_MAX)?;
    let mut lines = Lines { from: BufReader::new(bar.wrap_read(lines)), next: args.from_line };
    skip(&mut lines.from, args.from_line).map_err(unreadable)?;
    let mut done = Done::default();
    loop {
        let (first, part) = lines.part().map_err(unreadable)?;
        if part.is_empty() {
            break;
        }
        let reply = client
            .send_lines(&args.at.path("/import"), part)
            .map_err(|no_reply| unreachable(&client, &Method::POST, &no_reply));
        let stored =
            reply.and_then(|reply| if reply.is_success() { Ok(reply.body) } else { Err(refused(&reply)) });
        match stored {
            Ok(answer) => done.add(first, &answer),
            Err(failure) => {
                bar.finish_and_clear();
                return Err(done.broken_off(failure, first));
            }
        }
    }
    bar.finish_and_clear();
    print(args.at.json, &done.answer(), |output| {
        let [lines, created, updated, unchanged, _] = done.counts;
        let lines = count(lines, "line", "lines");
        output
            .line(&format!("{lines}: {created} created, {updated} updated, {unchanged} unchanged"))
            .map(drop)
    })?;
    match done.refused() {
        None => Ok(()),
        Some(message) => Err(Failure::new(Exit::Damaged, message)
            .help("correct these lines and import the file again: what is stored already is left as it is")),
    }
}

/// Lines as they are sent: some at a time. A server that ends a request early is not heard by who still sends.
struct Lines<R> {
    from: BufReader<R>,
    /// The line that comes next, counted from 1.
    next: u64,
}

impl<R: Read> Lines<R> {
    /// The next lines, and the number of the first; nothing at the end.
    fn part(&mut self) -> io::Result<(u64, Vec<u8>)> {
        let (first, mut part) = (self.next, Vec::new());
        while self.next - first < LINES_SENT && part.len() < BYTES_SENT {
            if self.from.read_until(b'\n', &mut part)? == 0 {
                break;
            }
            self.next += 1;
        }
        Ok((first, part))
    }
}

fn skip(lines: &mut impl io::BufRead, until: u64) -> io::Result<()> {
    for _ in 1..until {
        if lines.skip_until(b'\n')? == 0 {
            break;
        }
    }
    Ok(())
}

/// The keys of an answer that are numbers of lines.
const COUNTS: [&str; 5] = ["lines", "created", "updated", "unchanged", "refused"];

/// What has become of the lines that were sent.
#[derive(Default)]
struct Done {
    /// In the order of [`COUNTS`].
    counts: [u64; COUNTS.len()],
    /// The first that were refused, with their numbers in the file.
    errors: Vec<Value>,
    lsn: u64,
}

impl Done {
    fn add(&mut self, first: u64, answer: &Value) {
        for (count, name) in self.counts.iter_mut().zip(COUNTS) {
            *count += number(answer, name);
        }
        self.lsn = self.lsn.max(number(answer, "lsn"));
        let refused = answer["errors"].as_array().into_iter().flatten();
        let left = REFUSED_KEPT_MAX.saturating_sub(self.errors.len());
        self.errors.extend(refused.take(left).map(|it| {
            let line = first - 1 + number(it, "line");
            json!({"line": line, "error": it["error"]})
        }));
    }

    /// As the server answers when it gets all at once.
    fn answer(&self) -> Value {
        let mut answer = json!({"errors": self.errors, "lsn": self.lsn});
        for (count, name) in self.counts.iter().zip(COUNTS) {
            answer[name] = (*count).into();
        }
        answer
    }

    /// The lines that were refused, if there were any.
    fn refused(&self) -> Option<String> {
        let refused = self.counts[COUNTS.len() - 1];
        if refused == 0 {
            return None;
        }
        let mut message = format!("{} refused", count(refused, "line was", "lines were"));
        for it in self.errors.iter().take(REFUSED_SHOWN_MAX) {
            let line = number(it, "line").to_string();
            message.extend(["\n  line ", &line, ": ", text(&it["error"], "detail")]);
        }
        Some(message)
    }

    /// Why it ended before its lines did, and where it goes on.
    fn broken_off(&self, failure: Failure, first: u64) -> Failure {
        if self.counts[0] == 0 {
            return failure;
        }
        let before = format!("; all lines before {first} are stored");
        let refused = self.refused().map(|message| format!(", but {message}")).unwrap_or_default();
        failure
            .and(&format!("{before}{refused}"))
            .help(format!("go on with --from-line {first}: what is stored already is left as it is"))
    }
}

/// Flags of `engram export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    at: SpaceArgs,

    /// The file, which must not exist; - for standard output [default: -]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Leave embeddings out
    #[arg(long)]
    no_embeddings: bool,

    /// Which memories to write, such as '{"user": "ada"}'
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
}

pub(super) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let filter = args.filter.as_deref().map(|it| format!("&filter={}", percent_encoded(it)));
    let path = format!("/export?embeddings={}{}", !args.no_embeddings, filter.unwrap_or_default());
    let client = args.at.server.client(TRANSFER_TIME_MAX)?;
    let lines = client
        .lines(&args.at.path(&path))
        .map_err(|no_reply| unreachable(&client, &Method::GET, &no_reply))?;
    let lines = lines.map_err(|reply| refused(&reply))?;
    let bar = progress::bar(true, None, UNKNOWN_LENGTH);
    let file = args.file.as_deref().filter(|path| *path != Path::new("-"));
    let written = match file {
        None => copy(bar.wrap_read(lines), io::stdout().lock()),
        Some(path) => {
            let file = File::create_new(path).map_err(|e| {
                Failure::new(Exit::Failure, format!("cannot make {}: {e}", path.display()))
                    .help("name a file that does not exist: none is overwritten")
            })?;
            copy(bar.wrap_read(lines), &file).and_then(|lines| {
                file.sync_all().map_err(Copying::Write)?;
                Ok(lines)
            })
        }
    };
    bar.finish_and_clear();
    match written {
        Ok(lines) => {
            // Standard output is for the memories.
            let told = if file.is_some() {
                writeln!(io::stderr(), "{} written", count(lines, "memory", "memories"))
            } else {
                Ok(())
            };
            drop(told); // who closed it does not want to know
            Ok(())
        }
        // Who closes it early, as `head` does, has seen enough.
        Err(Copying::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Copying::Write(e)) => Err(Failure::new(Exit::Failure, format!("cannot write: {e}"))),
        Err(Copying::Read(e)) => Err(Failure::new(Exit::Failure, format!("the export broke off: {e}"))
            .help("what is written is incomplete: export again; the server's log may say why")),
    }
}

enum Copying {
    Read(io::Error),
    Write(io::Error),
}

/// Copies to the end; gives the number of lines.
fn copy(from: impl Read, to: impl Write) -> Result<u64, Copying> {
    let (mut from, mut to) = (BufReader::with_capacity(COPY_BYTES, from), BufWriter::new(to));
    let mut lines = 0;
    loop {
        let part = from.fill_buf().map_err(Copying::Read)?;
        if part.is_empty() {
            break;
        }
        to.write_all(part).map_err(Copying::Write)?;
        lines += part.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        let length = part.len();
        from.consume(length);
    }
    to.flush().map_err(Copying::Write)?;
    Ok(lines)
}
