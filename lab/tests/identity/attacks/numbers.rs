//! Many at once: others are served all the while.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, connect};
use tokio::net::{TcpSocket, TcpStream};

use super::agents::{client, controllers, inspect, known_epoch, subject};
use crate::bed::{SOON, run};
use crate::logs::Log;
use crate::wire::refused;

/// The attacker's own address, as in a cluster each node has one.
const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 66, 6, 6));
/// Another's.
const UNINSTALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 66, 6, 7));

async fn knock_on(address: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(ATTACKER, 0))?;
    socket.connect(address.parse().unwrap()).await
}

/// So many connections that say nothing, as far as they come about.
async fn flood(address: &str, many: usize) -> Vec<TcpStream> {
    let mut flood = Vec::new();
    for _ in 0..many {
        // The system's own queue may be full for a moment, too.
        if let Ok(Ok(tcp)) = tokio::time::timeout(Duration::from_secs(1), knock_on(address)).await {
            flood.push(tcp);
        }
    }
    flood
}

#[test]
fn a_flood_of_connections_stands_in_nobody_elses_way() {
    run(async |bed| {
        let (door, log, node) = (bed.door(), bed.log(), &bed.nodes[0]);
        let flood = flood(&door.address, 600).await;
        assert!(flood.len() > 300, "{}", flood.len());
        log.line(&["refused a connection", "reason=\"TooManyConnections\"", "127.66.6.6"]).await;
        let serve = async {
            door.enrol(&node.token()).await.unwrap();
            door.knock(&node.tls_dir, &node.name, &node.uid()).await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(10), serve).await.unwrap();
        let said = log.text().matches("reason=\"TooManyConnections\"").count();
        assert!(said < 10, "the log is flooded, too: {said} lines");
    });
}

/// At an agent's port: by anybody, and by a node that was taken over, which has a certificate of our CA.
#[test]
fn a_flood_of_connections_to_an_agent_does_not_keep_the_controller_away() {
    run(async |bed| {
        let (taken, node) = (&bed.nodes[0], &bed.nodes[1]);
        let (epoch, folder) = (known_epoch(bed).await, controllers(bed).await);
        let address = bed.bed.fleet.node(&node.name).unwrap().address().to_string();
        let peer = Identity::node(&node.name, node.uid());
        let log = Log::of_agents();
        let listened_to = async || {
            let inspected = async {
                let mut controller = client(bed, &folder, node).await;
                controller.inspect(inspect(subject(node, epoch.clone()))).await.unwrap();
            };
            tokio::time::timeout(Duration::from_secs(10), inspected).await.unwrap();
        };

        let silent = flood(&address, 400).await;
        assert!(silent.len() > 300, "{}", silent.len());
        log.line(&["refused a connection", "reason=\"TooManyConnections\"", "127.66.6.6"]).await;
        listened_to().await;

        // From the same address as the controller: who has a certificate is counted by that.
        let credentials = Arc::new(Credentials::load(&taken.tls_dir, 1).unwrap());
        let mut named = Vec::new();
        for _ in 0..100 {
            named.extend(connect(&credentials, &peer, &address, DialOptions::default()).await.ok());
        }
        log.line(&["refused a connection", "reason=\"TooManyConnections\"", "127.0.0.1"]).await;
        assert!(named.len() >= 64, "{}", named.len());
        listened_to().await;

        let said = log.text().matches("reason=\"TooManyConnections\"").count();
        assert!(said < 10, "the log is flooded, too: {said} lines");
    });
}

/// One address asks for more certificates than any node needs.
#[test]
fn a_flood_of_requests_is_answered_with_busy_before_anything_is_asked() {
    run(async |bed| {
        let (door, log) = (bed.door(), bed.log());
        let channel = door.anonymous_from(ATTACKER).await;
        let mut busy = 0;
        for _ in 0..300 {
            let status = door.enrol_over(channel.clone(), "a.b.c").await.unwrap_err();
            match Refusal::of(&status) {
                Some(Refusal::Busy) => busy += 1,
                _ => refused(Err::<(), _>(status), Refusal::TokenRefused),
            }
        }
        assert!(busy > 0, "all were looked at");
        log.line(&["refused to enrol", "reason=\"TooMany\"", "127.66.6.6"]).await;
        door.enrol(&bed.nodes[0].token()).await.unwrap();
    });
}

/// One address asks for the keepers to be taken away, with tokens that are none: at the same cost as for certificates.
#[test]
fn a_flood_of_requests_to_uninstall_is_answered_with_busy_before_anything_is_asked() {
    run(async |bed| {
        let (door, log) = (bed.door(), bed.log());
        let (mut looked_at, begun) = (0, Instant::now());
        // It is written down every ten seconds at most, and the test before may just have had it written down.
        let told = |text: &str| {
            let parts = ["refused to uninstall", "reason=\"TooMany\"", "127.66.6.7"];
            text.lines().any(|line| parts.iter().all(|part| line.contains(part)))
        };
        while !told(&log.text()) {
            assert!(begun.elapsed() < SOON, "nobody wrote down that it was too many: {}", log.text());
            let (channel, mut busy) = (door.anonymous_from(UNINSTALLER).await, 0);
            for _ in 0..300 {
                let status = door.uninstall_over(channel.clone(), "a.b.c").await.unwrap_err();
                match Refusal::of(&status) {
                    Some(Refusal::Busy) => busy += 1,
                    _ => {
                        looked_at += 1;
                        refused(Err::<(), _>(status), Refusal::TokenRefused);
                    }
                }
            }
            assert!(busy > 0, "all were looked at");
        }
        let written = log.text().matches("refused to uninstall").count();
        let turned_away = usize::try_from(begun.elapsed().as_secs()).unwrap() / 10 + 1;
        assert!(written <= looked_at + turned_away, "the log is flooded, too: {written} lines");
        // What enrolment may cost is used up by it: the same budget.
        let channel = door.anonymous_from(UNINSTALLER).await;
        let mut enrolments = 0;
        for _ in 0..40 {
            let status = door.enrol_over(channel.clone(), "a.b.c").await.unwrap_err();
            enrolments += usize::from(Refusal::of(&status) == Some(Refusal::Busy));
        }
        assert!(enrolments > 0, "each has a budget of its own");
        door.enrol(&bed.nodes[0].token()).await.unwrap();
    });
}
