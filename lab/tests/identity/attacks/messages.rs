//! At the controller's port: messages that are too large, mean nothing, or never end.

use std::time::Duration;

use liveupdate_proto::controller::v1::{EnrolReply, KnockReply};
use liveupdate_proto::refusal::Refusal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use crate::bed::run;
use crate::logs::Log;
use crate::wire::refused;

fn enrol() -> PathAndQuery {
    PathAndQuery::from_static("/liveupdate.controller.v1.Controller/Enrol")
}

#[test]
fn a_message_over_the_limit_is_refused_before_it_is_read() {
    run(async |bed| {
        let log = bed.log();
        let status = bed.door().enrol(&"x".repeat(1 << 20)).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
        log.line(&["refused a call", "call=\"Enrol\"", "reason=\"Oversized\""]).await;
        bed.door().enrol(&bed.nodes[0].token()).await.unwrap();
    });
}

#[test]
fn a_message_that_means_nothing_is_refused() {
    run(async |bed| {
        let log = bed.log();
        let mut client = Grpc::new(bed.door().anonymous().await);
        client.ready().await.unwrap();
        // A number where a text should be.
        let codec: ProstCodec<KnockReply, EnrolReply> = ProstCodec::default();
        let status =
            client.unary(Request::new(KnockReply { quiet_ms: 7 }), enrol(), codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status:?}");
        log.line(&["refused a call", "call=\"Enrol\"", "reason=\"Malformed\""]).await;
        bed.door().enrol(&bed.nodes[0].token()).await.unwrap();
    });
}

/// A kubelet asks every few seconds whether an agent listens: a log that had it as refused would have little else.
#[test]
fn who_looks_whether_anybody_listens_and_goes_is_not_refused() {
    run(async |bed| {
        let log = Log::of_agents();
        let address = bed.bed.fleet.node(&bed.nodes[0].name).unwrap().address();
        let mut probes = Vec::new();
        for _ in 0..3 {
            let probe = TcpStream::connect(address).await.unwrap();
            probes.push(probe.local_addr().unwrap().to_string());
        }
        // The twin says something, and no TLS.
        let mut other = TcpStream::connect(address).await.unwrap();
        other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        log.line(&["refused a connection", &other.local_addr().unwrap().to_string()]).await;
        for probe in probes {
            assert!(!log.text().contains(&probe), "{}", log.text());
        }
    });
}

#[test]
fn whoever_is_slow_is_cut_off_and_holds_up_nobody() {
    run(async |bed| {
        let log = bed.log();
        // Never says a word of TLS.
        let mut silent = TcpStream::connect(&bed.door().address).await.unwrap();
        // Begins a call and never ends it.
        let mut client = Grpc::new(bed.door().anonymous().await);
        client.ready().await.unwrap();
        let codec: ProstCodec<KnockReply, EnrolReply> = ProstCodec::default();
        let never = tokio_stream::pending::<KnockReply>();
        let slow = tokio::spawn(async move {
            client.client_streaming(Request::new(never), enrol(), codec).await.map(drop)
        });
        // Has shaken hands and never says a word of HTTP.
        let idle = bed.door().silent_tls().await;

        let (door, token) = (bed.door(), bed.nodes[0].token());
        tokio::time::timeout(Duration::from_secs(4), door.enrol(&token)).await.unwrap().unwrap();
        refused(slow.await.unwrap(), Refusal::DeadlineExceeded);
        log.line(&["refused a call", "call=\"Enrol\"", "reason=\"TimedOut\""]).await;
        let mut byte = [0; 1];
        assert!(matches!(silent.read(&mut byte).await, Ok(0) | Err(_)));
        log.line(&["refused a connection", "reason=\"TimedOut\""]).await;
        idle.await.unwrap();
        log.line(&["cut off a connection without a certificate", "reason=\"TimedOut\""]).await;
    });
}
