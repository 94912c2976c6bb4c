//! Whatever is said in whatever order: it is refused with a reason, and nothing else happens.

use std::os::fd::AsFd;

use liveupdate_holder::frame::{MAX_BYTES, MAX_FILES, Sequence};
use liveupdate_holder::messages::envelope::Message;
use liveupdate_holder::messages::{
    Attached, Commit, Declare, Done, Grant, Hello, Preserve, Preserved, Quiesce, Quiesced, Reclaim, Refused,
    Resume, Resumed, Verdict, Welcome,
};

use crate::machine::{ATTEMPT, Machine, declared, memory, preserve, until};

fn from_a_holder() -> Vec<(&'static str, Message)> {
    vec![
        ("Preserved", Message::Preserved(Preserved {})),
        ("Quiesced", Message::Quiesced(Quiesced { interrupts_off: true, ..Quiesced::default() })),
        ("Attached", Message::Attached(Attached::default())),
        ("Reclaim", Message::Reclaim(Reclaim { name: "vm-a".into() })),
        ("Resumed", Message::Resumed(Resumed::default())),
    ]
}

fn from_a_keeper() -> Vec<Message> {
    vec![
        Message::Welcome(Welcome::default()),
        Message::Verdict(Verdict::default()),
        Message::Preserve(Preserve {}),
        Message::Quiesce(Quiesce::default()),
        Message::Commit(Commit {}),
        Message::Resume(Resume::default()),
        Message::Grant(Grant::default()),
        Message::Done(Done {}),
    ]
}

#[test]
fn the_first_message_is_hello_of_a_version_that_is_spoken() {
    let machine = Machine::new();
    let _keeper = machine.keeper();
    for (_, message) in from_a_holder() {
        let mut client = machine.client();
        client.say("", message, &[]);
        assert_eq!(client.refused(), "the first message is not Hello");
        assert_eq!(client.hear(), None);
    }
    for (versions, name) in [(vec![], "vm-a"), (vec![2, 3], "vm-a"), (vec![1], ""), (vec![1], "a\nb")] {
        let mut client = machine.client();
        client.say("", Message::Hello(Hello { name: name.into(), versions }), &[]);
        client.refused();
        assert_eq!(client.hear(), None);
    }
}

#[test]
fn garbage_gaps_other_versions_and_too_much_end_the_connection_with_a_reason() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let good = machine.hold("vm-good", "a", &[]);
    declared(&keeper, 1);
    let null = std::fs::File::open("/dev/null").unwrap();
    let hello = || Message::Hello(Hello { name: "vm-b".into(), versions: vec![1] });
    let packet = |sequence: u32| {
        let mut numbered = Sequence::default();
        (1..sequence).for_each(|_| drop(numbered.encode("", hello(), 0).unwrap()));
        numbered.encode("", hello(), 0).unwrap()
    };
    let mut other_version = packet(1);
    assert_eq!(other_version[..2], [8, 1], "the version comes first");
    other_version[1] = 2;
    for first in [true, false] {
        let next = packet(if first { 1 } else { 2 });
        for (bytes, files, why) in [
            (vec![0xff; 40], 0, "not a handover message"),
            (other_version.clone(), 0, "version 2"),
            (packet(7), 0, "message 7 came"),
            (vec![8, 1, 16, if first { 1 } else { 2 }], 0, "empty"),
            (vec![0; MAX_BYTES + 1], 0, "at most 65536"),
            (next.clone(), MAX_FILES + 1, "at most 64"),
            (next, 1, if first { "" } else { "has none" }),
        ] {
            let mut client = if first { machine.client() } else { machine.welcomed("vm-a") };
            client.packets.send(&bytes, &vec![null.as_fd(); files]).unwrap();
            if why.is_empty() {
                continue;
            }
            let refused = client.refused();
            assert!(refused.contains(why), "{refused:?} has no {why:?}");
            assert_eq!(client.hear(), None, "{why}");
        }
    }
    assert_eq!(keeper.holders().unwrap().len(), 1);
    assert!(!good.says("disconnected"), "others notice nothing");
}

