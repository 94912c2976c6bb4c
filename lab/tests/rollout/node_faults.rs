//! Invariants 3, 5 and 6 where something on the node dies: its agent, its keeper, its power; before the commit
//! and after.
//!
//! Each test has a node and an update of its own on the one test bed.

use std::sync::LazyLock;
use std::time::Duration;

use liveupdate_crds::{Epoch, LiveUpdate, LiveUpdateStatus, NodeLiveUpdateStatus};
use liveupdate_host::simulated::Durations;
use liveupdate_lab::fleet::SimulatedNode;
use liveupdate_lab::testbed::{Observer, machines};
use liveupdate_lab::wait::{self, Answer};
use liveupdate_lab::{Options, Testbed, TestbedOptions};
use liveupdate_proto::common::v1::NodeState;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

const LONG: Duration = Duration::from_secs(90);
/// Long enough for whoever looks to see the state.
const HELD: u64 = 3_000;
const LABEL: &str = "case";

/// It outlives each test: the bed's tasks live on it.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());
static BED: OnceCell<(Testbed, Observer)> = OnceCell::const_new();

const CASES: [&str; 8] = [
    "agent-before-commit",
    "agent-at-commit",
    "agent-after-return",
    "keeper-before-commit",
    "keeper-after-return",
    "power-before-commit",
    "power-in-jump",
    "power-after-return",
];

async fn bed() -> (&'static Testbed, &'static Observer) {
    let (bed, observer) = BED
        .get_or_init(|| async {
            let node = |(index, case): (u16, &&str)| {
                let mut node = machines::node(index, machines::unhurried()).label(LABEL, case);
                node.name = (*case).to_owned();
                node
            };
            let nodes = (0..).zip(&CASES).map(node).collect();
            let plane = Options { scheduler: false, ..Options::default() };
            let options = TestbedOptions { plane, ..TestbedOptions::default() };
            let mut bed = Testbed::start(options, nodes).await.unwrap();
            bed.apply_policy(machines::policy()).await.unwrap();
            let observer = Observer::start(&bed).unwrap();
            bed.start_controller().await.unwrap();
            bed.await_known(LONG).await.unwrap();
            (bed, observer)
        })
        .await;
    (bed, observer)
}

/// One node with an update of its own.
struct Case {
    bed: &'static Testbed,
    name: &'static str,
    observer: &'static Observer,
    epoch: Epoch,
}

impl Case {
    /// Applies the update of a node on which things take so long.
    async fn begin(name: &'static str, slow: impl FnOnce(&mut Durations)) -> Case {
        let (bed, observer) = bed().await;
        let node = bed.fleet.node(name).unwrap();
        node.world().change(|world| slow(&mut world.durations)).unwrap();
        bed.apply_update(&update(name)).await.unwrap();
        let flying = |status: &LiveUpdateStatus| !status.in_flight.is_empty();
        let begun = bed.await_update(name, "in flight", LONG, flying).await.unwrap();
        let epoch = begun.status.unwrap().epoch.unwrap();
        Case { bed, name, observer, epoch }
    }

    fn node(&self) -> &'static SimulatedNode {
        self.bed.fleet.node(self.name).unwrap()
    }

    /// Waits until the node's attempt is in this state.
    async fn reaches(&self, state: NodeState) {
        wait::until(&format!("{} {state:?}", self.name), LONG, async || {
            let found = self.bed.state_of(self.node(), &self.epoch).await;
            Ok(if found == Some(state) { Answer::Yes(()) } else { Answer::not_yet(format!("{found:?}")) })
        })
        .await
        .unwrap();
    }

    /// Whatever comes next goes fast.
    fn hurry(&self) {
        self.node().world().change(|world| world.durations = machines::unhurried().durations).unwrap();
    }

    /// The attempts for which it jumped, by their last part: the try.
    fn jumps(&self) -> Vec<String> {
        let jumps = self.node().world().jumps().unwrap();
        jumps.iter().map(|attempt| attempt.rsplit('-').next().unwrap().to_owned()).collect()
    }

    async fn record(
        &self,
        what: &str,
        wanted: impl Fn(&NodeLiveUpdateStatus) -> bool,
    ) -> NodeLiveUpdateStatus {
        self.bed.await_node_update(self.name, what, LONG, wanted).await.unwrap().status.unwrap()
    }

    /// It ends well, in this try, having jumped for these.
    async fn ends_updated(&self, attempt: &str, jumps: &[&str]) -> NodeLiveUpdateStatus {
        self.bed.await_success(self.name, LONG).await.unwrap();
        let record = self.record("Updated", |status| status.state == "Updated").await;
        assert_eq!(record.kernel, machines::NEW);
        assert_eq!(record.attempt.rsplit('-').next(), Some(attempt), "{record:#?}");
        assert_eq!(self.jumps(), jumps);
        let words: Vec<_> = record.devices.iter().map(|device| device.outcome.as_deref()).collect();
        assert_eq!(words, [Some("Uninterrupted")], "one outcome for the device");
        self.rests().await;
        record
    }

    /// It fails for one of these reasons, and keeps our mark.
    async fn ends_failed(&self, reasons: &[&str], jumps: &[&str]) -> NodeLiveUpdateStatus {
        let record = self.record("Failed", |status| status.state == "Failed").await;
        assert!(reasons.contains(&record.reason.as_str()), "{}: {}", record.reason, record.message);
        assert_eq!(record.kernel, machines::OLD, "as its kubelet says");
        assert_eq!(self.jumps(), jumps);
        let spent = |status: &LiveUpdateStatus| status.failures == 1 && status.in_flight.is_empty();
        let update = self.bed.await_update(self.name, "the failure counted", LONG, spent).await.unwrap();
        assert_eq!(update.status.unwrap().state, "FailureBudgetSpent");
        let marked = self.bed.marked().await.unwrap();
        assert!(marked.contains(&self.name.to_owned()), "unavailable until somebody accepts it: {marked:?}");
        assert_eq!(self.observer.violations(LONG).await.unwrap(), Vec::<String>::new());
        record
    }

    /// Nothing of the run is left on the node, and no invariant was broken on the way.
    async fn rests(&self) {
        wait::until(&format!("no mark on {}", self.name), LONG, async || {
            let marked = self.bed.marked().await?;
            Ok(if marked.contains(&self.name.to_owned()) {
                Answer::not_yet("marked")
            } else {
                Answer::Yes(())
            })
        })
        .await
        .unwrap();
        assert_eq!(self.observer.violations(LONG).await.unwrap(), Vec::<String>::new());
    }
}

