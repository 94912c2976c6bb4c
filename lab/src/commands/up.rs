//! `liveupdate-lab up`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use crate::{Account, ControlPlane, Error, Options, Result, install};

/// Start a control plane with the product's kinds, and keep it until Ctrl-C
#[derive(Debug, Args)]
pub(super) struct Up {
    /// Write the administrator's kubeconfig here as well; it is replaced when it exists
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Up {
    pub(super) async fn run(self) -> Result<()> {
        let begun = Instant::now();
        eprintln!("starting etcd, kube-apiserver, kube-controller-manager and kube-scheduler ...");
        let plane =
            ControlPlane::start(Options { manifests: install::product(), ..Options::default() }).await?;
        let mut kubeconfig = plane.kubeconfig(&Account::admin())?;
        if let Some(wanted) = self.kubeconfig {
            std::fs::copy(&kubeconfig, &wanted).map_err(Error::file("write", &wanted))?;
            kubeconfig = wanted;
        }
        let text = format!(
            "ready after {:.1} s at {}\n\
             in another terminal:\n  \
               export KUBECONFIG={}\n  \
               export PATH={}:$PATH\n  \
               kubectl api-resources\n\
             logs: {}\n\
             Ctrl-C ends it\n",
            begun.elapsed().as_secs_f32(),
            plane.server(),
            kubeconfig.display(),
            plane.tools().folder().display(),
            plane.logs().display(),
        );
        super::say(&text)?;
        super::until_asked().await?;
        plane.stop();
        Ok(())
    }
}
