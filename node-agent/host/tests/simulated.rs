//! What a simulated machine promises, in memory and in a folder alike.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use liveupdate_host::simulated::{
    Answer, BundleSpec, DeviceSpec, Durations, FactsSpec, Fault, GateSpec, HolderSpec, Level, Pace, World,
    WorldSpec,
};
use liveupdate_host::{Gate, Host, HostError, JumpIntent, Target};
use liveupdate_node_core::gate::{self, GateId};
use liveupdate_node_core::{Continuity, GateResult};

const GPU: &str = "0000:01:00.0";

fn target() -> Target {
    Target { release: "new".into(), bundle: "new".into(), digest: "sha256:ab".into() }
}

fn spec() -> WorldSpec {
    WorldSpec {
        durations: Durations { jump: 700, ..Durations::default() },
        bundles: vec![BundleSpec {
            name: "new".into(),
            digest: "sha256:ab".into(),
            release: "new".into(),
            boots_as: None,
            bytes: 1000,
        }],
        devices: vec![DeviceSpec {
            address: GPU.into(),
            vendor: "10de".into(),
            device: "2330".into(),
            class: "0302".into(),
            holder: Some("vm".into()),
            ceiling: Some(Level::Paused),
            facts: FactsSpec::paused(5),
        }],
        holders: vec![HolderSpec {
            name: "vm".into(),
            aware: true,
            minimum: None,
            refuses: false,
            memory_bytes: 0,
        }],
        ..WorldSpec::new("old")
    }
}

fn intent() -> JumpIntent {
    JumpIntent { attempt: "a-1".into(), nonce: "abc".into(), target: target(), until: Duration::MAX }
}

/// Removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("liveupdate-host-{name}-{}", std::process::id()));
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The same test over both stores.
fn both(name: &str, test: impl Fn(World)) {
    test(World::in_memory(spec()));
    let folder = Folder::new(name);
    test(World::create(&folder.0, &spec()).unwrap());
}

fn whole_way(host: &dyn Host) {
    host.stage(&target(), &mut |_, _| true).unwrap();
    host.preserve("a-1", &[GPU.into()], &mut || true).unwrap();
    host.quiesce("a-1", Duration::from_secs(2)).unwrap();
    host.jump(&intent()).unwrap();
}

#[test]
fn a_jump_ends_every_process_and_changes_boot_id_and_release() {
    both("jump", |world| {
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        world.on_power_event(move |event| {
            assert!(event.comes_back);
            count.fetch_add(1, Ordering::SeqCst);
        });
        let host = world.host().unwrap();
        let (boot, counter) = (host.boot_id().unwrap(), host.counter().unwrap().unwrap());
        host.store("journal", b"kept").unwrap();
        assert!(matches!(world.boot(), Err(HostError::WrongMoment { .. })), "it is on");
        whole_way(&host);
        assert_eq!(told.load(Ordering::SeqCst), 1);

        assert_eq!(world.running().unwrap(), None);
        assert_eq!(host.boot_id(), Err(HostError::PoweredOff));
        assert_eq!(host.store("journal", b"ghost"), Err(HostError::PoweredOff));
        let running = world.boot().unwrap();
        assert_eq!(host.boot_id(), Err(HostError::PoweredOff), "also on the next boot");
        assert_eq!(host.load("journal"), Err(HostError::PoweredOff));

        let next = world.host().unwrap();
        assert_eq!((next.release().unwrap().as_str(), running.release.as_str()), ("new", "new"));
        assert_ne!(next.boot_id().unwrap(), boot);
        assert_eq!(next.boot_id_before().unwrap(), Some(boot));
        assert_eq!(next.bundle_digest().unwrap().as_deref(), Some("sha256:ab"));
        assert_eq!(next.load("journal").unwrap().as_deref(), Some(&b"kept"[..]));
        assert_eq!(next.returned_nonce().unwrap().as_deref(), Some("abc"));
        assert!(next.monotonic().unwrap() < Duration::from_millis(700), "starts at zero");
        assert!(next.counter().unwrap().unwrap() - counter >= 700_000_000, "goes on over the jump");
    });
}