fn update(name: &str) -> LiveUpdate {
    let mut update = machines::update(name, machines::NEW);
    update.spec.node_selector.match_labels = Some([(LABEL.to_owned(), name.to_owned())].into());
    update
}

#[test]
fn invariant_6_an_agent_killed_before_the_commit_loses_nothing() {
    RUNTIME.block_on(async {
        let case = Case::begin("agent-before-commit", |takes| takes.preserve = HELD).await;
        case.reaches(NodeState::Preserving).await;
        case.hurry();
        case.node().restart_agent();
        case.ends_updated("1", &["1"]).await;
    });
}

/// From the permission on the keeper needs nobody.
#[test]
fn invariant_6_an_agent_killed_at_the_commit_is_not_missed() {
    RUNTIME.block_on(async {
        let case = Case::begin("agent-at-commit", |takes| takes.quiesce = 1_500).await;
        case.reaches(NodeState::Quiescing).await;
        case.node().restart_agent();
        case.ends_updated("1", &["1"]).await;
    });
}

#[test]
fn invariant_6_an_agent_killed_after_the_return_still_tells_the_outcome() {
    RUNTIME.block_on(async {
        let case = Case::begin("agent-after-return", |takes| takes.reclaim = HELD).await;
        case.reaches(NodeState::Reclaiming).await;
        case.node().restart_agent();
        case.ends_updated("1", &["1"]).await;
    });
}

#[test]
fn invariant_6_a_keeper_killed_before_the_commit_has_all_undone_and_tried_again() {
    RUNTIME.block_on(async {
        let case = Case::begin("keeper-before-commit", |takes| takes.preserve = HELD).await;
        case.reaches(NodeState::Preserving).await;
        // The next attempt takes as long: what the one that was killed would have done comes in its midst.
        case.node().restart_keeper();
        let record = case.ends_updated("2", &["2"]).await;
        assert_eq!(record.aborts, 1, "the first attempt is on record as undone");
    });
}

#[test]
fn invariant_8_a_keeper_killed_after_the_return_drops_nothing() {
    RUNTIME.block_on(async {
        let case = Case::begin("keeper-after-return", |takes| takes.reclaim = HELD).await;
        case.reaches(NodeState::Reclaiming).await;
        case.node().restart_keeper();
        case.ends_updated("1", &["1"]).await;
    });
}

#[test]
fn invariant_6_a_power_cut_before_the_commit_is_an_attempt_undone() {
    RUNTIME.block_on(async {
        let case = Case::begin("power-before-commit", |takes| takes.preserve = HELD).await;
        case.reaches(NodeState::Preserving).await;
        case.hurry();
        case.node().world().power_cut().unwrap();
        case.ends_updated("2", &["2"]).await;
    });
}

/// The machine boots its old kernel: what was in memory is gone, and the status says so.
#[test]
fn invariant_6_a_power_cut_in_the_jump_is_a_failure_that_says_so() {
    RUNTIME.block_on(async {
        let case = Case::begin("power-in-jump", |takes| takes.jump = HELD).await;
        wait::until("the jump", LONG, async || {
            let off = case.node().world().power().unwrap();
            Ok(off.map_or_else(|| Answer::not_yet("it runs"), |_| Answer::Yes(())))
        })
        .await
        .unwrap();
        case.node().world().power_cut().unwrap();
        let record = case.ends_failed(&["WrongKernel"], &["1"]).await;
        let words: Vec<_> = record.devices.iter().map(|device| device.outcome.as_deref()).collect();
        assert_eq!(words, [Some("Lost")], "the guest's device is gone, and nothing better is said");

        // A kernel that did not come up is not tried again, and the plugin says so.
        let output = case.bed.plugin(&["retry", case.name, case.name]).await.unwrap();
        assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
        assert!(output.stderr.contains("is tried on no node any more"), "{}", output.stderr);
        assert_eq!(case.jumps(), ["1"]);
    });
}

#[test]
fn invariant_6_a_power_cut_after_the_return_is_a_failure_that_says_so() {
    RUNTIME.block_on(async {
        let case = Case::begin("power-after-return", |takes| takes.reclaim = HELD).await;
        case.reaches(NodeState::Reclaiming).await;
        case.node().world().power_cut().unwrap();
        case.ends_failed(&["WrongKernel", "VerifyFailed"], &["1"]).await;
    });
}
