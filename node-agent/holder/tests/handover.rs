//! The holder's side against the core's machine of the keeper's side, over a transport in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use liveupdate_holder::frame::{Sequence, VERSION};
use liveupdate_holder::{
    Guest, Handover, HandoverError, Packet, Progress, RunError, Stopped, Transport, run,
};
use liveupdate_node_core::holder::{Effect, Event, State};
use liveupdate_proto::handover::v1::envelope::Message;
use liveupdate_proto::handover::v1::{
    Check, Commit, Declare, Done, Grant, Preserve, Quiesce, Resume, Resumed, Verdict, Welcome,
};

const ATTEMPT: &str = "7f3c-0a1b2c3d-1";

/// A VMM that writes down what was asked of it.
#[derive(Default)]
struct Vm {
    did: Vec<&'static str>,
    refuses_to_stop: bool,
    /// How often it cannot go on.
    stuck: usize,
}

impl Guest for Vm {
    type File = &'static str;

    fn declare(&mut self) -> (Declare, Vec<Self::File>) {
        self.did.push("declare");
        (Declare::default(), vec!["memfd", "vfio"])
    }
    fn preserve(&mut self) -> Result<(), String> {
        self.did.push("preserve");
        Ok(())
    }
    fn quiesce(&mut self, deadline: Duration) -> Result<Stopped, String> {
        assert_eq!(deadline, Duration::from_secs(2));
        if self.refuses_to_stop {
            return Err("a vCPU does not stop".into());
        }
        self.did.push("stop");
        Ok(Stopped { counter: 7, interrupts_off: true, dma_quiescent: false, state_length: 9 })
    }
    fn resume(&mut self, _: &str) -> Result<Resumed, String> {
        if let Some(left) = self.stuck.checked_sub(1) {
            self.stuck = left;
            return Err("a vCPU does not start".into());
        }
        self.did.push("go on");
        Ok(Resumed { counter: 8, checks: vec![] })
    }
    fn attach(&mut self, _: &Grant, session: &'static str) -> Result<Vec<Check>, String> {
        assert_eq!(session, "session");
        self.did.push("attach");
        Ok(vec![])
    }
    fn verdict(&mut self, _: &Verdict) {
        self.did.push("verdict");
    }
}

/// The keeper's end: the core's state decides what it says; a script says when something begins.
struct Keeper {
    state: State,
    sequence: Sequence,
    script: VecDeque<Event>,
    outbox: VecDeque<Packet<&'static str>>,
    resumed: usize,
    /// As it was told last.
    counter: u64,
    refused: Vec<String>,
}

impl Keeper {
    fn new(state: State, script: impl Into<VecDeque<Event>>) -> Self {
        let (outbox, refused) = (VecDeque::new(), Vec::new());
        Self {
            state,
            sequence: Sequence::default(),
            script: script.into(),
            outbox,
            resumed: 0,
            counter: 0,
            refused,
        }
    }

    fn say(&mut self, message: Message) {
        let files = if matches!(message, Message::Grant(_)) { vec!["session"] } else { vec![] };
        let bytes = self.sequence.encode(ATTEMPT, message, files.len()).unwrap();
        self.outbox.push_back(Packet { bytes, files });
    }

    fn step(&mut self, event: Event) {
        let (before, what) = (self.state, format!("{event:?}"));
        let transition = self.state.step(event);
        assert!(!transition.refused, "{what} does not fit {before:?}");
        self.state = transition.state;
        for effect in transition.effects {
            match effect {
                Effect::SendVerdict => self.say(Message::Verdict(Verdict::default())),
                Effect::SendPreserve => self.say(Message::Preserve(Preserve {})),
                Effect::SendQuiesce => self.say(Message::Quiesce(Quiesce { deadline_ms: 2_000 })),
                Effect::SendCommit => self.say(Message::Commit(Commit {})),
                Effect::SendResume(cause) => self.say(Message::Resume(Resume { cause })),
                Effect::Grant => self.say(Message::Grant(Grant::default())),
                Effect::Finish => self.say(Message::Done(Done {})),
                Effect::HasResumed => self.resumed += 1,
                Effect::AbortAll(cause) => panic!("{cause}"),
            }
        }
    }
}

