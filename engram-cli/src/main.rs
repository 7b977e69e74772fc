//! `engram`: a durable memory server for AI agents and applications.
//!
//! This crate is the process: flags, HTTP, signals, exit codes. What a memory is and how it is kept is in
//! `engram-core`, bytes on disk are in `engram-storage`. From the top down:
//!
//! - [`args`] is what was typed, [`settings`] what else has a say in it, [`config`] what will run, [`exit`] how it ends;
//! - [`start`] wires `engram start` together, [`boot`] opens the store for it, [`signals`] and [`logging`] are its
//!   ears and its voice, [`supervisor`] whom it tells that it is there, [`files`] and [`memory`] the room it has, [`system`]
//!   what it runs on, [`count`] its grammar;
//! - [`embed`] makes embeddings, where the server was given a model;
//! - [`service`] is the store without its blocking: what every way in (HTTP now) calls;
//! - [`server`] is HTTP: the accept loop, the routes, the problems;
//! - [`keys`] are who may ask, and `engram key`; [`client`] is how the other verbs talk to a server;
//! - [`mcp`] is the Model Context Protocol over these routes, or, as `engram mcp`, over those of a server elsewhere, which
//!   [`client`] asks;
//! - [`ask`] is what a user asks of a running server: `engram remember`, `recall` and so on;
//! - [`operator`] is what an operator asks of a log: `engram verify`, `wal`, `recover --report`, `repair`, `snapshot`, `restore`, and
//!   [`recovery_view`] what they and the server say of a recovery;
//! - [`doctor`] is what goes wrong before anybody asks; [`shell`] what shells and readers of manuals want;
//! - [`crashtest`] is `engram crashtest`, which runs the server as a user would, and kills it.

mod args;
mod ask;
mod boot;
mod client;
mod config;
mod count;
mod crashtest;
mod doctor;
mod embed;
mod exit;
mod files;
mod keys;
mod logging;
mod mcp;
mod memory;
mod numbers;
mod operator;
mod progress;
mod recovery_view;
mod server;
mod service;
mod settings;
mod shell;
mod signals;
mod start;
mod supervisor;
mod system;

use std::{env, process::ExitCode};

use args::{Args, Unread, Verb};
use exit::Exit;

fn main() -> ExitCode {
    let args = match Args::read(env::args_os()) {
        Ok(args) => args,
        Err(Unread::Answer(answer)) => return exit::of_clap(&answer).into(),
        Err(Unread::File(failure)) => return failure.report().into(),
    };
    let outcome = match args.verb {
        Verb::Start(args) => start::run(*args),
        Verb::Ask(verb) => ask::run(&verb),
        Verb::Stop(args) => operator::stop(&args),
        Verb::Mcp(args) => mcp::run(args),
        Verb::Verify(args) => operator::verify(&args),
        Verb::Wal(verb) => operator::wal(&verb),
        Verb::Recover(args) => operator::recover(&args),
        Verb::Repair(args) => operator::repair(&args),
        Verb::Snapshot(args) => operator::snapshot(&args),
        Verb::Restore(args) => operator::restore(&args),
        Verb::Reembed(args) => operator::reembed(args),
        Verb::Key(verb) => keys::verb::run(verb),
        Verb::Config(verb) => settings::show(verb),
        Verb::Doctor(args) => doctor::run(*args),
        Verb::Completions(args) => shell::completions(&args),
        Verb::Man(args) => shell::man(&args),
        Verb::Crashtest(args) => crashtest::run(&args),
    };
    match outcome {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => failure.report().into(),
    }
}
