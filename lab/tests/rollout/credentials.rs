//! Certificates that are not what they should be, on either end.

use std::path::Path;

use liveupdate_crds::NodeLiveUpdateStatus;
use liveupdate_lab::Testbed;
use liveupdate_lab::certs::{FleetCertificates, Validity};
use liveupdate_lab::fleet::write_agent_certificate;
use liveupdate_proto::tls::Identity;

use crate::bed::{Bed, Pool, alone, run, says};

fn folder(bed: &Testbed, name: &str) -> std::path::PathBuf {
    bed.plane.run().folder("bad-certificates").unwrap().join(name)
}

/// Gives a node's agent other credentials, and starts it again with them.
async fn give(pool: &Pool<'_>, number: u16, write: impl FnOnce(&Path)) {
    let folder = folder(&pool.bed.bed, &pool.name_of(number));
    write(&folder);
    pool.replace_agent(number, |settings| settings.tls_dir = folder).await;
}

#[test]
fn a_node_with_a_bad_certificate_says_what_is_wrong_with_it() {
    run(async |bed| {
        let pool = bed.pool("certs", 6, |_, _| {}).await;
        let own = &bed.bed.certificates;
        let good: Vec<_> = (1..=5).map(|number| (number, pool.node(number))).collect();
        let uid = |number: u16| pool.node(number).uid();
        give(&pool, 1, |_| {}).await;
        for (number, validity) in [(2, Validity::Expired), (3, Validity::NotYet)] {
            let name = pool.name_of(number);
            give(&pool, number, |folder| {
                write_agent_certificate(own, &name, &uid(number), validity, folder).unwrap();
            })
            .await;
        }
        give(&pool, 4, |folder| {
            write_agent_certificate(own, "certs-6", &uid(6), Validity::Current, folder).unwrap();
        })
        .await;
        let foreign = FleetCertificates::new().unwrap();
        give(&pool, 5, |folder| {
            write_agent_certificate(&foreign, "certs-5", &uid(5), Validity::Current, folder).unwrap();
        })
        .await;
        for number in 1..=5 {
            pool.listens(number, number != 1).await;
        }
        pool.roll(|_| {}).await;

        let status = bed.update("certs", "five blocked", |s| s.counts.blocked == 5).await;
        assert_eq!(status.failures, 0);
        bed.update("certs", "the good one updated", |s| s.counts.updated == 1).await;
        let expected = [
            (1, "AgentUnreachable", "cannot be reached"),
            (2, "AgentUnreachable", "the peer's certificate has expired; renew it"),
            (3, "AgentUnreachable", "the peer's certificate is not valid yet; check the clocks"),
            (4, "AgentMisbehaves", "the peer is spiffe://liveupdate.dev/node/certs-6/"),
            (5, "AgentUnreachable", "the peer's certificate is of an unknown CA"),
        ];
        for (number, reason, message) in expected {
            let node = pool.name_of(number);
            // Until its agent listens again, nothing answers there.
            let wanted = |s: &NodeLiveUpdateStatus| s.reason == reason && s.message.contains(message);
            let record = pool.node_update(&node, message, wanted).await;
            assert_eq!(record.state, "Blocked");
            says(&bed.kubectl(&format!("get nlu {node}")).await, &[&format!("Blocked {reason}")]);
            says(&bed.kubectl(&format!("describe nlu {node}")).await, &[message]);
        }
        let described = bed.kubectl("describe lu certs").await;
        for (number, reason, _) in expected {
            says(&described, &[pool.name_of(number).as_str(), reason]);
        }

        // In place, as a renewed Secret is: no agent is started again.
        for (number, node) in good {
            let folder = folder(&bed.bed, &pool.name_of(number));
            write_agent_certificate(own, node.name(), &node.uid(), Validity::Current, &folder).unwrap();
        }
        assert_eq!(bed.success("certs").await.counts.updated, 6);
    });
}

/// The other end: agents that do not know the controller's certificate.
#[test]
fn a_controller_whose_certificate_is_foreign_to_the_agents_says_so() {
    alone(async {
        let mut bed = Bed::start().await;
        bed.bed.start_controller().await.unwrap();
        let folder = bed.bed.plane.run().folder("controllers").unwrap().join("0");
        let ca = bed.bed.certificates.authority().certificate_pem().to_owned();
        let own = bed.bed.certificates.issue(&Identity::Controller, Validity::Current).unwrap();
        let foreign = FleetCertificates::new().unwrap();
        let foreign = foreign.issue(&Identity::Controller, Validity::Current).unwrap();
        foreign.write(&ca, &folder).unwrap();

        let pool = bed.quiet_pool("strangers", 2, |_, _| {}).await;
        pool.roll(|_| {}).await;
        let status = bed.update("strangers", "both blocked", |s| s.counts.blocked == 2).await;
        assert_eq!(status.waiting[0].reason, "AgentMissing", "none of them ever answered");
        let described = bed.kubectl("describe lu strangers").await;
        says(&described, &["the peer refused our certificate: its CA is unknown there", "AgentMissing"]);
        own.write(&ca, &folder).unwrap();
        assert_eq!(bed.success("strangers").await.counts.updated, 2);
    });
}