#[test]
fn what_does_not_fit_is_refused_and_what_is_the_keepers_ends_the_connection() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let mut client = machine.client();
    client.hello("vm-a");
    for (name, message) in from_a_holder() {
        // An attempt that is not under way is not spoken about at all.
        client.say("an old one", message.clone(), &[]);
        match name {
            "Attached" => assert_eq!(client.refused(), "Attached does not fit while Connected"),
            "Reclaim" => assert_eq!(client.refused(), "nothing is kept for you"),
            _ => {}
        }
    }
    let file = memory(4096);
    client.declare(&[file.as_fd()]);
    assert!(matches!(client.hear(), Some(Message::Verdict(_))));
    declared(&keeper, 1);
    for message in from_a_keeper() {
        let mut client = machine.welcomed("vm-b");
        client.say("", message, &[]);
        assert_eq!(client.refused(), "that is for the keeper to say");
        assert_eq!(client.hear(), None);
    }
    for _ in 0..20 {
        let bytes = client.sequence.encode(ATTEMPT, Message::Attached(Attached::default()), 0).unwrap();
        // It ends in the middle of this.
        let _ = client.packets.send(&bytes, &[]);
    }
    until("whoever makes mistakes for ever is let go", || keeper.holders().unwrap().is_empty());
}

#[test]
fn an_attempt_survives_what_does_not_fit_and_ends_by_what_changes_it() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let mut client = machine.client();
    client.hello("vm-a");
    let (file, other) = (memory(4096), memory(4096));
    client.declare(&[file.as_fd()]);
    client.hear();
    declared(&keeper, 1);
    let answer = |client: &mut crate::machine::Client, message| {
        client.say(ATTEMPT, message, &[]);
    };
    std::thread::scope(|scope| {
        let preserving = scope.spawn(|| preserve(&keeper));
        assert!(matches!(client.hear(), Some(Message::Preserve(_))));
        answer(&mut client, Message::Quiesced(Quiesced { interrupts_off: true, ..Quiesced::default() }));
        assert_eq!(client.refused(), "Quiesced does not fit while Preserving");
        answer(&mut client, Message::Preserved(Preserved {}));
        preserving.join().unwrap().unwrap();
        answer(&mut client, Message::Preserved(Preserved {}));
        assert_eq!(client.refused(), "Preserved does not fit while Preserved");

        let quiescing = scope.spawn(|| crate::machine::votes(&keeper, crate::machine::SOON));
        assert!(matches!(client.hear(), Some(Message::Quiesce(_))));
        answer(&mut client, Message::Quiesced(Quiesced { interrupts_off: false, ..Quiesced::default() }));
        let votes = quiescing.join().unwrap();
        assert_eq!(votes["vm-a"], Err("stopped without its interrupts being off".into()));
    });
    let resuming = std::thread::scope(|scope| {
        let resuming = scope.spawn(|| keeper.resume("undone").unwrap());
        assert!(matches!(client.hear(), Some(Message::Resume(_))));
        // They crossed: that is nobody's mistake.
        answer(&mut client, Message::Quiesced(Quiesced { interrupts_off: true, ..Quiesced::default() }));
        answer(&mut client, Message::Resumed(Resumed { counter: 5, checks: vec![] }));
        resuming.join().unwrap()
    });
    assert_eq!((resuming[0].result.clone(), resuming[0].counter), (Ok(()), Some(5)));
    keeper.unpreserve().unwrap();

    // In the middle of the next one it has something else: those files were not taken.
    std::thread::scope(|scope| {
        let preserving = scope.spawn(|| preserve(&keeper));
        assert!(matches!(client.hear(), Some(Message::Preserve(_))));
        client.declare(&[other.as_fd()]);
        let error = preserving.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("declared other files while Preserving"), "{error}");
    });
    client.say(ATTEMPT, Message::Refused(Refused { reason: "late".into() }), &[]);
    client.say("", Message::Declare(Declare::default()), &[]);
    assert!(matches!(client.hear(), Some(Message::Verdict(_))), "it goes on as before");
}

/// In an attempt the keeper's memory is locked, and that of every connection with it.
#[test]
fn a_connection_takes_no_more_memory_than_it_needs() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let (_one, _two) = (machine.hold("vm-a", "a", &[]), machine.hold("vm-b", "b", &[]));
    declared(&keeper, 2);
    // Where a thread stands in its stack, while it waits for the kernel.
    let size = |task: std::path::PathBuf| {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let called = std::fs::read_to_string(task.join("syscall")).ok()?;
        let stack = called.split_whitespace().rev().nth(1)?.strip_prefix("0x")?;
        let stack = u64::from_str_radix(stack, 16).ok()?;
        let mut spans = maps.lines().filter_map(|line| {
            let (from, to) = line.split_once(' ')?.0.split_once('-')?;
            Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
        });
        spans.find(|(from, to)| (*from..*to).contains(&stack)).map(|(from, to)| to - from)
    };
    let is_holders = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "holder\n")
    };
    let mut sizes: Vec<u64> = Vec::new();
    until("two of them wait", || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
        sizes = tasks.filter(is_holders).filter_map(size).collect();
        sizes.len() >= 2
    });
    assert!(sizes.iter().all(|size| *size <= 260 << 10), "{sizes:?}");
}