impl Transport for Keeper {
    type File = &'static str;

    fn send(&mut self, packet: Packet<&'static str>) -> io::Result<()> {
        let (_, message) = self.sequence.decode(&packet.bytes, packet.files.len()).unwrap();
        match message {
            Message::Hello(hello) => {
                assert_eq!((hello.name.as_str(), hello.versions), ("vm-a", vec![VERSION]));
                let pending = self.state == State::Pending;
                self.say(Message::Welcome(Welcome { version: VERSION, pending, ..Welcome::default() }));
            }
            // After Done the connection is an ordinary one again.
            Message::Declare(_) if self.state == State::Done => {}
            Message::Declare(_) => self.step(Event::Declare),
            Message::Preserved(_) => self.step(Event::Preserved),
            Message::Quiesced(q) => self.step(Event::Quiesced { interrupts_off: q.interrupts_off }),
            Message::Resumed(resumed) => {
                self.counter = resumed.counter;
                self.step(Event::Resumed);
            }
            Message::Reclaim(_) => self.step(Event::Reclaim),
            Message::Attached(_) => self.step(Event::Attached),
            Message::Refused(refused) => self.refused.push(refused.reason),
            other => panic!("a holder does not say {other:?}"),
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Option<Packet<&'static str>>> {
        while self.outbox.is_empty() {
            match self.script.pop_front() {
                Some(event) => self.step(event),
                None => return Ok(None),
            }
        }
        Ok(self.outbox.pop_front())
    }
}

fn way() -> Vec<Event> {
    vec![Event::Preserve, Event::Quiesce, Event::Commit]
}

#[test]
fn a_holder_goes_the_whole_way_to_the_commit_and_the_kernel_ends() {
    let mut keeper = Keeper::new(State::Connected, way());
    let mut handover = Handover::new("vm-a", Vm::default());
    run(&mut handover, &mut keeper).unwrap();
    assert_eq!(keeper.state, State::Committed);
    // The end of file after the commit is the keeper's: had no jump come, the guest would have to run.
    assert_eq!(handover.guest().did, ["declare", "verdict", "preserve", "stop", "go on"]);
}

#[test]
fn a_holder_resumes_when_it_is_told_and_once_only() {
    for stop_at in 2..=3 {
        let mut script = way();
        script.truncate(stop_at);
        script.push(Event::Undo("another holder voted no".into()));
        let mut keeper = Keeper::new(State::Connected, script);
        let mut handover = Handover::new("vm-a", Vm::default());
        run(&mut handover, &mut keeper).unwrap();
        assert_eq!((keeper.state, keeper.resumed), (State::Declared, 1));
        assert_eq!(handover.guest().did, ["declare", "verdict", "preserve", "stop", "go on"], "{stop_at}");
    }
}

#[test]
fn a_successor_takes_its_files_back_and_says_so_before_the_session_is_finished() {
    let mut keeper = Keeper::new(State::Pending, []);
    let mut handover = Handover::new("vm-a", Vm::default());
    run(&mut handover, &mut keeper).unwrap();
    assert_eq!((keeper.state, keeper.resumed), (State::Done, 1));
    assert_eq!(handover.guest().did, ["attach", "go on", "declare"]);
}

/// A keeper that dies when it is told of a guest that came back, before it has taken that.
struct Dies(Keeper);

impl Transport for Dies {
    type File = &'static str;

