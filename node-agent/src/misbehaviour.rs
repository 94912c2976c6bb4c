//! Agents that lie, for tests of the controller. Without the feature `faults` this is nothing.

#[cfg(feature = "faults")]
pub(crate) use garbage::Garbage;
#[cfg(feature = "faults")]
pub use lies::Misbehaviour;
#[cfg(not(feature = "faults"))]
pub(crate) use truth::Misbehaviour;

#[cfg(not(feature = "faults"))]
mod truth {
    use liveupdate_proto::node::v1::{InspectReply, OutcomeReply, PreflightReply};

    /// There is none.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Misbehaviour;

    impl Misbehaviour {
        pub(crate) fn of(_: &crate::AgentConfig) -> Self {
            Self
        }
        pub(crate) async fn delay(&self) {}
        pub(crate) fn accepts_any_epoch(&self) -> bool {
            false
        }
        pub(crate) fn inspect(&self, _: &mut InspectReply) {}
        pub(crate) fn preflight(&self, _: &mut PreflightReply) {}
        pub(crate) fn outcome(&self, _: &mut OutcomeReply) {}
    }
}

#[cfg(feature = "faults")]
mod lies {
    use std::time::Duration;

    use liveupdate_proto::common::v1::{AttemptReport, Proof};
    use liveupdate_proto::node::v1::{InspectReply, OutcomeReply, PreflightReply};

    /// How an agent lies. The default is honest.
    #[derive(Clone, Debug, Default)]
    pub struct Misbehaviour {
        /// Every answer is bytes that mean nothing.
        pub garbage: bool,
        /// Every answer takes so much longer.
        pub delay: Duration,
        /// It says that it is this node.
        pub node: Option<String>,
        /// It obeys leaders that were superseded, and other clusters.
        pub any_epoch: bool,
        /// It says that it runs this boot.
        pub boot_id: Option<String>,
        /// It says that it runs this release.
        pub release: Option<String>,
    }

    impl Misbehaviour {
        pub(crate) fn of(config: &crate::AgentConfig) -> Self {
            config.misbehaviour.clone()
        }

        pub(crate) async fn delay(&self) {
            if !self.delay.is_zero() {
                tokio::time::sleep(self.delay).await;
            }
        }

        pub(crate) fn accepts_any_epoch(&self) -> bool {
            self.any_epoch
        }

        pub(crate) fn inspect(&self, reply: &mut InspectReply) {
            put(&self.node, &mut reply.node);
            put(&self.boot_id, &mut reply.boot_id);
            put(&self.release, &mut reply.release);
            self.report(reply.attempt.as_mut());
        }

        pub(crate) fn preflight(&self, reply: &mut PreflightReply) {
            put(&self.node, &mut reply.node);
            put(&self.boot_id, &mut reply.boot_id);
            put(&self.release, &mut reply.release);
        }

        pub(crate) fn outcome(&self, reply: &mut OutcomeReply) {
            put(&self.boot_id, &mut reply.boot_id);
            put(&self.release, &mut reply.release);
            self.report(reply.attempt.as_mut());
        }

        fn report(&self, report: Option<&mut AttemptReport>) {
            if let Some(Proof { boot_id, release, .. }) = report.and_then(|report| report.proof.as_mut()) {
                put(&self.boot_id, boot_id);
                put(&self.release, release);
            }
        }
    }

    fn put(lie: &Option<String>, truth: &mut String) {
        if let Some(lie) = lie {
            truth.clone_from(lie);
        }
    }
}

#[cfg(feature = "faults")]
mod garbage {
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::task::{Context, Poll};

    use http_body_util::Full;
    use liveupdate_proto::node::v1::node_server::SERVICE_NAME;
    use tonic::body::Body;
    use tonic::codegen::http::{HeaderValue, Request, Response, header};
    use tonic::codegen::{Bytes, Service};
    use tonic::server::NamedService;

    /// Stands where the service of an agent should, and answers bytes that mean nothing.
    #[derive(Clone, Debug)]
    pub(crate) struct Garbage;

    impl NamedService for Garbage {
        const NAME: &'static str = SERVICE_NAME;
    }

    impl Service<Request<Body>> for Garbage {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            // A frame of the right shape, of six bytes that are no message: field 31 of a type there is not.
            let frame = Bytes::from_static(&[0, 0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
            let mut response = Response::new(Body::new(Full::new(frame)));
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            ready(Ok(response))
        }
    }
}
