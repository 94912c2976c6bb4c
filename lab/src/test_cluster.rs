//! One control plane with the product installed, shared by all tests of a test binary.
//!
//! A start costs seconds, so tests share one and keep apart by [`TestCluster::unique`] names. What a
//! test changes for all (the policy, the API server's life) wants a [`ControlPlane`] of its own.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

use crate::{Audit, ControlPlane, Options, Result, install};

/// See the module. It stays until the test binary ends; its folder is swept by the next start.
#[derive(Debug)]
pub struct TestCluster {
    plane: ControlPlane,
    names: AtomicU32,
}

impl TestCluster {
    /// The binary's control plane, started by the first test that asks.
    ///
    /// # Errors
    /// When it does not start; the next test tries again.
    pub async fn shared() -> Result<&'static TestCluster> {
        static SHARED: OnceCell<TestCluster> = OnceCell::const_new();
        SHARED.get_or_try_init(|| TestCluster::start(TestCluster::options())).await
    }

    /// One for a single test.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(options: Options) -> Result<TestCluster> {
        Ok(TestCluster { plane: ControlPlane::start(options).await?, names: AtomicU32::new(0) })
    }

    /// What tests want: everything, the product's manifests, everybody's requests in the audit log.
    pub fn options() -> Options {
        Options { manifests: install::product(), audit: Audit::Everybody, ..Options::default() }
    }

    /// A name that no other test of this binary gets.
    pub fn unique(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// The control plane, to own it.
    pub fn into_plane(self) -> ControlPlane {
        self.plane
    }
}

impl Deref for TestCluster {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.plane
    }
}
