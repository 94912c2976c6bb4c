//! Nothing that the lab starts outlives the process that started it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use liveupdate_lab::process::{Process, Spec};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_lab::{Error, RunDir, Tools};

/// All processes in whose command line a text occurs, by pid.
fn processes_with(text: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() && String::from_utf8_lossy(&line).contains(text)
    })
    .collect()
}

/// The leashes: shells whose parent is the process.
fn children_of(parent: u32) -> Vec<u32> {
    let text = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let lists = text.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

fn runs(pid: u32) -> bool {
    // A zombie that nobody has reaped yet runs no more.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

async fn all_gone(pids: &[u32], deadline: Duration) {
    until("the end of all processes", deadline, async || {
        let left: Vec<_> = pids.iter().filter(|pid| runs(**pid)).collect();
        Ok(if left.is_empty() { Answer::Yes(()) } else { Answer::not_yet(format!("{left:?} still run")) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_control_plane_dies_with_a_killed_owner_and_its_folder_is_swept() {
    Tools::find().unwrap();
    let outer = RunDir::create().unwrap();
    let base = outer.path().join("base");
    let mut owner = Command::new(env!("CARGO_BIN_EXE_liveupdate-lab"))
        .arg("up")
        .env("LIVEUPDATE_LAB_DIR", &base)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut said = BufReader::new(owner.stdout.take().unwrap());
    said.read_line(&mut first).unwrap();
    assert!(first.starts_with("ready after"), "{first}");
    let components = processes_with(base.to_str().unwrap());
    assert_eq!(components.len(), 4, "etcd, API server, controller manager, scheduler");
    let everything = children_of(owner.id());
    assert_eq!(everything.len(), 8, "each with its leash");

    assert!(owner.try_wait().unwrap().is_none(), "it ends by our hand alone");
    owner.kill().unwrap();
    owner.wait().unwrap();

    all_gone(&everything, Duration::from_secs(1)).await;
    all_gone(&components, Duration::ZERO).await;
    let folders = |base: &Path| {
        std::fs::read_dir(base).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count()
    };
    assert_eq!(folders(&base), 1, "a killed owner cannot clean up");
    drop(RunDir::create_in(&base).unwrap());
    assert_eq!(folders(&base), 0, "the next start does");
}

#[tokio::test]
async fn a_dropped_process_takes_its_children_along() {
    let run = RunDir::create().unwrap();
    let spec = Spec::new("family", "sh", run.path()).args(["-c", "sleep 1000 & echo $!; wait"]);
    let mut process = Process::start(spec).unwrap();
    let child: u32 = until("the child", Duration::from_secs(5), async || {
        process.check_running()?;
        let log = std::fs::read_to_string(process.log()).map_err(Error::file("read", process.log()))?;
        Ok(log.trim().parse().map_or_else(|_| Answer::not_yet("no pid"), Answer::Yes))
    })
    .await
    .unwrap();
    assert!(runs(child));
    // Even when it was stopped: such a process would not heed anything but SIGKILL.
    process.freeze().unwrap();

    let pid = process.pid();
    drop(process);

    all_gone(&[pid, child], Duration::from_secs(1)).await;
}

#[tokio::test]
async fn processes_stop_go_on_and_end_as_told() {
    let run = RunDir::create().unwrap();
    let start = async |name: &str| {
        let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done";
        let process = Process::start(Spec::new(name, "sh", run.path()).args(["-c", script])).unwrap();
        until("the trap", Duration::from_secs(5), async || {
            let log = std::fs::read_to_string(process.log()).unwrap();
            Ok(if log == "up\n" { Answer::Yes(()) } else { Answer::not_yet(log) })
        })
        .await
        .unwrap();
        process
    };
    let mut frozen = start("frozen").await;
    frozen.freeze().unwrap();
    let error = frozen.terminate(Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    frozen.thaw().unwrap();
    assert_eq!(frozen.wait(Duration::from_secs(5)).await.unwrap().code(), Some(3));
    assert!(std::fs::read_to_string(frozen.log()).unwrap().ends_with("bye\n"));

    let mut killed = start("killed").await;
    killed.handle().kill().unwrap();
    assert!(!runs(killed.pid()));
    assert!(killed.status().unwrap().is_some());
    assert!(killed.handle().kill().is_err(), "it is gone");

    let missing = Process::start(Spec::new("missing", "/no/such/program", run.path())).unwrap_err();
    assert_eq!(missing.to_string(), "cannot start missing (/no/such/program)");
}
