//! Gates about the running node.

use liveupdate_host::linux::boot_parameters::BootParameters;
use liveupdate_host::linux::cgroup::{self, Left};
use liveupdate_host::linux::gates::{
    Bundle, Loaded, Ours, Room, clock_source, crash_dump, disk_and_memory, fallback_boot, foreign_sessions,
    kexec_allowed, kexec_handover, live_update_kernel, unattended_boot,
};
use liveupdate_host::linux::root::ReadError;
use liveupdate_host::linux::{processes::Processes, storage};
use liveupdate_node_core::gate::Gate;

use crate::machine::{Machine, fail, pass, unknown};

const CMDLINE: &str = "proc/cmdline";

#[test]
fn clock_source_is_an_even_counter_on_every_cpu() {
    let gate = |machine: Machine| clock_source(&machine.clock());
    pass(&gate(Machine::guest()), "constant_tsc nonstop_tsc on every CPU");
    pass(&gate(Machine::of("stock")), "has tsc");
    fail(&gate(Machine::guest().edit("proc/cpuinfo", " nonstop_tsc", "")), "no nonstop_tsc");
    let available = "sys/devices/system/clocksource/clocksource0/available_clocksource";
    fail(&gate(Machine::guest().edit(available, "tsc ", "")), "does not trust the counter");
    unknown(&gate(Machine::guest().without("proc/cpuinfo")), "/proc/cpuinfo: no such file");
    unknown(&gate(Machine::guest().with("proc/cpuinfo", "processor : 0\n")), "not a list of CPUs");
    // One CPU without it is enough.
    let machine = Machine::guest();
    let text = std::fs::read_to_string(machine.root().path("/proc/cpuinfo")).unwrap();
    let (first, rest) = text.split_once("processor\t: 1").unwrap();
    let one = format!("{first}processor\t: 1{}", rest.replace("constant_tsc ", ""));
    fail(&gate(machine.with("proc/cpuinfo", &one)), "no constant_tsc");
}

#[test]
fn live_update_kernel_says_at_which_step_it_ends() {
    let gate = |machine: Machine| live_update_kernel(&machine.kernel(), &machine.kho());
    pass(&gate(Machine::guest()), "running kernel: 7.3.4-lu1");
    let without = || Machine::guest().without("dev/liveupdate");
    fail(&gate(Machine::of("stock")), "CONFIG_LIVEUPDATE is not set");
    fail(&gate(without().edit(CMDLINE, " liveupdate=on", "")), "no liveupdate=on");
    fail(&gate(without().edit(CMDLINE, "liveupdate=on", "liveupdate=off")), "no liveupdate=on");
    let handover = without().without("sys/kernel/debug/kho").with("sys/kernel/debug/sched/x", "");
    let gate = gate(handover);
    fail(&gate, "liveupdate=on");
    assert!(gate.remedy.contains("KexecHandover"), "{}", gate.remedy);
}

const FITS: Bundle = Bundle { init_size: 48 << 20, alignment: 2 << 20, initrd: 100 << 20 };

fn handover(machine: &Machine, bundle: Option<Bundle>) -> Gate {
    kexec_handover(&machine.kernel(), &machine.kho(), Some(machine.memory()), bundle)
}

#[test]
fn kexec_handover_is_on_and_holds_this_bundle() {
    let guest = Machine::guest();
    pass(
        &handover(&guest, Some(FITS)),
        "scratch_len: 64 MiB, 256 MiB, 64 MiB; kernel 48 MiB and initrd 100 MiB fit",
    );
    pass(&handover(&guest, None), "handover is on");
    // Both fit into one area, or each into its own.
    pass(&handover(&guest, Some(Bundle { initrd: 208 << 20, ..FITS })), "fit");
    fail(&handover(&guest, Some(Bundle { initrd: 257 << 20, ..FITS })), "initrd 257 MiB do not fit");
    fail(&handover(&guest, Some(Bundle { init_size: 300 << 20, ..FITS })), "do not fit");
    fail(&handover(&guest, Some(Bundle { init_size: 200 << 20, initrd: 90 << 20, ..FITS })), "do not fit");
    // The start is rounded up within an area, so that an area as large as the kernel can be too small.
    let odd = Machine::guest()
        .with("sys/kernel/debug/kho/out/scratch_phys", "0x1001000\n")
        .with("sys/kernel/debug/kho/out/scratch_len", "0x4000000\n");
    fail(&handover(&odd, Some(Bundle { init_size: 64 << 20, alignment: 2 << 20, initrd: 0 })), "do not fit");
    // It fits, and leaves no room for the next kernel's own tables.
    let small = Machine::guest()
        .with("sys/kernel/debug/kho/out/scratch_phys", "0x1000000\n")
        .with("sys/kernel/debug/kho/out/scratch_len", "0x9800000\n");
    unknown(&handover(&small, Some(FITS)), "may take");
}