#[test]
fn invariant_8_what_came_through_is_not_finished_before_its_holder_resumed() {
    both("overdue", |world| {
        world.change(|spec| spec.faults.push(Fault::ReclaimOverdue { holder: "vm".into() })).unwrap();
        whole_way(&world.host().unwrap());
        world.boot().unwrap();
        let host = world.host().unwrap();
        let (holders, devices) = host.reclaim().unwrap();
        assert!(!holders[0].resumed && !devices[0].facts.returned);
        assert!(matches!(host.finish(), Err(HostError::WrongMoment { .. })));
        world.change(|spec| spec.faults.clear()).unwrap();
        let (holders, devices) = host.reclaim().unwrap();
        assert!(holders[0].resumed && devices[0].facts.returned);
        assert!(holders[0].resumed_at.unwrap() - holders[0].quiesced.unwrap() >= 700_000_000);
        host.finish().unwrap();
        host.finish().unwrap();
    });
}

#[test]
fn a_bundle_that_is_not_what_was_asked_for_is_not_loaded() {
    both("bundles", |world| {
        let host = world.host().unwrap();
        let stage = |target: &Target| host.stage(target, &mut |_, _| true);
        let other = |edit: fn(&mut Target)| {
            let mut other = target();
            edit(&mut other);
            other
        };
        let missing = stage(&other(|t| t.bundle = "x".into()));
        assert!(matches!(missing, Err(HostError::NoSuchBundle { .. })));
        let release = stage(&other(|t| t.release = "x".into()));
        assert!(matches!(release, Err(HostError::ReleaseMismatch { .. })));
        let digest = stage(&other(|t| t.digest = "x".into()));
        assert!(matches!(digest, Err(HostError::DigestMismatch { .. })));
        world.change(|spec| spec.faults.push(Fault::StageCorrupt)).unwrap();
        assert!(matches!(stage(&target()), Err(HostError::DigestMismatch { .. })));
        world.change(|spec| spec.faults.clear()).unwrap();
        assert_eq!(host.stage(&target(), &mut |_, _| false), Err(HostError::Cancelled));
        assert_eq!(host.staged().unwrap(), None, "none of them is loaded");
        assert!(host.jump(&intent()).is_err(), "and without an image there is no jump");
        let mut last = (0, 0);
        host.stage(&target(), &mut |done, all| {
            last = (done, all);
            true
        })
        .unwrap();
        assert_eq!(last, (1000, 1000));
        assert_eq!(host.staged().unwrap(), Some(target()));
    });
}

#[test]
fn every_gate_is_answered_and_a_chosen_one_says_what_a_real_one_would() {
    both("gates", |world| {
        let host = world.host().unwrap();
        let all = host.gates(Some(&target())).unwrap();
        for id in GateId::ALL {
            assert!(all.iter().any(|gate| gate.id == *id), "{id}");
        }
        assert!(all.iter().all(|gate| !gate.evidence.is_empty()));
        let none: &[&str] = &[];
        assert_eq!(gate::ceiling(&all, GPU, "vm", none), Some(Continuity::Paused), "as the spec says");

        let chosen = GateSpec {
            id: "KexecHandover".into(),
            subject: None,
            release: Some("new".into()),
            result: Answer::Fail,
            evidence: None,
            remedy: None,
        };
        world.change(|spec| spec.gates.push(chosen)).unwrap();
        let read = |target: Option<&Target>| -> Gate {
            let gates = host.gates(target).unwrap();
            gates.into_iter().find(|gate| gate.id == GateId::KexecHandover).unwrap()
        };
        let failed = read(Some(&target()));
        assert_eq!(failed.result, GateResult::Fail);
        assert!(failed.evidence.contains("no kho=on") && failed.remedy.contains("kho=on"), "{failed:?}");
        assert_eq!(read(None).result, GateResult::Pass, "only towards that release");

        let unknown = world.change(|spec| spec.gates[0].id = "KexecHandOver".into());
        assert!(unknown.unwrap_err().to_string().contains("no gate \"KexecHandOver\""));
        let wrong = Target { digest: "sha256:cd".into(), ..target() };
        let trusted = host.gates(Some(&wrong)).unwrap();
        let trusted = trusted.into_iter().find(|gate| gate.id == GateId::TargetTrusted).unwrap();
        assert_eq!(trusted.result, GateResult::Fail);
        assert!(trusted.evidence.contains("sha256:cd"), "{}", trusted.evidence);
    });
}

