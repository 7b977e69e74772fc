//! The index of words by itself: how fast texts enter it, alone and beside questions, how long questions take, and how
//! much memory a text takes.
//!
//! `cargo bench -p engram-core --bench words`. `ENGRAM_TEXTS_FILE` names a file with a text a line, of which texts of
//! about 120 characters are mixed; without it they are made up. `ENGRAM_BENCH_MEMORIES` says how many, as in
//! `100000,1000000`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]
#![allow(dead_code, unused_imports, reason = "not all of the index is measured, and none of its tests")]

#[path = "sample/texts.rs"]
mod texts;
// The index is no part of the public API.
#[path = "../engram-core/src/top_k.rs"]
mod top_k;
#[path = "../engram-core/src/words/mod.rs"]
mod words;

use std::{
    env, fs,
    hint::black_box,
    sync::{
        LazyLock, RwLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use texts::{NINE_COMMON, Texts};
use words::{Tokens, WordIndex};

const WRITES_PER_SECOND: u32 = 5_000;
const MIXED: Duration = Duration::from_secs(4);

fn main() {
    let texts = Texts::read();
    let counts = env::var("ENGRAM_BENCH_MEMORIES").unwrap_or_else(|_| "100000,1000000".to_owned());
    for count in counts.split(',').map(|count| count.parse::<usize>().unwrap()) {
        println!("\n## {count} texts\n");
        let all: Vec<String> = (0..count).map(|n| texts.nth(n)).collect();
        let before = resident();
        let index = filled(&all);
        println!("{:.0} bytes a text (resident memory)", (resident() - before) / count as f64);
        println!("\n| recall of 10 | mean CPU µs | p50 µs | p99 µs | max µs |\n|---|---|---|---|---|");
        let phrases: Vec<String> = (0..2_000).map(|n| texts.phrase(n, count)).collect();
        let numbers: Vec<String> = (0..2_000).map(|n| (n * 37 % count).to_string()).collect();
        let common = vec![NINE_COMMON.to_owned(); 500];
        let long: Vec<String> =
            all.chunks(count / 50).map(|some| some[..12.min(some.len())].join(" ")).collect();
        for (name, questions) in [
            ("one rare word", &numbers),
            ("three words of a text", &phrases),
            ("nine common words", &common),
            ("twelve texts at once", &long),
        ] {
            let began = seconds();
            let took = questions.iter().map(|question| timed(|| drop(black_box(ask(&index, question)))));
            let took = took.collect();
            let each = (seconds() - began) / questions.len() as f64;
            row(&format!("{name} | {:.1}", each * 1e6), took);
        }
        mixed(index, all, &texts, &phrases);
    }
}

fn ask(index: &WordIndex<u32>, question: &str) -> Vec<top_k::Scored<u32>> {
    index.search(question, 10, |_| true, |item| u64::from(*item))
}

/// An index of all texts; says how fast it was made.
fn filled(all: &[String]) -> WordIndex<u32> {
    let (mut index, mut making, mut inserting) = (WordIndex::new(), 0.0, 0.0);
    for (item, some) in (0_u32..).step_by(10_000).zip(all.chunks(10_000)) {
        let began = seconds();
        let tokens: Vec<Tokens> = some.iter().map(|text| Tokens::of(text)).collect();
        let made = seconds();
        tokens.iter().zip(item..).for_each(|(tokens, item)| {
            index.insert(tokens, item);
        });
        (making, inserting) = (making + made - began, inserting + seconds() - made);
    }
    let rate = |seconds: f64| all.len() as f64 / seconds;
    println!(
        "text to words {:.0}/s, words into the index {:.0}/s, both {:.0}/s (of CPU time)",
        rate(making),
        rate(inserting),
        rate(making + inserting)
    );
    index
}

/// One thread changes texts at a steady pace, half of them new ones, and one asks all the time.
fn mixed(index: WordIndex<u32>, mut all: Vec<String>, texts: &Texts, phrases: &[String]) {
    let mut docs = Vec::new();
    // The documents in the order of the texts, as they were inserted.
    let index = {
        drop(index);
        let mut index = WordIndex::new();
        docs.extend(all.iter().zip(0..).map(|(text, item)| index.insert(&Tokens::of(text), item)));
        RwLock::new(index)
    };
    let is_over = AtomicBool::new(false);
    let (mut writes, mut recalls, mut late) = (Vec::new(), Vec::new(), Duration::ZERO);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut took = Vec::new();
            for n in (0..).take_while(|_| !is_over.load(SeqCst)) {
                let question = if n % 10 == 0 { NINE_COMMON } else { &phrases[n % phrases.len()] };
                took.push(timed(|| drop(black_box(ask(&index.read().unwrap(), question)))));
            }
            took
        });
        let began = Instant::now();
        for n in 0.. {
            let due = MIXED.min(Duration::from_secs(1) * n as u32 / WRITES_PER_SECOND);
            if due == MIXED {
                break;
            }
            while began.elapsed() < due {
                thread::sleep(Duration::from_micros(50));
            }
            late = late.max(began.elapsed().saturating_sub(due));
            let (item, text) = (all.len() as u32, texts.nth(all.len() + n));
            writes.push(timed(|| {
                let tokens = Tokens::of(&text);
                if n % 2 == 0 {
                    docs.push(index.write().unwrap().insert(&tokens, item));
                } else {
                    let at = n * 7_919 % all.len();
                    let before = Tokens::of(&all[at]);
                    let mut index = index.write().unwrap();
                    index.remove(docs[at], &before);
                    docs[at] = index.insert(&tokens, item);
                }
            }));
            if n % 2 == 0 {
                all.push(text);
            } else {
                let at = n * 7_919 % all.len();
                all[at] = text;
            }
        }
        is_over.store(true, SeqCst);
        recalls = reader.join().unwrap();
    });
    println!(
        "\n| {WRITES_PER_SECOND} writes/s beside recalls | p50 µs | p99 µs | max µs |\n|---|---|---|---|"
    );
    let rate = recalls.len() as f64 / MIXED.as_secs_f64();
    row("a write, waiting included", writes);
    row(&format!("a recall, waiting included ({rate:.0}/s)"), recalls);
    println!("\nThe latest write came {:.1} ms after it was due.", late.as_secs_f64() * 1e3);
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn row(name: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("| {name} | {:.1} | {:.1} | {:.0} |", at(0.5), at(0.99), at(1.0));
}

/// Of this thread's work, where the system tells (Linux), so that other work on the machine counts less; otherwise of the
/// clock.
fn seconds() -> f64 {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|told| told.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| BEGAN.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Bytes, where the system tells (Linux).
fn resident() -> f64 {
    let told = fs::read_to_string("/proc/self/statm").ok();
    let pages = told.and_then(|told| told.split(' ').nth(1)?.parse::<f64>().ok());
    pages.unwrap_or(0.0) * 4096.0
}