#[test]
fn kexec_handover_off_or_hidden() {
    let hidden = || Machine::guest().without("sys/kernel/debug/kho");
    let debugfs = "sys/kernel/debug/sched/features";
    fail(&handover(&Machine::of("stock"), None), "CONFIG_KEXEC_HANDOVER is not set");
    let off = hidden().without("dev/liveupdate").with(debugfs, "");
    fail(&handover(&off, None), "the kernel switched it off");
    let off = off.edit(CMDLINE, "kho=on ", "");
    fail(&handover(&off, None), "no kho=on");
    // The orchestrator proves that it is on; how much it holds does not show.
    pass(&handover(&hidden(), None), "it is on");
    unknown(&handover(&hidden(), Some(FITS)), "whether its scratch memory holds the bundle");
    unknown(&handover(&hidden().without("dev/liveupdate"), None), "debugfs is not mounted");
    let odd = Machine::guest().with("sys/kernel/debug/kho/out/scratch_len", "0x1\n");
    unknown(&handover(&odd, Some(FITS)), "not as long as scratch_phys");
}

fn allowed(machine: &Machine, loaded: Loaded) -> Gate {
    kexec_allowed(&machine.kexec(), &machine.kernel(), loaded)
}

#[test]
fn kexec_allowed_by_sysctl_lockdown_and_signatures() {
    let nothing = Loaded::NothingOfOurs;
    let disabled = "proc/sys/kernel/kexec_load_disabled";
    let lockdown = "sys/kernel/security/lockdown";
    pass(&allowed(&Machine::guest(), nothing), "kexec_load_disabled: 0");
    fail(&allowed(&Machine::guest().with(disabled, "1\n"), nothing), "kexec_load_disabled: 1");
    fail(&allowed(&Machine::of("stock"), nothing), "this kernel has no kexec");
    fail(
        &allowed(&Machine::guest().with("proc/sys/kernel/kexec_load_limit_reboot", "0\n"), nothing),
        "0 loads left",
    );
    let locked = || Machine::guest().with(lockdown, "none [integrity] confidentiality\n");
    fail(&allowed(&locked(), nothing), "CONFIG_KEXEC_SIG is not set");
    unknown(
        &allowed(&locked().configure("# CONFIG_KEXEC_SIG is not set", "CONFIG_KEXEC_SIG=y"), nothing),
        "loading it will tell",
    );
    unknown(&allowed(&locked().without("proc/config.gz"), nothing), "loading it will tell");
    unknown(
        &allowed(
            &Machine::guest()
                .configure("# CONFIG_KEXEC_SIG is not set", "CONFIG_KEXEC_SIG=y\nCONFIG_KEXEC_SIG_FORCE=y"),
            nothing,
        ),
        "CONFIG_KEXEC_SIG_FORCE=y",
    );
    unknown(&allowed(&Machine::guest().with(lockdown, "none\n"), nothing), "not a lockdown mode");
    pass(&allowed(&Machine::guest().without(lockdown), nothing), "no lockdown");
    unknown(&allowed(&Machine::guest().with(disabled, "\n"), nothing), "not 0 or 1");
}

#[test]
fn kexec_allowed_with_nothing_loaded_but_ours() {
    let loaded = || Machine::guest().with("sys/kernel/kexec_loaded", "1\n");
    pass(&allowed(&loaded(), Loaded::Ours), "loaded by the keeper");
    fail(&allowed(&loaded(), Loaded::NothingOfOurs), "the keeper did not load it");
    fail(&allowed(&Machine::guest(), Loaded::Ours), "unloaded by somebody");
    let old = Machine::guest().configure("# CONFIG_KEXEC is not set", "CONFIG_KEXEC=y");
    fail(&allowed(&old, Loaded::NothingOfOurs), "kexec_load(2)");
    // A kernel without an orchestrator has nothing that the old call could lose: the way to adopt.
    let stock = old.configure("CONFIG_LIVEUPDATE=y", "# CONFIG_LIVEUPDATE is not set");
    pass(&allowed(&stock, Loaded::NothingOfOurs), "kexec_loaded: 0");
}

