//! Whether a successor's control groups have room for the memory: who is charged with too much is killed while it takes
//! the memory out, and the memory is gone. Who has been charged is not charged again.

use liveupdate_host::linux::custody::Custodian;

use crate::machine::{Hold, Machine, declared, ready_to_jump, resumed, until};

const UID: &str = "0b3c7a52-1f7e-4c57-9b0e-6a2f6d6f9c11";
const MIB: u64 = 1 << 20;
const NO_LIMIT: &str = "max";

fn pod() -> String {
    format!("/kubepods.slice/kubepods-pod{}.slice", UID.replace('-', "_"))
}

/// A container of the pod, at the next start another one.
fn container(number: usize) -> String {
    format!("{}/cri-containerd-{number}.scope", pod())
}

/// The pod's process in a container that is charged with nothing yet.
fn start(machine: &Machine, number: usize, misbehave: &[&str]) -> Hold {
    machine.group(&container(number), NO_LIMIT);
    machine.hold_in(&container(number), "vm-a", "", misbehave)
}

/// A first successor that ends before it goes on.
fn dies(machine: &Machine, how: &str) -> Hold {
    let mut hold = start(machine, 1, &["--misbehave", how]);
    assert_eq!(hold.ended(), Some(9));
    hold
}

/// A pod's guest of 1 MiB, and the next kernel's keeper.
fn jumped(machine: &Machine) -> (Custodian, u64) {
    machine.group("/kubepods.slice", NO_LIMIT);
    machine.group(&pod(), NO_LIMIT);
    let keeper = machine.keeper();
    let hold = start(machine, 0, &[]);
    declared(&keeper, 1);
    until("it has counted", || hold.says("verdict"));
    assert_eq!(hold.number("made", "bytes"), MIB);
    ready_to_jump(&keeper);
    let counter = hold.number("quiesced", "counter");
    drop(hold);
    (machine.jump(keeper), counter)
}

#[test]
fn invariant_8_no_grant_where_other_shared_memory_only_looks_like_the_guests() {
    let machine = Machine::new();
    let (keeper, counter) = jumped(&machine);
    // Something in a tmpfs, as large as the guest: half of what is needed is left.
    machine.charged(&container(1), NO_LIMIT, MIB, MIB);
    machine.charged(&pod(), &(MIB + MIB / 2).to_string(), MIB, MIB);
    let hold = machine.hold_in(&container(1), "vm-a", "", &[]);
    let refused = hold.line("control group cannot take the memory");
    assert!(refused.contains("memory.max 1.5 MiB, of which 512 KiB is left for 1 MiB"), "{refused}");
    assert!(!hold.says("reclaimed") && keeper.finish().is_err());
    machine.charged(&pod(), &(2 * MIB).to_string(), MIB, MIB);
    assert_eq!(hold.number("resumed", "counter"), counter);
}

#[test]
fn invariant_8_what_a_dead_successor_took_out_is_charged_already_and_fits() {
    let machine = Machine::new();
    let (keeper, counter) = jumped(&machine);
    let most = (MIB + MIB / 2).to_string();
    machine.group(&pod(), &most);
    dies(&machine, "die-before-resumed").line("reclaimed");
    // Its container is gone. The session has the file still, and the pod is charged with it.
    machine.charged(&pod(), &most, MIB, MIB);
    let hold = start(&machine, 2, &[]);
    assert_eq!(hold.number("resumed", "counter"), counter);
    resumed(&keeper, 1);
    keeper.finish().unwrap();
}

#[test]
fn invariant_8_a_successor_that_died_with_nothing_taken_out_makes_no_room_of_what_is_others() {
    let machine = Machine::new();
    let (keeper, counter) = jumped(&machine);
    machine.charged(&pod(), &(2 * MIB).to_string(), MIB, MIB);
    dies(&machine, "die-when-granted");
    // Whatever else the pod runs has grown by half of what was left.
    machine.charged(&pod(), &(2 * MIB).to_string(), MIB + MIB / 2, MIB);
    let hold = start(&machine, 2, &[]);
    let refused = hold.line("control group cannot take the memory");
    assert!(refused.contains("of which 512 KiB is left for 1 MiB"), "{refused}");
    assert!(!hold.says("reclaimed") && keeper.finish().is_err());
    machine.charged(&pod(), &(2 * MIB).to_string(), MIB, MIB);
    assert_eq!(hold.number("resumed", "counter"), counter);
}

#[test]
fn a_keeper_that_did_not_grant_itself_takes_what_there_is_for_what_was_taken_out() {
    let machine = Machine::new();
    let (keeper, counter) = jumped(&machine);
    let most = (MIB + MIB / 2).to_string();
    machine.group(&pod(), &most);
    dies(&machine, "die-before-resumed");
    machine.charged(&pod(), &most, MIB, MIB);
    let kept = machine.orchestrator.folders();
    drop(keeper);
    let keeper = machine.keeper_with(kept);
    let hold = start(&machine, 2, &[]);
    assert_eq!(hold.number("resumed", "counter"), counter);
    resumed(&keeper, 1);
}
