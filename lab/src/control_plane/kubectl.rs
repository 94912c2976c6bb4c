//! kubectl as a person would type it, for tests of what they see.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::ControlPlane;
use crate::{Account, Error, Result};

/// No command that a test gives may take longer; `kubectl wait` gets its own `--timeout`.
const LIMIT: Duration = Duration::from_secs(300);

/// What a command said.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
}

impl ControlPlane {
    /// Runs kubectl as the administrator.
    ///
    /// # Errors
    /// When it cannot be started. A command that fails is no error here: see [`Output::code`].
    pub async fn kubectl<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Output> {
        self.kubectl_as(&Account::admin(), args).await
    }

    /// Runs kubectl as an account.
    ///
    /// # Errors
    /// As [`ControlPlane::kubectl`].
    pub async fn kubectl_as<A: AsRef<OsStr>>(
        &self,
        account: &Account,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Output> {
        self.run_as(&self.tools().binary("kubectl"), account, args).await
    }

    /// Runs a program that talks to the API server as kubectl does, as an account.
    ///
    /// # Errors
    /// As [`ControlPlane::kubectl`].
    pub async fn run_as<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        account: &Account,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Output> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fail = |source| Error::Spawn { name: name.clone(), program: program.to_owned(), source };
        let running = Command::new(program)
            .args(args)
            .env("KUBECONFIG", self.kubeconfig(account)?)
            // Its discovery cache must not outlive this control plane: another may get the same port.
            .env("HOME", self.run().path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(LIMIT, running)
            .await
            .map_err(|_| Error::Deadline {
                what: format!("the end of {name}"),
                waited: LIMIT,
                detail: String::new(),
            })?
            .map_err(fail)?;
        Ok(Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        })
    }
}
