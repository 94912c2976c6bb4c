//! The programs that a person would type.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::testbed::Testbed;
use crate::{Account, Error, Result};

/// kubectl and the plugin on a test bed.
pub(crate) struct Shell {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    plugin: PathBuf,
    home: PathBuf,
    patience: Duration,
}

impl Shell {
    /// As the administrator of a test bed. Programs that take longer than `patience` are ended.
    pub(crate) fn new(bed: &Testbed, plugin: PathBuf, patience: Duration) -> Result<Shell> {
        Ok(Shell {
            kubeconfig: bed.plane.kubeconfig(&Account::admin())?,
            kubectl: bed.plane.tools().binary("kubectl"),
            plugin,
            home: bed.plane.run().path().to_owned(),
            patience,
        })
    }

    /// For a person's own shell.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn finish(&self, mut command: Command, what: &str) -> Result<()> {
        let fail = |source| Error::Spawn { name: what.to_owned(), program: self.kubectl.clone(), source };
        let status = tokio::time::timeout(self.patience + Duration::from_secs(10), command.status()).await;
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(fail(std::io::Error::other(format!("it ended with {status}")))),
            Ok(Err(source)) => Err(fail(source)),
            Err(_) => Err(Error::Deadline {
                what: format!("the end of {what}"),
                waited: self.patience,
                detail: String::new(),
            }),
        }
    }

    /// Runs kubectl; it has to succeed.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<()> {
        self.finish(self.command(&self.kubectl, args), &format!("kubectl {}", args.join(" "))).await
    }

    /// As [`Shell::kubectl`], without its output.
    pub(crate) async fn kubectl_quietly(&self, args: &[&str]) -> Result<()> {
        let mut command = self.command(&self.kubectl, args);
        command.stdout(Stdio::null());
        self.finish(command, &format!("kubectl {}", args.join(" "))).await
    }

    /// Runs the plugin; it has to succeed.
    pub(crate) async fn plugin(&self, args: &[&str]) -> Result<()> {
        let what = format!("kubectl liveupdate {}", args.join(" "));
        self.finish(self.command(&self.plugin, args), &what).await
    }

    /// The live tree on a terminal, lines of change elsewhere. Ends when dropped.
    pub(crate) fn watch(&self, update: &str) -> Result<tokio::process::Child> {
        let mut command = self.command(&self.plugin, &["status", update, "-w"]);
        if !std::io::stdout().is_terminal() {
            command.env("NO_COLOR", "1");
        }
        command.spawn().map_err(|source| Error::Spawn {
            name: "kubectl liveupdate".into(),
            program: self.plugin.clone(),
            source,
        })
    }

    /// What a person's `PATH` has to begin with.
    pub(crate) fn path(&self) -> String {
        let folder =
            |program: &Path| program.parent().map(|path| path.display().to_string()).unwrap_or_default();
        format!("{}:{}", folder(&self.kubectl), folder(&self.plugin))
    }
}
