//! The stand-in for a guest's kubelet.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use liveupdate_host::HostError;
use liveupdate_host::simulated::Running;
use liveupdate_proto::causes::chain;

use crate::fleet::{Kubelet, Machine};
use crate::vm::{Boot, Control};

/// A guest that does not answer for so long has no kubelet that could renew anything.
const ANSWER: Duration = Duration::from_secs(10);

/// What the guest's kernel said last.
#[derive(Debug)]
pub(super) struct GuestMachine(Mutex<Running>);

impl GuestMachine {
    pub(super) fn new(boot: &Boot) -> GuestMachine {
        let running = Running { boot_id: boot.boot_id.clone(), release: boot.release.clone() };
        GuestMachine(Mutex::new(running))
    }

    /// Takes note of what runs; true when that is another kernel than before.
    fn set(&self, running: Running) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let other = held.boot_id != running.boot_id;
        *held = running;
        other
    }
}

impl Machine for GuestMachine {
    fn running(&self) -> Result<Option<Running>, HostError> {
        Ok(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    fn os_image(&self) -> &'static str {
        "liveupdate lab (QEMU guest)"
    }
}

/// Does what a kubelet does for as long as it runs: posts the Node's status when another kernel came up, or
/// when nothing could be posted for a while, and renews the Lease whenever the guest answers. A guest that
/// does not answer gets nothing renewed; what follows from that is the control plane's to say.
pub(super) async fn stand_in(
    node: String,
    uid: String,
    kubelet: Kubelet,
    machine: Arc<GuestMachine>,
    control: Arc<Control>,
    heartbeat: Duration,
) {
    let mut boots = control.watch();
    let mut missed = false;
    loop {
        let beat = async {
            let (release, boot_id) = control.kernel(ANSWER).await?;
            if machine.set(Running { boot_id, release }) || missed {
                kubelet.post_status(true).await?;
            }
            kubelet.renew_lease(&uid).await
        };
        let result = beat.await;
        missed = result.is_err();
        if let Err(error) = result {
            tracing::debug!(node, "the kubelet missed a beat: {}", chain(&error));
        }
        tokio::select! {
            () = tokio::time::sleep(heartbeat) => {}
            changed = boots.changed() => {
                if changed.is_err() {
                    // QEMU is gone.
                    return;
                }
            }
        }
    }
}
