//! `liveupdate-lab-pod`: what containers of a lab's node run, in one static file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use liveupdate_lab_guest::bystander;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["pause"] => asked_to_end(),
        ["bystand", file, seconds] => bystand(file, seconds),
        ["once", file, program, args @ ..] => once(file, program, args),
        ["into", file, program, args @ ..] => into(file, program, args),
        _ => Err(io::Error::other("pause | bystand FILE SECONDS | (once | into) FILE PROGRAM ARGUMENT...")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-pod: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does nothing until it is asked to end: a sandbox holds namespaces, and no more.
fn asked_to_end() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        signal(SignalKind::terminate())?.recv().await;
        Ok(())
    })
}

/// Says in a file when it begins, when it is asked to end, and when it has ended by itself, some time later.
fn bystand(file: &str, seconds: &str) -> io::Result<()> {
    let wanted = seconds.parse().map_err(io::Error::other)?;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let say = |what: &str| -> io::Result<()> {
        let mut log = OpenOptions::new().create(true).append(true).open(file)?;
        log.write_all(format!("{what} {}\n", boot_id.trim()).as_bytes())
    };
    say(bystander::UP)?;
    asked_to_end()?;
    say(bystander::ASKED)?;
    // The work that its grace is for.
    std::thread::sleep(Duration::from_secs(wanted));
    say(bystander::ENDED)
}

/// Becomes another program, whose first start alone reads the file: nobody has its bytes any more from then on.
fn once(file: &str, program: &str, args: &[&str]) -> io::Result<()> {
    let input = match File::open(file) {
        Ok(open) => {
            std::fs::remove_file(file)?;
            Stdio::from(open)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Stdio::null(),
        Err(error) => return Err(error),
    };
    Err(Command::new(program).args(args).stdin(input).exec())
}

/// Becomes another program, which says what it has to say in a file, after what is there.
fn into(file: &str, program: &str, args: &[&str]) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(file)?;
    Err(Command::new(program).args(args).stderr(log).exec())
}