#[test]
fn custody_is_all_or_nothing() {
    both("custody", |world| {
        let host = world.host().unwrap();
        let preserve = |devices: &[&str]| {
            let devices = devices.iter().map(|&d| d.to_owned()).collect::<Vec<_>>();
            host.preserve("a-1", &devices, &mut || true)
        };
        assert!(matches!(preserve(&[GPU, "0000:09:00.0"]), Err(HostError::NoSuchDevice { .. })));
        assert_eq!(host.preserve("a-1", &[GPU.into()], &mut || false), Err(HostError::Cancelled));
        world.change(|spec| spec.holders[0].aware = false).unwrap();
        assert!(matches!(preserve(&[GPU]), Err(HostError::NotPreserved { .. })));
        assert_eq!(host.preserved().unwrap(), None);
        world.change(|spec| spec.holders[0].aware = true).unwrap();
        preserve(&[GPU]).unwrap();
        preserve(&[GPU]).unwrap();
        let other = host.preserve("a-2", &[GPU.into()], &mut || true);
        assert!(matches!(other, Err(HostError::WrongMoment { .. })));
        assert_eq!(host.preserved().unwrap().unwrap().attempt, "a-1");
    });
}

#[test]
fn what_a_killed_process_was_in_the_midst_of_does_not_come_about() {
    both("killed", |world| {
        let host = world.host().unwrap();
        host.store("journal", b"kept").unwrap();
        let killed = host.preserve("a-1", &[GPU.into()], &mut || {
            host.kill();
            true
        });
        assert_eq!(killed, Err(HostError::PoweredOff));
        assert_eq!(host.store("journal", b"ghost"), Err(HostError::PoweredOff));
        let next = world.host().unwrap();
        assert_eq!(next.preserved().unwrap(), None);
        assert_eq!(next.load("journal").unwrap().as_deref(), Some(&b"kept"[..]));
        next.preserve("a-2", &[GPU.into()], &mut || true).unwrap();
    });
}

#[test]
fn a_machine_that_never_returns_stays_off_until_its_power_is_cut() {
    both("never", |world| {
        world.change(|spec| spec.faults.push(Fault::NeverReturns)).unwrap();
        whole_way(&world.host().unwrap());
        assert!(!world.power().unwrap().unwrap().comes_back);
        assert!(matches!(world.boot(), Err(HostError::WrongMoment { .. })));
        world.power_cut().unwrap();
        assert_eq!(world.boot().unwrap().release, "old");
        assert_eq!(world.host().unwrap().returned_nonce().unwrap(), None);
    });
}

#[test]
fn in_a_folder_processes_see_one_machine_and_the_file_is_a_persons() {
    let folder = Folder::new("shared");
    let world = World::create(&folder.0, &spec()).unwrap();
    let other = World::open(&folder.0).unwrap();
    let counted = std::thread::scope(|scope| {
        let count = |world: &World| {
            let world = world.clone();
            scope.spawn(move || {
                for _ in 0..50 {
                    world.change(|spec| spec.durations.stage += 1).unwrap();
                }
            })
        };
        let threads = [count(&world), count(&other)];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        world.spec().unwrap().durations.stage
    });
    assert_eq!(counted, 100, "no operation is lost");
    assert!(matches!(World::create(&folder.0, &spec()), Err(HostError::WrongMoment { .. })));

    std::fs::write(folder.0.join("world.json"), r#"{"release": "old", "devices": [{"adress": "x"}]}"#)
        .unwrap();
    let error = other.host().err().unwrap().to_string();
    assert!(error.contains("world.json") && error.contains("adress"), "{error}");
    std::fs::write(folder.0.join("world.json"), r#"{"release": "old"}"#).unwrap();
    assert_eq!(other.host().unwrap().devices().unwrap(), vec![]);
    assert!(matches!(world.host().unwrap().load("../x"), Err(HostError::Malformed { .. })));
}

#[test]
fn real_time_is_waited_for_and_instant_time_is_not() {
    let slow =
        |pace| WorldSpec { pace, durations: Durations { settle: 120, ..Durations::default() }, ..spec() };
    let host = World::in_memory(slow(Pace::Instant)).host().unwrap();
    let (before, started) = (host.monotonic().unwrap(), std::time::Instant::now());
    host.settle(&[], &mut || true).unwrap();
    let passed = host.monotonic().unwrap().saturating_sub(before);
    assert!(passed >= Duration::from_millis(120), "the machine's clock goes on");
    assert!(passed >= started.elapsed() + Duration::from_millis(100), "nobody waited for it");
    let host = World::in_memory(slow(Pace::Real)).host().unwrap();
    let started = std::time::Instant::now();
    host.settle(&[], &mut || true).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(120));
}
