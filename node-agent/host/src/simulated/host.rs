//! The simulated machine as its own processes see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::GateId;
use liveupdate_node_core::verdict::Signer;

use super::answers::{check_custody, resumed, seen, vote};
use super::spec::{Fault, Pace};
use super::state::{Loaded, Machine, Outgoing, Power, random_hex};
use super::{Durations, World, gates, wrong};
use crate::bundle::{Delivered, Delivery, NotADigest};
use crate::{
    Custody, Device, Gate, Held, Holder, Host, HostError, JumpIntent, JumpRefused, Jumped, Quiesced,
    ReclaimedDevice, ReclaimedHolder, Resumed, Target,
};

/// A [`Host`] for one process of one boot.
pub struct SimulatedHost {
    world: World,
    boot: u64,
    killed: AtomicBool,
}

/// Long enough to cost little, short enough that a cancellation is felt at once.
const SLICE: Duration = Duration::from_millis(20);

impl SimulatedHost {
    pub(super) fn new(world: World, boot: u64) -> Self {
        Self { world, boot, killed: AtomicBool::new(false) }
    }

    /// Kills the process that it is for. What its threads still do, where they cannot be killed, reaches the machine no more:
    /// to them it is off.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
    }

    fn alive(&self, machine: &Machine) -> Result<(), HostError> {
        let killed = self.killed.load(Ordering::SeqCst);
        if machine.state.boot == self.boot && machine.state.power == Power::On && !killed {
            Ok(())
        } else {
            Err(HostError::PoweredOff)
        }
    }

    fn on<T>(&self, operation: impl FnOnce(&mut Machine) -> Result<T, HostError>) -> Result<T, HostError> {
        self.world.inner.store.with(|machine| {
            self.alive(machine)?;
            operation(machine)
        })
    }

    /// Lets time pass without holding the machine. False: `go_on` ended it.
    fn pass(&self, ms: u64, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool, HostError> {
        let pace = self.on(|machine| {
            if machine.spec.pace == Pace::Instant {
                machine.skip(ms);
            }
            Ok(machine.spec.pace)
        })?;
        let mut passed = Duration::ZERO;
        let whole = if pace == Pace::Instant { Duration::ZERO } else { Durations::of(ms) };
        while passed < whole {
            if !go_on(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)) {
                return Ok(false);
            }
            let slice = SLICE.min(whole.saturating_sub(passed));
            std::thread::sleep(slice);
            passed += slice;
            self.on(|_| Ok(()))?;
        }
        Ok(go_on(ms))
    }
}

impl Host for SimulatedHost {
    fn boot_id(&self) -> Result<String, HostError> {
        self.on(|machine| Ok(machine.state.boot_id.clone()))
    }

    fn boot_id_before(&self) -> Result<Option<String>, HostError> {
        self.on(|machine| Ok(machine.state.boot_id_before.clone()))
    }

    fn release(&self) -> Result<String, HostError> {
        self.on(|machine| Ok(machine.state.release.clone()))
    }

    fn bundle_digest(&self) -> Result<Option<String>, HostError> {
        self.on(|machine| Ok(machine.state.bundle_digest.clone()))
    }

    fn simulated(&self) -> bool {
        true
    }

    fn monotonic(&self) -> Result<Duration, HostError> {
        self.on(|machine| Ok(Duration::from_nanos(machine.clock().saturating_sub(machine.state.booted_at))))
    }

    fn counter(&self) -> Result<Option<u64>, HostError> {
        self.on(|machine| Ok(machine.counter()))
    }

