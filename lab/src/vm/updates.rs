//! Updates of guests, to begin with.

use liveupdate_crds::update::{Bundle, DeviceMatch, DeviceRule, OnShortfall, OnUpdate, Target};
use liveupdate_crds::{Acknowledgement, Continuity, LiveUpdate, LiveUpdatePolicySpec, LiveUpdateSpec};

use super::KitBundle;
use crate::testbed::machines;

/// An update of all guests to a bundle that asks for nothing but the kernel.
pub fn update(name: &str, bundle: &KitBundle) -> LiveUpdate {
    let mut update = machines::update(name, &bundle.release);
    update.spec.acknowledge = vec![Acknowledgement::NoKdump];
    update.spec.devices.clear();
    update.spec.target = Target {
        release: bundle.release.clone(),
        bundle: Some(Bundle { name: bundle.name.clone(), digest: bundle.digest.clone() }),
        image: None,
    };
    update
}

/// Makes it preserve NVMe controllers and NICs, with all risks acknowledged.
pub fn preserve_devices(spec: &mut LiveUpdateSpec) {
    spec.acknowledge =
        vec![Acknowledgement::NoKdump, Acknowledgement::VfioPciLiveUpdate, Acknowledgement::UnconfinedDma];
    let preserve = |(name, class): (&str, &str)| DeviceRule {
        name: name.into(),
        r#match: DeviceMatch { class: Some(class.into()), ..DeviceMatch::default() },
        on_update: OnUpdate::Preserve,
        minimum_continuity: Some(Continuity::Reinitialised),
        on_shortfall: OnShortfall::Block,
    };
    spec.devices = [("nvme", "0108"), ("nic", "0200")].map(preserve).to_vec();
}

/// A policy that allows what [`update`] acknowledges, guests having no room for a crash kernel after a live update, and
/// what updates of guests with devices do.
pub fn policy() -> LiveUpdatePolicySpec {
    LiveUpdatePolicySpec {
        allowed_acknowledgements: vec![
            Acknowledgement::NoKdump,
            Acknowledgement::VfioPciLiveUpdate,
            Acknowledgement::UnconfinedDma,
        ],
        ..LiveUpdatePolicySpec::default()
    }
}
