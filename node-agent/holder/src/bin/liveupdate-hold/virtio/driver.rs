//! A NIC as one of the holder's devices.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::layout::ENTRIES;
use super::nic::Nic;
use crate::driver::{Driver, Faults, Found};
use crate::misbehaviour::BadStop;

impl Driver for Nic {
    fn address(&self) -> &str {
        self.address()
    }

    fn file(&self) -> std::io::Result<OwnedFd> {
        self.opened.device.file()
    }

    fn events(&self) -> Arc<[OwnedFd]> {
        Arc::clone(&self.opened.events)
    }

    fn description(&self) -> Vec<String> {
        let features = self.state.told.features;
        vec![format!("opened buffers={ENTRIES} features={features:#x}"), self.opened.reaches()]
    }

    fn progress(&self) -> (u64, usize) {
        (self.state.counts.received, self.state.queue.outstanding().into())
    }

    fn stands(&self) -> bool {
        self.stands
    }

    fn signalled(&mut self) {
        self.signals += self.opened.signals().into_iter().sum::<u64>();
    }

    fn turn(&mut self) -> Vec<String> {
        self.turn()
    }

    fn summary(&mut self) -> Option<String> {
        self.summary()
    }

    fn halt(&mut self) {
        self.halt();
    }

    fn stand(&mut self, _: Option<Duration>, bad: Option<BadStop>) -> Result<bool, String> {
        self.stand(bad)
    }

    fn relatch(&mut self, faults: Faults, found: &mut Found) {
        self.relatch(faults, found);
    }

    fn settle(&mut self, found: &mut Found) {
        self.settle(found);
    }

    fn go_on(&mut self) -> Vec<String> {
        self.go_on()
    }
}