    fn send(&mut self, packet: Packet<&'static str>) -> io::Result<()> {
        if self.0.state == State::Granted {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.send(packet)
    }
    fn receive(&mut self) -> io::Result<Option<Packet<&'static str>>> {
        self.0.receive()
    }
}

#[test]
fn a_guest_that_came_back_is_not_taken_back_again_when_its_keeper_is_told_again() {
    let mut handover = Handover::new("vm-a", Vm::default());
    for _ in 0..2 {
        let result = run(&mut handover, &mut Dies(Keeper::new(State::Pending, [])));
        assert!(matches!(result, Err(RunError::Transport(_))), "{result:?}");
        assert_eq!(handover.guest().did, ["attach", "go on"]);
    }
    let mut keeper = Keeper::new(State::Pending, []);
    run(&mut handover, &mut keeper).unwrap();
    assert_eq!((keeper.state, keeper.resumed, keeper.counter), (State::Done, 1, 8));
    assert_eq!(handover.guest().did, ["attach", "go on", "declare"]);
    // That jump is over. Another one takes it back anew.
    run(&mut handover, &mut Keeper::new(State::Pending, [])).unwrap();
    assert_eq!(handover.guest().did[3..], ["attach", "go on", "declare"]);
}

#[test]
fn a_guest_that_could_not_go_on_with_its_files_is_given_them_again() {
    let mut handover = Handover::new("vm-a", Vm { stuck: 1, ..Vm::default() });
    let mut keeper = Keeper::new(State::Pending, []);
    let result = run(&mut handover, &mut keeper);
    assert!(matches!(result, Err(RunError::Handover(HandoverError::Guest(_)))), "{result:?}");
    assert_eq!((keeper.state, keeper.resumed), (State::Granted, 0), "nobody hears of it");
    run(&mut handover, &mut Keeper::new(State::Pending, [])).unwrap();
    assert_eq!(handover.guest().did, ["attach", "attach", "go on", "declare"]);
}

#[test]
fn a_holder_that_cannot_stop_refuses_and_runs_on() {
    let mut keeper = Keeper::new(State::Connected, way()[..2].to_vec());
    let mut handover = Handover::new("vm-a", Vm { refuses_to_stop: true, ..Vm::default() });
    run(&mut handover, &mut keeper).unwrap();
    assert_eq!(keeper.refused, ["a vCPU does not stop"]);
    assert_eq!(handover.guest().did, ["declare", "verdict", "preserve"]);
}

/// Says what no keeper may say.
struct Rogue(VecDeque<Packet<&'static str>>);

impl Transport for Rogue {
    type File = &'static str;

    fn send(&mut self, _: Packet<&'static str>) -> io::Result<()> {
        Ok(())
    }
    fn receive(&mut self) -> io::Result<Option<Packet<&'static str>>> {
        Ok(self.0.pop_front())
    }
}

/// A holder that was told all this, and the keeper's end of that.
fn told(guest: Vm, messages: Vec<(&str, Message)>) -> (Handover<Vm>, Sequence) {
    let (mut handover, mut keeper) = (Handover::new("vm-a", guest), Sequence::default());
    heard(&mut keeper, &handover.hello().unwrap());
    for (attempt, message) in messages {
        tell(&mut handover, &mut keeper, attempt, message);
    }
    (handover, keeper)
}

fn tell(handover: &mut Handover<Vm>, keeper: &mut Sequence, attempt: &str, message: Message) -> Vec<Message> {
    let bytes = keeper.encode(attempt, message, 0).unwrap();
    heard(keeper, &handover.receive(Packet { bytes, files: vec![] }).unwrap())
}

fn heard(keeper: &mut Sequence, packets: &[Packet<&str>]) -> Vec<Message> {
    packets.iter().map(|packet| keeper.decode(&packet.bytes, packet.files.len()).unwrap().1).collect()
}

fn stopped(commit: bool) -> Vec<(&'static str, Message)> {
    let welcome = Message::Welcome(Welcome { version: VERSION, ..Welcome::default() });
    let mut messages = vec![
        ("", welcome),
        ("", Message::Verdict(Verdict::default())),
        (ATTEMPT, Message::Preserve(Preserve {})),
        (ATTEMPT, Message::Quiesce(Quiesce { deadline_ms: 2_000 })),
    ];
    if commit {
        messages.push((ATTEMPT, Message::Commit(Commit {})));
    }
    messages
}

/// Hotplug comes when it comes.
#[test]
fn a_guest_that_stands_goes_on_also_when_it_has_declared_itself_meanwhile() {
    for commit in [false, true] {
        let (mut handover, mut keeper) = told(Vm::default(), stopped(commit));
        let said = heard(&mut keeper, &handover.declare().unwrap());
        assert!(matches!(said[..], [Message::Declare(_)]), "{said:?}");
        // The keeper's answer to that is to undo the attempt.
        let undo = Message::Resume(Resume { cause: "it declared other files".into() });
        let said = tell(&mut handover, &mut keeper, ATTEMPT, undo);
        assert!(matches!(said[..], [Message::Resumed(Resumed { counter: 8, .. })]), "{said:?}");
        assert_eq!(handover.guest().did[2..], ["preserve", "stop", "declare", "go on"], "{commit}");
        assert_eq!(handover.progress(), Progress::Ready);

        let (mut handover, _) = told(Vm::default(), stopped(commit));
        handover.declare().unwrap();
        handover.ended().unwrap();
        assert_eq!(handover.guest().did.last(), Some(&"go on"), "{commit}: the keeper is gone");
    }
}

#[test]
fn a_guest_that_could_not_go_on_goes_on_before_it_says_anything_on_another_connection() {
    let (mut handover, _) = told(Vm { stuck: 1, ..Vm::default() }, stopped(true));
    let error = handover.ended().unwrap_err();
    assert!(matches!(error, HandoverError::Guest(_)), "{error}");
    assert_eq!(handover.guest().did.last(), Some(&"stop"));
    handover.hello().unwrap();
    assert_eq!(handover.guest().did.last(), Some(&"go on"));

    // For as long as it cannot, nobody hears that it runs.
    let (mut handover, _) = told(Vm { stuck: 2, ..Vm::default() }, stopped(true));
    assert!(handover.ended().is_err() && handover.hello().is_err());
    assert_eq!(handover.guest().did.last(), Some(&"stop"));
}

fn rogue(messages: Vec<(&str, Message)>) -> (Result<(), RunError>, Vec<&'static str>) {
    let mut sequence = Sequence::default();
    let packet =
        |(attempt, message)| Packet { bytes: sequence.encode(attempt, message, 0).unwrap(), files: vec![] };
    let mut rogue = Rogue(messages.into_iter().map(packet).collect());
    let mut handover = Handover::new("vm-a", Vm::default());
    let result = run(&mut handover, &mut rogue);
    assert_eq!(handover.progress(), Progress::Greeting, "a new connection begins anew");
    (result, handover.guest().did.clone())
}

#[test]
fn messages_out_of_order_end_the_connection_and_never_leave_a_guest_standing() {
    let welcome =
        |version, pending| ("", Message::Welcome(Welcome { version, pending, ..Welcome::default() }));
    let verdict = || ("", Message::Verdict(Verdict::default()));
    let quiesce = |attempt| (attempt, Message::Quiesce(Quiesce { deadline_ms: 2_000 }));
    let preserve = || (ATTEMPT, Message::Preserve(Preserve {}));
    let ready = || vec![welcome(VERSION, false), verdict()];

    let (result, did) = rogue(vec![quiesce("")]);
    assert!(matches!(result, Err(RunError::Handover(HandoverError::Unexpected { message: "Quiesce", .. }))));
    assert!(did.is_empty());

    let (result, _) = rogue(vec![welcome(2, false)]);
    assert!(matches!(result, Err(RunError::Handover(HandoverError::Version { found: 2 }))));

    let (result, did) = rogue(vec![welcome(VERSION, true), ("", Message::Grant(Grant::default()))]);
    assert!(matches!(result, Err(RunError::Handover(HandoverError::Guest(_)))), "no session file");
    assert!(did.is_empty());

    let (result, did) = rogue([ready(), vec![preserve(), quiesce("another")]].concat());
    assert!(result.is_ok() && !did.contains(&"stop"), "an old attempt stops nobody: {did:?}");

    let (result, did) = rogue([ready(), vec![preserve(), quiesce(ATTEMPT), preserve()]].concat());
    assert!(result.is_err());
    assert_eq!(did.last(), Some(&"go on"));
}
