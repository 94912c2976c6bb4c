//! `liveupdate-lab-init`: the first process of a lab's guest, its server, and its probes, in one static file.

mod bare;
mod boot;
mod held;
mod network;
mod serve;
mod services;
mod spoil;
mod store;

use std::process::ExitCode;

use bare::Written;
use liveupdate_lab_guest::probe::{self, Probe};
use liveupdate_lab_guest::trial::{self, Trial};
use liveupdate_proto::causes::chain;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return boot::first_process();
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["serve"] => serve::serve().map_err(|error| format!("the lab is out of reach: {error}")),
        ["enter", group, oom_score, program, args @ ..] => services::enter(group, oom_score, program, args),
        ["probe", json] => run_probe(json),
        ["trial", json] => run_trial(json),
        ["put", path, text] => spoil::put(path, text),
        ["get", path] => spoil::get(path),
        ["with-input", path, program, args @ ..] => store::with_input(path, program, args),
        ["kill", pid] => spoil::kill(pid),
        ["stubborn"] => spoil::stubborn(),
        ["held", service] => held::held(service),
        ["open", path] => spoil::open(path),
        ["session", name] => spoil::session(name),
        ["load", kernel, initrd] => spoil::load(kernel, initrd),
        ["jump", kernel, initrd, line] => bare::jump(kernel, initrd, line, Written::Synced),
        ["jump-unsynced", kernel, initrd, line] => bare::jump(kernel, initrd, line, Written::Left),
        ["preserve", address] => trial::preserve(address),
        ["unload"] => spoil::unload(),
        ["write-on", path] => spoil::write_on(path),
        ["memory"] => spoil::memory(),
        _ => Err("this is the first process of a lab's guest; see its source for what else it can do".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_probe(json: &str) -> Result<(), String> {
    let probe: Probe = serde_json::from_str(json).map_err(|error| format!("no such probe: {error}"))?;
    let report = probe::run(&probe).map_err(|error| chain(&error))?;
    println!("{}", serde_json::to_string(&report).map_err(|error| error.to_string())?);
    Ok(())
}

fn run_trial(json: &str) -> Result<(), String> {
    let trial: Trial = serde_json::from_str(json).map_err(|error| format!("no such trial: {error}"))?;
    trial::run(&trial)
}