#[test]
fn crash_dump_passes_only_where_it_was_seen() {
    let next = BootParameters::parse("kho=on crashkernel=192M");
    let gate =
        |machine: &Machine, next: Option<&BootParameters>| crash_dump(&machine.kexec(), &machine.kho(), next);
    let reserved = || Machine::guest().with("sys/kernel/kexec_crash_size", "201326592\n");
    fail(&gate(&Machine::guest(), Some(&next)), "kexec_crash_size: 0");
    fail(&gate(&Machine::of("stock"), Some(&next)), "cannot load a crash kernel");
    unknown(&gate(&reserved(), Some(&next)), "no handover has been seen here yet");
    pass(&gate(&reserved().with("sys/kernel/debug/kho/in/fdt", ""), Some(&next)), "found its room");
    fail(&gate(&reserved(), Some(&BootParameters::parse("kho=on"))), "no crashkernel=");
    unknown(&gate(&reserved(), None), "command line is not known");
    let large = Machine::guest().with("sys/kernel/kexec_crash_size", "536870912\n");
    fail(&gate(&large, Some(&next)), "finds no room");
    let plain =
        reserved().without("sys/kernel/debug/kho").without("dev/liveupdate").with("sys/kernel/debug/x", "");
    pass(&gate(&plain, Some(&next)), "as a cold boot does");
}

#[test]
fn fallback_boot_after_panics_hangs_and_power_cuts() {
    let next = BootParameters::parse("panic=10");
    let gate = |machine: &Machine, next: Option<&BootParameters>| {
        let kernel = machine.kernel();
        fallback_boot(&machine.fallback(), next, kernel.config.as_ref().ok(), "7.3.4-lu2")
    };
    let loader = "boot/loader/loader.conf";
    let state = "sys/class/watchdog/watchdog0/state";
    pass(&gate(&Machine::guest(), Some(&next)), "/boot/loader/loader.conf: liveupdate-7.3.4-lu1.conf");
    fail(&gate(&Machine::guest(), Some(&BootParameters::parse("panic=0"))), "stays on the screen");
    fail(&gate(&Machine::guest(), Some(&BootParameters::parse("quiet"))), "CONFIG_PANIC_TIMEOUT=0");
    fail(&gate(&Machine::guest().with(state, "inactive\n"), Some(&next)), "not active");
    fail(&gate(&Machine::guest().without("sys/class/watchdog"), Some(&next)), "/sys/class/watchdog: none");
    fail(&gate(&Machine::guest().edit(loader, "lu1", "lu2"), Some(&next)), "the default entry already");
    unknown(&gate(&Machine::guest().without(loader), Some(&next)), "no boot loader's default entry");
    let nowayout = "sys/class/watchdog/watchdog0/nowayout";
    unknown(&gate(&Machine::guest().with(nowayout, "0\n"), Some(&next)), "may stop it at the jump");
    // The firmware's variable outranks the file.
    let mut variable = vec![7, 0, 0, 0];
    variable.extend("7.3.4-lu2.conf\0".encode_utf16().flat_map(u16::to_le_bytes));
    let path = "sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    fail(&gate(&Machine::guest().with_bytes(path, &variable), Some(&next)), "LoaderEntryDefault");
    let grub = Machine::guest()
        .without(loader)
        .with("boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=old\n");
    pass(&gate(&grub, Some(&next)), "/boot/grub/grubenv: old");
}

#[test]
fn foreign_sessions_are_others_and_unseen_ones_are_unknown() {
    let ours = Ours { keeper: 212, sessions: &["liveupdate/vm-a"] };
    let gate = |machine: &Machine| foreign_sessions(Ok(&machine.processes()), ours);
    pass(&gate(&Machine::guest()), "but our own");
    let stored = Machine::guest().with_link("proc/1/fd/42", "anon_inode:[luo_session] vm9");
    fail(&gate(&stored), "systemd (1) keeps in its fd store sessions that are not ours: vm9");
    let held = Machine::guest().with_link("proc/500/fd/9", "anon_inode:[luo_session] theirs");
    fail(&gate(&held), "dbus-daemon (500) holds sessions");
    let open = Machine::guest().with_link("proc/500/fd/9", "/dev/liveupdate");
    fail(&gate(&open), "dbus-daemon (500) has /dev/liveupdate open");
    let unseen = Machine::guest().without("proc/301/fd/8").with("proc/301/fd/8", "");
    unknown(&gate(&unseen), "files of 1 processes could not be looked at, among them /proc/301/fd/8: ");
    let error = Processes::read(&liveupdate_host::linux::root::Root::at("/nowhere")).unwrap_err();
    unknown(&foreign_sessions(Err(&error), ours), "/proc: no such file");
}

