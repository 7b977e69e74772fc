//! `engram import` and `engram export`: any number of memories, a line each, as they come.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use axum::http::Method;

use super::{SpaceArgs, TRANSFER_TIME_MAX, number, print, refused, text, unreachable};
use crate::{
    count::count,
    exit::{Exit, Failure},
    progress,
    server::percent_encoded,
};

/// Lines that were refused, as they are told; the server tells the first hundred.
const REFUSED_SHOWN_MAX: usize = 10;

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
    let path = args.at.path(&format!("/import?from_line={}", args.from_line));
    let reply = client.send_lines(&path, bar.wrap_read(lines));
    bar.finish_and_clear();
    let reply = reply.map_err(|no_reply| unreachable(&client, &Method::POST, &no_reply))?;
    if !reply.is_success() {
        return Err(refused(&reply));
    }
    let answer = reply.body;
    print(args.at.json, &answer, |output| {
        let lines = count(number(&answer, "lines"), "line", "lines");
        let [created, updated, unchanged] =
            ["created", "updated", "unchanged"].map(|outcome| number(&answer, outcome));
        output
            .line(&format!("{lines}: {created} created, {updated} updated, {unchanged} unchanged"))
            .map(drop)
    })?;
    if number(&answer, "refused") == 0 {
        return Ok(());
    }
    let mut message = format!("{} refused", count(number(&answer, "refused"), "line was", "lines were"));
    for it in answer["errors"].as_array().into_iter().flatten().take(REFUSED_SHOWN_MAX) {
        let line = number(it, "line").to_string();
        message.extend(["\n  line ", &line, ": ", text(&it["error"], "detail")]);
    }
    Err(Failure::new(Exit::Damaged, message)
        .help("correct these lines and import the file again: what is stored already is left as it is"))
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
