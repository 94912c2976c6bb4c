//! The guest that jumps, one way and the other.

use std::time::Duration;

use super::report::Pair;
use crate::Result;
use crate::testbed::Testbed;
use crate::testbed::machines::POOL;
use crate::vm::hold::{HoldReport, events};
use crate::vm::phases::{self, Phases};
use crate::vm::{GuestOptions, Hold, Kit, KitBundle, Line, NodePlace, PATIENCE, Product, VmNode, updates};
use crate::wait::{self, Answer};

const INIT: &str = "/bin/liveupdate-lab-init";
const BUNDLES: &str = "/var/lib/liveupdate/bundles";
/// For one jump with all that goes before and after it; memory is filled and looked at under emulation.
const ENOUGH: Duration = Duration::from_mins(10);
/// After a jump, for those who start with it to come to rest.
const REST: Duration = Duration::from_secs(2);
/// MiB of the guest's memory that are not the holder's, and MiB beside each GiB of the holder's.
const MEMORY: (u32, u32) = (1024, 128);
/// An instruction is eight nanoseconds of the guest's: about what emulation takes, so that its clocks and those outside
/// agree well enough for deadlines.
const ICOUNT: &str = "shift=3,sleep=on";

pub(super) struct Machine<'a> {
    bed: &'a Testbed,
    node: VmNode,
    hold: Hold,
    /// Of both kernels.
    command_line: String,
    counted: bool,
}

impl<'a> Machine<'a> {
    /// Boots it and waits until its holder can be updated under.
    pub(super) async fn start(
        bed: &'a Testbed,
        kit: &Kit,
        index: u8,
        gib: u32,
        counted: bool,
    ) -> Result<Machine<'a>> {
        let mut hold = Hold::new("guest").arg("--check-after");
        hold.size = if gib == 0 { "8K".to_owned() } else { format!("{gib}G") };
        let product = Product { beside: vec![hold.service()], ..Product::default() };
        let name = format!("vm-{gib}g");
        // A pool of its own: the Node of the machine before stays.
        let place = NodePlace::new(index, &name).label(POOL.0, &name);
        let change = |options: &mut GuestOptions| {
            options.memory = MEMORY.0 + gib * (1024 + MEMORY.1);
            if counted {
                // Instructions of one processor are one sequence.
                options.processors = 1;
                options.qemu.extend(["-icount", ICOUNT].map(Into::into));
            }
        };
        let node = kit.node_with(bed, place, &product, change).await?;
        let machine = Machine { bed, node, hold, command_line: kit.command_line(), counted };
        machine.at_rest(0).await?;
        Ok(machine)
    }

    /// Two pairs, there and back.
    pub(super) async fn round(&self, [there, back]: &[KitBundle; 2]) -> Result<[Pair; 2]> {
        let first = self.ours(there).await?;
        let second = self.bare(back).await?;
        let third = self.bare(there).await?;
        let fourth = self.ours(back).await?;
        Ok([Pair { ours: first, bare: third }, Pair { ours: fourth, bare: second }])
    }

    /// Turns it off; its Node stays, and nothing selects it.
    pub(super) async fn end(self) -> Result<()> {
        self.node.power_off().await.map(drop)
    }

    async fn ours(&self, target: &KitBundle) -> Result<Phases> {
        const NAME: &str = "bench";
        let serial = self.node.guest().serial();
        let before = self.node.running()?.number;
        let mut update = updates::update(NAME, target);
        update.spec.node_selector.match_labels =
            Some([(POOL.0.to_owned(), self.node.name().to_owned())].into());
        self.bed.apply_update(&update).await?;
        self.bed.await_success(NAME, ENOUGH).await?;
        self.came_up(before, target)?;
        let report = || HoldReport::of(&events(&serial.lines(), &self.hold.name));
        wait::until("the holder's look at its memory after the jump", ENOUGH, async || {
            let report = report();
            Ok(match report.wrong {
                Some(_) if report.later.is_some() => Answer::Yes(()),
                _ => Answer::not_yet(format!("{report:?}")),
            })
        })
        .await?;
        let HoldReport { quiesced, reclaimed, resumed, wrong, .. } = report();
        // After a bare jump it is a new one, with a seed of its own.
        if wrong != Some(0) || quiesced.is_none() || reclaimed != quiesced || resumed != quiesced {
            return Err(self.node.fail(format!("its holder did not come through whole: {:?}", report())));
        }
        let phases = phases::of_last_jump(&self.lines());
        self.bed.delete_update_and_wait(NAME, ENOUGH).await?;
        tokio::time::sleep(REST).await;
        self.whole(phases)
    }

    async fn bare(&self, target: &KitBundle) -> Result<Phases> {
        let serial = self.node.guest().serial();
        let (before, mark) = (self.node.running()?.number, serial.mark());
        let folder = format!("{BUNDLES}/{}", target.name);
        let (image, initrd) = (format!("{folder}/image"), format!("{folder}/initrd"));
        let args = ["jump", &image, &initrd, &self.command_line];
        self.node.guest().control().run_into_next_boot(INIT, &args, PATIENCE).await?;
        self.came_up(before, target)?;
        self.at_rest(mark).await?;
        self.whole(phases::of_last_bare_jump(&self.lines()))
    }

    /// Until the holder of this boot has its memory and is known.
    async fn at_rest(&self, mark: usize) -> Result<()> {
        let verdict = format!("{}: verdict", self.hold.name);
        self.node.guest().serial().wait_for_after(mark, &verdict, ENOUGH).await?;
        tokio::time::sleep(REST).await;
        Ok(())
    }

    /// One jump was made, and it led to the target.
    fn came_up(&self, before: usize, target: &KitBundle) -> Result<()> {
        let now = self.node.running()?;
        if (now.number, &now.release) == (before + 1, &target.release) {
            return Ok(());
        }
        let KitBundle { release, .. } = target;
        Err(self.node.fail(format!("kernel {} runs {}, not {release}", now.number, now.release)))
    }

    fn lines(&self) -> Vec<Line> {
        let lines = self.node.guest().serial().lines();
        if self.counted { phases::by_counter(&lines) } else { lines }
    }

    /// What the figures are made of was seen.
    fn whole(&self, phases: Phases) -> Result<Phases> {
        if phases.whole.is_some() {
            return Ok(phases);
        }
        Err(self.node.fail(format!("its blackout was not seen from beginning to end: {phases:?}")))
    }
}
