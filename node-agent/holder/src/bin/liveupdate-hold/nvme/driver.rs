//! A disk as one of the holder's devices.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::drive::Drive;
use crate::driver::{Driver, Faults, Found};
use crate::misbehaviour::BadStop;

impl Driver for Drive {
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
        let (bytes, sector, depth) = (self.state.disk, self.state.sector, self.flight().places.len());
        vec![format!("opened bytes={bytes} sector={sector} depth={depth}"), self.opened.reaches()]
    }

    fn progress(&self) -> (u64, usize) {
        (self.flight().counts.done, self.flight().len())
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

    fn stand(&mut self, drains: Option<Duration>, bad: Option<BadStop>) -> Result<bool, String> {
        self.stand(drains, bad)
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
