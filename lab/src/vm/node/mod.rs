//! A guest as a node of the lab's control plane.
//!
//! ```text
//!  API server ◄── Node, Lease ── stand-in kubelet ◄── virtio-serial ── the guest's kernel itself
//!  controller ── 127.x.y.z:PORT ──► QEMU ──► agent   in the guest
//!  controller ◄── 10.0.2.2:PORT ──── QEMU ◄── knock
//! ```
//! The kubelet's word is what the guest's kernel says of itself, never what the agent says: an agent that lies
//! is found out.

mod kubelet;
mod place;
mod units;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use liveupdate_lab_guest::{Order, Service};
use liveupdate_proto::tls::Identity;
use tokio::task::JoinHandle;

use super::{Boot, Forward, Guest, GuestOptions, PATIENCE};
use crate::certs::Validity;
use crate::fleet::Kubelet;
use crate::testbed::Testbed;
use crate::{Error, Result};

pub use place::{Manager, NodePlace, Product};

use kubelet::GuestMachine;

/// Where the agent's credentials are in the guest.
const TLS: &str = "/var/lib/lab/tls";

/// A guest that is a node. It is ended at once, as by a power cut, when this value goes; its Node stays.
#[derive(Debug)]
pub struct VmNode {
    name: String,
    uid: String,
    address: SocketAddr,
    guest: Guest,
    kubelet: JoinHandle<()>,
}

impl VmNode {
    /// Boots the guest, registers its Node as a kubelet does, and starts the product in it. The guest's files
    /// on this machine are made in `folder`.
    ///
    /// # Errors
    /// When the guest does not boot, the Node cannot be made, or the product cannot be started.
    pub async fn start(
        bed: &Testbed,
        place: NodePlace,
        mut options: GuestOptions,
        product: &Product,
        folder: &Path,
    ) -> Result<VmNode> {
        let address = place.agent_address(bed.agent_port());
        options.name.clone_from(&place.name);
        options.forwards.push(Forward { host: address, guest_port: bed.agent_port() });
        let guest = Guest::start(options, folder).await?;
        let boot = guest.boot(1).await?;

        let machine = Arc::new(GuestMachine::new(&boot));
        let kubelet = Kubelet::new(
            bed.plane.client(&Testbed::kubelet_account())?,
            &place.name,
            (*address.ip()).into(),
            place.labels.clone(),
            Arc::<GuestMachine>::clone(&machine),
            bed.heartbeat(),
        );
        let uid = kubelet.register().await?;
        let standing_in = kubelet::stand_in(
            place.name.clone(),
            uid.clone(),
            kubelet,
            machine,
            guest.shared_control(),
            bed.heartbeat(),
        );
        let kubelet = tokio::spawn(standing_in);
        let node = VmNode { name: place.name, uid, address: address.into(), guest, kubelet };
        node.install(bed, product).await?;
        Ok(node)
    }

    /// Writes credentials and services into the guest and starts them, as an installation would.
    async fn install(&self, bed: &Testbed, product: &Product) -> Result<()> {
        let identity = Identity::node(&self.name, &self.uid);
        let certificate = bed.certificates.issue(&identity, Validity::Current)?;
        let files = [
            ("ca.crt", 0o644, bed.certificates.authority().certificate_pem()),
            ("tls.crt", 0o644, certificate.certificate_pem.as_str()),
            ("tls.key", 0o600, certificate.key_pem.as_str()),
        ];
        for (name, mode, contents) in files {
            self.guest.control().write(&format!("{TLS}/{name}"), mode, contents, PATIENCE).await?;
        }
        let services = product.services(&self.name, &self.uid, bed.agent_port(), bed.knock_port(), TLS);
        self.start_all(product, services).await
    }

    async fn start_all(&self, product: &Product, services: Vec<Service>) -> Result<()> {
        match product.manager {
            Manager::Lab => self.guest.control().serve(services, PATIENCE).await,
            Manager::Systemd => units::install(self.guest.control(), &services).await,
        }
    }

    /// The Node's name, and the guest's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// UID of its Node object.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Where its agent is reached from this machine.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The machine.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The kernel that runs, as it came up.
    ///
    /// # Errors
    /// When none came up.
    pub fn running(&self) -> Result<Boot> {
        let last = self.guest.control().boots().pop();
        last.ok_or_else(|| self.guest.serial().fail("no kernel came up"))
    }

    /// Does something to one of its services.
    ///
    /// # Errors
    /// When there is no such service, or it does not run where it should.
    pub async fn order(&self, service: &str, order: Order) -> Result<()> {
        self.guest.control().order(service, order, PATIENCE).await
    }

    /// Starts one more service, in this kernel and those to come.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn add_service(&self, bed: &Testbed, product: &Product, more: Vec<Service>) -> Result<()> {
        let mut services = product.services(&self.name, &self.uid, bed.agent_port(), bed.knock_port(), TLS);
        services.extend(more);
        self.start_all(product, services).await
    }

    /// Runs a program in the guest that has to succeed.
    ///
    /// # Errors
    /// As [`super::Control::output`].
    pub async fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        self.guest.control().output(program, args, PATIENCE).await
    }

    /// Lets the machine sync and turn itself off, and waits until it is off. Its Node stays.
    ///
    /// # Errors
    /// As [`Guest::wait`].
    pub async fn power_off(mut self) -> Result<std::process::ExitStatus> {
        self.guest.control().power_off().await?;
        self.guest.wait(PATIENCE).await
    }

    /// An error of this node with the end of its console.
    pub fn fail(&self, reason: impl Into<String>) -> Error {
        self.guest.serial().fail(reason)
    }
}

impl Drop for VmNode {
    fn drop(&mut self) {
        self.kubelet.abort();
    }
}
