//! Time, and passes until nothing moves.

use core::time::Duration;

use super::World;
use crate::output::Plan;
use crate::report_nodes::Reported;
use crate::{Time, pass, plan};

/// More passes than this at one moment is a plan that never comes to rest.
const MAX_PASSES: u32 = 10_000;

impl World {
    /// One plan of the present.
    pub fn plan(&mut self) -> Plan {
        self.passes += 1;
        plan(&self.snapshot, self.now)
    }

    /// The same, with the reports of those nodes alone that something is to be written of.
    fn plan_news(&mut self) -> Plan {
        self.passes += 1;
        pass(&self.snapshot, self.now, Reported::News)
    }

    /// Machines whose time has come go on, and the controller hears of it. True when any did.
    pub fn go_on(&mut self) -> bool {
        let mut moved = false;
        for (node, machine) in self.snapshot.nodes.iter_mut().zip(&mut self.machines) {
            if machine.go_on(node, self.now) {
                moved = true;
                if machine.said {
                    machine.tell(&mut node.agent, self.now);
                }
            }
        }
        moved
    }

    /// Plans and carries out until a plan changes nothing any more; `see` is shown every plan. Deleted
    /// updates whose finalizer is gone vanish. False when the world does not come to rest.
    pub fn settle(&mut self, mut see: impl FnMut(&Self, &Plan)) -> bool {
        for _ in 0..MAX_PASSES {
            let plan = self.plan();
            see(self, &plan);
            let before = self.changes;
            self.carry_out(&plan);
            if self.changes == before {
                return true;
            }
        }
        false
    }

    /// As [`World::settle`], for large fleets: plans report those nodes alone that something is to be written
    /// of, and where attempts have begun and nothing else changed, they are not looked at again before their
    /// time has come.
    pub fn settle_fast(&mut self, mut see: impl FnMut(&Self, &Plan)) -> bool {
        for _ in 0..MAX_PASSES {
            let plan = self.plan_news();
            see(self, &plan);
            let before = self.changes - self.begun;
            self.carry_out(&plan);
            if self.changes - self.begun == before {
                return true;
            }
        }
        false
    }

    /// Lets time pass until `until`, settling whenever something happens. False when the world did not come
    /// to rest at some moment.
    pub fn pass_time(&mut self, until: Time, mut see: impl FnMut(&Self, &Plan)) -> bool {
        loop {
            let mut wake = None;
            let rests = self.settle(|world, plan| {
                wake = plan.wake;
                see(world, plan);
            });
            if !rests {
                return false;
            }
            let machines = self.machines.iter().filter_map(super::Machine::due).min();
            let next = [wake, machines].into_iter().flatten().min();
            match next {
                Some(next) if next <= until => {
                    self.now = next.max(self.now.after(Duration::from_millis(1)));
                }
                _ if self.now >= until => return true,
                _ => self.now = until,
            }
            self.go_on();
        }
    }
}
