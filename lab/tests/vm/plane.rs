//! The control plane of tests: one for all that run at a time, since each test has a node and updates of its own.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use k8s_openapi::api::core::v1::Node;
use liveupdate_lab::vm::updates;
use liveupdate_lab::{Testbed, TestbedOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

/// Ends with the last test that uses it.
static SHARED: Mutex<Weak<Plane>> = Mutex::const_new(Weak::new());

/// A control plane with one controller.
pub(crate) struct Plane {
    /// None only while it is dropped.
    testbed: Option<Testbed>,
    /// Clients of it live here: a test's own runtime ends with the test.
    runtime: Option<Runtime>,
}

impl Plane {
    /// The one that other tests use, too.
    pub(crate) async fn shared() -> Arc<Plane> {
        let mut shared = SHARED.lock().await;
        if let Some(plane) = shared.upgrade() {
            return plane;
        }
        let plane = Plane::start().await;
        *shared = Arc::downgrade(&plane);
        plane
    }

    async fn start() -> Arc<Plane> {
        let start = || {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let testbed = runtime.block_on(async {
                let mut testbed = Testbed::start(TestbedOptions::default(), Vec::new()).await.unwrap();
                testbed.start_controller().await.unwrap();
                testbed.apply_policy(updates::policy()).await.unwrap();
                testbed
            });
            Plane { testbed: Some(testbed), runtime: Some(runtime) }
        };
        Arc::new(tokio::task::spawn_blocking(start).await.unwrap())
    }
}

impl Deref for Plane {
    type Target = Testbed;

    fn deref(&self) -> &Testbed {
        self.testbed.as_ref().unwrap()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        drop(self.testbed.take());
        if let Some(runtime) = self.runtime.take() {
            // A test's runtime must not wait for another one.
            runtime.shutdown_background();
        }
    }
}

/// Takes a test's Node away when the test is over, as whoever decommissions a machine does.
pub(crate) struct Decommission(pub(crate) Weak<Plane>, pub(crate) String);

impl Drop for Decommission {
    fn drop(&mut self) {
        let Some(plane) = self.0.upgrade() else { return };
        let (Some(runtime), name) = (&plane.runtime, std::mem::take(&mut self.1)) else { return };
        let nodes = plane.all::<Node>();
        runtime.spawn(async move {
            if let Err(error) = nodes.delete(&name, &Default::default()).await {
                println!("Node/{name} stays: {error}");
            }
        });
    }
}
