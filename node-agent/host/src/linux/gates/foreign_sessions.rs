use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, named};
use crate::linux::processes::{Held, Process, Processes};
use crate::linux::root::ReadError;

/// How to tell our own from others'.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// The keeper's process.
    pub keeper: u32,
    /// Names of our sessions: systemd keeps copies of their files.
    pub sessions: &'a [&'a str],
}

/// Nobody else's sessions would be lost by our jump, and nobody else has the orchestrator open. Sessions that
/// nobody holds any more, from before the last jump, cannot be listed.
pub fn foreign_sessions(processes: Result<&Processes, &ReadError>, ours: Ours<'_>) -> Gate {
    let mut found = Findings::of(GateId::ForeignSessions, "");
    let processes = match processes {
        Ok(processes) => processes,
        Err(error) => {
            found.unknown(error.to_string(), "let the agent see the host's processes (hostPID)");
            return found.gate();
        }
    };
    for process in processes.holding.iter().filter(|process| process.pid != ours.keeper) {
        look_at(&mut found, process, ours);
    }
    if let Some(first) = processes.unreadable.first() {
        let count = processes.unreadable.len();
        found.unknown(
            format!("files of {count} processes could not be looked at, among them {first}"),
            "let agent and keeper read other processes: CAP_SYS_PTRACE, and no AppArmor profile that forbids it",
        );
    }
    found.good("/proc/*/fd: no session of the orchestrator but our own");
    found.gate()
}

fn look_at(found: &mut Findings, process: &Process, ours: Ours<'_>) {
    let who = format!("{} ({})", process.command, process.pid);
    if process.files.iter().any(|(_, held)| *held == Held::Orchestrator) {
        found.bad(
            format!("{who} has /dev/liveupdate open: nobody else can open it meanwhile"),
            "end that process, or let it close the device",
        );
    }
    let sessions: Vec<&str> = process
        .files
        .iter()
        .filter_map(|(_, held)| match held {
            Held::Session(name) if !ours.sessions.contains(&name.as_str()) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    if sessions.is_empty() {
        return;
    }
    let what = if process.pid == 1 { "keeps in its fd store" } else { "holds" };
    found.bad(
        format!("{who} {what} sessions that are not ours: {}", named(&sessions)),
        "end the service that they belong to, or let it take part in the handover",
    );
}
