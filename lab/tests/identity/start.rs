//! Two controllers that start at the same time make one CA, and each can enrol.

use liveupdate_lab::Testbed;
use liveupdate_lab::testbed::machines;
use liveupdate_proto::refusal::Refusal;

use crate::bed::{SOON, alone, options, specs};
use crate::logs::{self, Log};
use crate::wire::{Door, refused};

#[test]
fn two_that_start_at_once_make_one_ca_and_either_enrols() {
    alone(async {
        logs::keep();
        let mut bed = Testbed::start(options(&[]), specs(1)).await.unwrap();
        bed.apply_policy(machines::policy()).await.unwrap();
        bed.install_agents().await.unwrap();
        let kubeconfig = bed.plane.kubeconfig(&Testbed::controller_account()).unwrap();
        bed.start_controller_with(&kubeconfig).await.unwrap();
        bed.start_controller_with(&kubeconfig).await.unwrap();
        let pod = bed.agent_pod("hv-01", None, SOON).await.unwrap();
        let mounts = bed.mount("hv-01", &pod, SOON).await.unwrap();
        let token = std::fs::read_to_string(&mounts.enrolment.token).unwrap();
        let leads = Log::from_start(bed.plane.logs().join("controller-0.log"));
        let stands_by = Log::from_start(bed.plane.logs().join("controller-1.log"));
        let mut made = 0;
        let mut not_leading = 0;
        for (number, log) in [leads, stands_by].into_iter().enumerate() {
            let address = bed.knock_address(number).unwrap();
            let door = Door { address, trust: mounts.enrolment.trust.clone() };
            door.opens().await;
            let reply = door.enrol(&token).await.unwrap();
            log.line(&["enrolled", "spiffe://liveupdate.dev/node/hv-01/"]).await;
            made += log.text().matches("made a CA").count();
            assert_eq!(reply.authorities.len(), 1);
            // Only who leads hears knocks; the other says so, and the agent tries again.
            let folder = bed.plane.run().folder("by-hand").unwrap().join(number.to_string());
            let node = bed.fleet.node("hv-01").unwrap();
            door.keep(&token, &folder).await;
            match door.knock(&folder, "hv-01", &node.uid()).await {
                Ok(_) => {}
                Err(status) => {
                    refused(Err::<(), _>(status), Refusal::NotLeading);
                    not_leading += 1;
                }
            }
        }
        assert_eq!(made, 1, "both made a CA");
        assert!(not_leading >= 1, "both heard a knock");
    });
}