#[test]
fn unattended_boot_waits_for_nobody() {
    let gate = |machine: &Machine| unattended_boot(storage::encrypted(&machine.root()).as_deref());
    let locked = |table: &str| {
        Machine::guest()
            .with("sys/block/dm-0/dm/uuid", "CRYPT-LUKS2-0123-root\n")
            .with("sys/block/dm-0/dm/name", "root\n")
            .with("sys/block/dm-1/dm/uuid", "LVM-abc\n")
            .with("etc/crypttab", table)
    };
    pass(&gate(&Machine::guest()), "no encrypted disk is open");
    pass(&gate(&locked("root UUID=1 - tpm2-device=auto,discard\n")), "by a chip or a server");
    fail(&gate(&locked("# comment\nroot UUID=1 none luks\n")), "root is opened by a person");
    fail(&gate(&locked("root UUID=1 - tpm2-device=auto,tpm2-pin=yes\n")), "by a person");
    unknown(&gate(&locked("data UUID=2 none\n")), "does not tell how it is opened");
    unknown(&gate(&locked("root UUID=1 /etc/key luks\n")), "key file");
    unknown(&gate(&Machine::guest().without("sys/block")), "/sys/block: no such file");
}

#[test]
fn disk_and_memory_have_room() {
    let machine = Machine::guest();
    let memory = machine.memory();
    let limited = |free, left: Option<u64>| Room {
        folder: "/var/lib/liveupdate".into(),
        free,
        to_fetch: 100 << 20,
        to_load: 200 << 20,
        to_hold: 90 << 20,
        left: left.map(|bytes| Left { path: "/kubepods/pod1/agent".into(), bytes }),
    };
    let room = |free| limited(free, None);
    pass(&disk_and_memory(&room(Ok(100 << 20)), Ok(&memory)), "100 MiB free, 100 MiB to fetch");
    fail(&disk_and_memory(&room(Ok(99 << 20)), Ok(&memory)), "99 MiB free");
    let little = machine.edit("proc/meminfo", "640112", "204799");
    fail(&disk_and_memory(&room(Ok(100 << 20)), Ok(&little.memory())), "199.9 MiB available");
    let absent = ReadError::Absent { path: "/var/lib/liveupdate".into() };
    unknown(&disk_and_memory(&room(Err(absent)), Ok(&memory)), "no such file");
    // What is loaded is charged to the agent while it reads it.
    let gate = |left: u64| disk_and_memory(&limited(Ok(100 << 20), Some(left)), Ok(&memory));
    pass(&gate(90 << 20), "/kubepods/pod1/agent: 90 MiB left to the agent, 90 MiB to hold");
    let short = gate(89 << 20);
    fail(&short, "89 MiB left to the agent");
    assert_eq!(short.remedy, "raise agent.resources.limits.memory");
}

#[test]
fn the_agents_own_limit_is_the_least_of_its_groups_and_pages_of_files_give_way() {
    let group = |path: &str, max: &str, current: &str, stat: &str| {
        let at = |name: &str| format!("sys/fs/cgroup{path}/{name}");
        [
            (at("memory.max"), max.to_owned()),
            (at("memory.current"), current.to_owned()),
            (at("memory.stat"), stat.to_owned()),
        ]
    };
    let machine = group("/pods/pod1/agent", "max", "90", "active_file 10")
        .into_iter()
        .chain(group("/pods/pod1", "100", "90", "anon 20\nactive_file 30\ninactive_file 30\nshmem 10"))
        .chain(group("/pods", "1000", "990", ""))
        .fold(Machine::guest(), |machine, (path, text)| machine.with(&path, &text));
    let left = |machine: &Machine| cgroup::left(&machine.root(), 42);
    let of = |path: &str, bytes| Some(Left { path: path.into(), bytes });
    assert_eq!(left(&machine), None, "in no group that can be seen");
    let machine = machine.with("proc/42/cgroup", "0::/pods/pod1/agent\n");
    assert_eq!(left(&machine), of("/pods", 10));
    let machine = machine.with("sys/fs/cgroup/pods/memory.current", "900");
    assert_eq!(left(&machine), of("/pods/pod1", 70));
    assert_eq!(left(&machine.with("proc/42/cgroup", "0::/\n")), None, "no limit that can be seen");
}