    fn wall(&self) -> Result<i64, HostError> {
        self.on(|_| Ok(()))?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn random(&self) -> Result<String, HostError> {
        random_hex().map_err(|e| HostError::Io { what: "read random bytes".into(), why: e.to_string() })
    }

    fn devices(&self) -> Result<Vec<Device>, HostError> {
        self.on(|machine| {
            let stopped = &machine.state.stopped;
            let device = |d: &super::DeviceSpec| Device {
                address: d.address.clone(),
                vendor: d.vendor.clone(),
                device: d.device.clone(),
                class: d.class.clone(),
                holder: d.holder.clone().filter(|_| !stopped.contains(&d.address)),
                ceiling: d.ceiling.map(Into::into),
            };
            Ok(machine.spec.devices.iter().map(device).collect())
        })
    }

    fn holders(&self) -> Result<Vec<Holder>, HostError> {
        self.on(|machine| {
            let holder = |h: &super::HolderSpec| Holder {
                name: h.name.clone(),
                aware: h.aware,
                minimum: h.minimum.map(Into::into),
                refuses: h.refuses,
                memory_bytes: h.memory_bytes,
            };
            Ok(machine.spec.holders.iter().map(holder).collect())
        })
    }

    fn held(&self) -> Result<Held, HostError> {
        self.on(|machine| {
            let stopped = &machine.state.stopped;
            let held = machine.spec.devices.iter().filter(|device| !stopped.contains(&device.address));
            let devices = held.filter_map(|device| Some((device.address.clone(), device.holder.clone()?)));
            let holders = machine.spec.holders.iter().filter(|holder| holder.aware);
            Ok(Held {
                devices: devices.collect(),
                holders: holders.map(|holder| holder.name.clone()).collect(),
            })
        })
    }

    fn gates(&self, target: Option<&Target>) -> Result<Vec<Gate>, HostError> {
        self.on(|machine| Ok(gates::read(machine, target)))
    }

    fn staged(&self) -> Result<Option<Target>, HostError> {
        self.on(|machine| Ok(machine.state.staged.as_ref().map(Loaded::target)))
    }

    /// Nothing here has a real signature: what the world says of the gate counts alone.
    fn signed_for(&self, _target: &Target, signers: &[Signer]) -> Result<Gate, HostError> {
        let names: Vec<&str> = signers.iter().map(|signer| signer.name.as_str()).collect();
        let evidence = format!("policy: signed by {}", names.join(", "));
        let (id, subject, remedy) = (GateId::TargetTrusted, String::new(), String::new());
        self.on(|_| Ok(Gate { id, subject, result: GateResult::Pass, evidence, remedy }))
    }

    fn has_bundle(&self, target: &Target) -> Result<bool, HostError> {
        let is = |b: &super::BundleSpec| b.name == target.bundle && b.digest == target.digest;
        self.on(|machine| Ok(machine.spec.bundles.iter().any(is)))
    }

    /// Every byte is fetched and checked, and none is kept. Who signed it is not asked: the gate is as the world has
    /// it.
    fn receive(
        &self,
        target: &Target,
        from: &mut dyn Delivery,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), HostError> {
        let wanted = target.digest.parse().map_err(|error: NotADigest| HostError::Malformed {
            what: "the target's digest".into(),
            why: error.to_string(),
        })?;
        let mut delivered = Delivered::open(wanted, from)?;
        delivered.read_through(progress)?;
        let (release, bytes) = (delivered.manifest().release.clone(), delivered.manifest().size());
        self.on(|machine| {
            machine.spec.bundles.retain(|bundle| bundle.name != target.bundle);
            let (name, digest) = (target.bundle.clone(), target.digest.clone());
            machine.spec.bundles.push(super::BundleSpec { name, digest, release, boots_as: None, bytes });
            Ok(())
        })
    }

    fn stage(&self, target: &Target, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<(), HostError> {
        let name = &target.bundle;
        let (bytes, takes) = self.on(|machine| {
            let bundle = machine.spec.bundles.iter().find(|b| b.name == *name);
            let bundle = bundle.ok_or_else(|| HostError::NoSuchBundle { name: name.clone() })?;
            if bundle.release != target.release {
                return Err(HostError::ReleaseMismatch {
                    name: name.clone(),
                    wanted: target.release.clone(),
                    found: bundle.release.clone(),
                });
            }
            Ok((bundle.bytes, machine.spec.durations.staging(&machine.spec.faults)))
        })?;
        let mut done = |ms: u64| {
            let share = u128::from(bytes) * u128::from(ms) / u128::from(takes.max(1));
            progress(if ms >= takes { bytes } else { u64::try_from(share).unwrap_or(bytes) }, bytes)
        };
        if !self.pass(takes, &mut done)? {
            return Err(HostError::Cancelled);
        }
        self.on(|machine| {
            let bundle = machine.spec.bundles.iter().find(|b| b.name == *name);
            let mut found = bundle.map(|b| b.digest.clone()).unwrap_or_default();
            if machine.has(|f| *f == Fault::StageCorrupt) {
                found = format!("sha256:{}", "0".repeat(64));
            }
            if found != target.digest {
                let (name, wanted) = (name.clone(), target.digest.clone());
                return Err(HostError::DigestMismatch { name, wanted, found });
            }
            machine.state.staged = Some(Loaded::of(target));
            Ok(())
        })
    }

    fn unstage(&self) -> Result<(), HostError> {
        self.on(|machine| {
            machine.state.staged = None;
            Ok(())
        })
    }

    fn preserve(
        &self,
        attempt: &str,
        devices: &[String],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), HostError> {
        let takes = self.on(|machine| {
            check_custody(machine, attempt, devices)?;
            Ok(machine.spec.durations.preserve)
        })?;
        if !self.pass(takes, &mut |_| go_on())? {
            return Err(HostError::Cancelled);
        }
        self.on(|machine| {
            check_custody(machine, attempt, devices)?;
            let holders = machine.holders_of(devices).into_iter().map(|name| (name, None)).collect();
            let devices = devices.to_vec();
            machine.state.custody = Some(Outgoing { attempt: attempt.into(), devices, holders });
            machine.state.undone = None;
            Ok(())
        })
    }

    fn preserved(&self) -> Result<Option<Custody>, HostError> {
        self.on(|machine| {
            let custody = |c: &Outgoing| Custody { attempt: c.attempt.clone(), devices: c.devices.clone() };
            Ok(machine.state.custody.as_ref().map(custody))
        })
    }

    fn unpreserve(&self) -> Result<(), HostError> {
        self.on(|machine| {
            if machine.state.custody.is_some() && machine.has(|f| *f == Fault::NotReleased) {
                return Err(wrong("unpreserve", "the kernel says EBUSY"));
            }
            if let Some(custody) = machine.state.custody.take() {
                machine.state.undone = Some(custody);
            }
            Ok(())
        })
    }

    fn settle(&self, stop: &[String], go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        let takes = self.on(|machine| {
            machine.state.settled = true;
            let ends = |address: &&String| {
                !machine.has(|f| matches!(f, Fault::NotStopped { address: a } if a == *address))
            };
            let ended: Vec<String> = stop.iter().filter(ends).cloned().collect();
            machine.state.stopped.extend(ended);
            Ok(machine.spec.durations.settle)
        })?;
        if self.pass(takes, &mut |_| go_on())? { Ok(()) } else { Err(HostError::Cancelled) }
    }

    fn thaw(&self) -> Result<(), HostError> {
        self.on(|machine| {
            if machine.state.settled && machine.has(|f| *f == Fault::NotRestarted) {
                return Err(wrong("thaw", "systemctl says that the kubelet cannot be started"));
            }
            machine.state.settled = false;
            machine.state.stopped.clear();
            Ok(())
        })
    }

    fn quiesce(&self, attempt: &str, deadline: Duration) -> Result<Vec<Quiesced>, HostError> {
        let takes = self.on(|machine| {
            let counter = machine.counter();
            let custody = machine.state.custody.as_mut().filter(|c| c.attempt == attempt);
            let custody =
                custody.ok_or_else(|| wrong("quiesce", format!("{attempt} has no custody here")))?;
            for stamp in custody.holders.values_mut().filter(|stamp| stamp.is_none()) {
                *stamp = counter;
            }
            Ok(machine.spec.durations.quiesce)
        })?;
        let late = Durations::of(takes) > deadline;
        let waits = if late { u64::try_from(deadline.as_millis()).unwrap_or(takes) } else { takes };
        self.pass(waits, &mut |_| true)?;
        self.on(|machine| {
            let holders = machine.state.custody.iter().flat_map(|c| &c.holders);
            let answer = |(name, counter): (&String, &Option<u64>)| Quiesced {
                holder: name.clone(),
                counter: *counter,
                vote: vote(machine, name, late, deadline),
            };
            Ok(holders.map(answer).collect())
        })
    }

    fn resume(&self, _cause: &str) -> Result<Vec<Resumed>, HostError> {
        self.on(|machine| {
            let holders = machine.state.to_go_on().flat_map(|c| c.holders.keys());
            let answers = holders.map(|name| resumed(machine, name)).collect::<Vec<_>>();
            let state = &mut machine.state;
            let stamps = state.custody.iter_mut().chain(&mut state.undone).flat_map(|c| &mut c.holders);
            let goes_on = |name: &String| answers.iter().any(|a| a.holder == *name && a.result.is_ok());
            for (_, stamp) in stamps.filter(|(name, _)| goes_on(name)) {
                *stamp = None;
            }
            Ok(answers)
        })
    }

    fn jump(&self, intent: &JumpIntent) -> Result<Jumped, JumpRefused> {
        let takes = self.world.transition(|machine| {
            self.alive(machine)?;
            if machine.has(|f| *f == Fault::KernelRefused) {
                return Err(wrong("reboot(2)", "EBUSY: device or resource busy"));
            }
            let loaded = machine.state.staged.clone();
            let Some(loaded) = loaded.filter(|loaded| loaded.target() == intent.target) else {
                return Err(wrong("reboot(2)", "the target's image is not loaded"));
            };
            let now = Duration::from_nanos(machine.clock().saturating_sub(machine.state.booted_at));
            if now >= intent.until {
                return Err(wrong("reboot(2)", "the time for the jump has run out"));
            }
            machine.jump(&loaded, &intent.attempt, &intent.nonce);
            Ok(machine.spec.durations.jump)
        })?;
        Ok(Jumped { takes: Durations::of(takes) })
    }

    fn returned_nonce(&self) -> Result<Option<String>, HostError> {
        self.on(|machine| Ok(machine.readable().map(|incoming| incoming.nonce.clone())))
    }

    fn keeps(&self) -> Result<bool, HostError> {
        self.on(|machine| Ok(machine.state.incoming.as_ref().is_some_and(|incoming| !incoming.ended)))
    }

    fn reclaim(&self) -> Result<(Vec<ReclaimedHolder>, Vec<ReclaimedDevice>), HostError> {
        self.on(|machine| {
            machine.reclaim();
            let Some(incoming) = machine.readable() else { return Ok((Vec::new(), Vec::new())) };
            let holders = incoming.holders.iter().map(|(name, claim)| ReclaimedHolder {
                holder: name.clone(),
                quiesced: claim.quiesced,
                resumed: claim.resumed.is_some(),
                resumed_at: claim.resumed.filter(|_| machine.spec.counter),
                lost: None,
            });
            let devices = incoming.devices.iter().filter_map(|address| {
                let spec = machine.spec.devices.iter().find(|d| d.address == *address)?;
                let claim = spec.holder.as_ref().and_then(|holder| incoming.holders.get(holder));
                let returned = claim.is_some_and(|claim| claim.resumed.is_some());
                Some(seen(machine, address, spec.facts.facts(returned)))
            });
            Ok((holders.collect(), devices.collect()))
        })
    }

    fn finish(&self) -> Result<(), HostError> {
        self.on(|machine| {
            let unread = machine.readable().is_none();
            let Some(incoming) = machine.state.incoming.as_mut() else { return Ok(()) };
            if unread && !incoming.ended {
                return Err(wrong("finish", "the index of what came through the jump cannot be read"));
            }
            let missing = incoming.holders.iter().find(|(_, claim)| claim.resumed.is_none());
            if let (false, Some((name, _))) = (incoming.ended, missing) {
                return Err(wrong("finish", format!("{name} may still come for its files")));
            }
            incoming.ended = true;
            Ok(())
        })
    }

    fn release_custody(&self) -> Result<(), HostError> {
        self.on(|machine| {
            if machine.has(|f| *f == Fault::NotReleased) {
                return Err(wrong("release", "the kernel says EBUSY"));
            }
            if let Some(incoming) = machine.state.incoming.as_mut() {
                incoming.ended = true;
            }
            Ok(())
        })
    }

    fn persists(&self) -> bool {
        self.on(|machine| Ok(machine.spec.persists)).unwrap_or(false)
    }

    fn persist(&self, target: &Target, _: &mut dyn FnMut() -> bool) -> Result<String, HostError> {
        self.on(|machine| {
            if machine.state.bundle_digest.as_ref() != Some(&target.digest) {
                return Err(wrong("persist", format!("bundle {} does not run", target.bundle)));
            }
            if machine.has(|f| *f == Fault::NotPersisted) {
                return Err(wrong("persist", "the boot partition is full"));
            }
            machine.state.cold = Some(Loaded::of(target));
            Ok(format!("liveupdate-{}.conf", target.release))
        })
    }

    fn may_uninstall(&self) -> Result<(), HostError> {
        self.on(|_| Ok(()))
    }

    fn uninstall(&self) -> Result<(), HostError> {
        // There is neither a unit nor a program that anybody could have written.
        self.on(|_| Ok(()))
    }

    fn load(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.world.inner.store.load(key, |machine| self.alive(machine))
    }

    fn store(&self, key: &str, bytes: &[u8]) -> Result<(), HostError> {
        self.world.inner.store.store(key, bytes, |machine| self.alive(machine))
    }
}
