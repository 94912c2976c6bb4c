//! What can go wrong in the lab, to what, and what to do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Shorthand for the lab's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Any failure of the lab. The text names the thing; the chain of sources says why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written or removed.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's word.
        #[source]
        source: std::io::Error,
    },
    /// The control plane's binaries are not there and could not be built.
    #[error("the control plane's binaries are not to be had: {reason}")]
    Tools {
        /// What was missing, and what to do.
        reason: String,
    },
    /// The lab's kernels are not there and could not be built.
    #[error("the lab's kernels are not to be had: {reason}")]
    Kernels {
        /// What was missing, and what to do.
        reason: String,
    },
    /// A guest did not do what it should.
    #[error("guest {guest}: {reason}\nThe end of its console:\n{tail}")]
    Guest {
        /// The guest's name in the lab.
        guest: String,
        /// What happened.
        reason: String,
        /// Its console's last lines.
        tail: String,
    },
    /// QEMU refused a command, or does not answer.
    #[error("QEMU's answer to {command} for guest {guest}: {reason}")]
    Qmp {
        /// The guest's name in the lab.
        guest: String,
        /// What it was told.
        command: String,
        /// Its word.
        reason: String,
    },
    /// A pod cannot be run by the stand-in for its kubelet.
    #[error("pod {pod}: {reason}")]
    Pod {
        /// Its name.
        pod: String,
        /// What cannot be stood in for.
        reason: String,
    },
    /// A program could not be started at all.
    #[error("cannot start {name} ({program})", program = program.display())]
    Spawn {
        /// The process's name in the lab.
        name: String,
        /// The program's path.
        program: PathBuf,
        /// The operating system's word.
        #[source]
        source: std::io::Error,
    },
    /// A process ended although it should have kept running.
    #[error("{name} ended early ({status}); the end of its log:\n{tail}")]
    Exited {
        /// The process's name in the lab.
        name: String,
        /// How it ended.
        status: String,
        /// Its log's last lines. The log itself goes with its run's folder.
        tail: String,
    },
    /// A process could not be asked about, signalled or waited for.
    #[error("cannot {action} process {name} (pid {pid})")]
    Process {
        /// What was tried, as a verb.
        action: &'static str,
        /// The process's name in the lab.
        name: String,
        /// Its process id.
        pid: u32,
        /// The operating system's word.
        #[source]
        source: std::io::Error,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {waited:?}{detail}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// What was seen last, beginning with its own separator; may be empty.
        detail: String,
    },
    /// No TCP port was free.
    #[error("no free TCP port was found on 127.0.0.1; stop some other servers")]
    NoPort,
    /// A certificate or key could not be made or read.
    #[error("cannot make a certificate for {subject}")]
    Certificate {
        /// For whom.
        subject: String,
        /// The library's word.
        #[source]
        source: rcgen::Error,
    },
    /// Certificates do not make a usable TLS configuration.
    #[error("cannot set up TLS for {what}")]
    Tls {
        /// Which end of which connection.
        what: &'static str,
        /// The library's word.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An account cannot be written as a client certificate.
    #[error("account {user} cannot have a client certificate: {reason}")]
    Account {
        /// The account's user name.
        user: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A manifest is not what the API server could take.
    #[error("manifest {path}, document {document}: {reason}", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        document: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The API server refused or could not be reached.
    #[error("{action} failed")]
    Api {
        /// What was asked.
        action: String,
        /// The client's word.
        #[source]
        source: Box<kube::Error>,
    },
    /// A client could not be made from a kubeconfig.
    #[error("cannot make a client for {user}")]
    Client {
        /// The account's user name.
        user: String,
        /// The client library's word.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A simulated machine did not do what it was told.
    #[error("the simulated machine of node {node} failed")]
    Machine {
        /// The node.
        node: String,
        /// The machine's word.
        #[source]
        source: liveupdate_host::HostError,
    },
    /// Text that should be YAML or JSON is not.
    #[error("cannot write or read {what}")]
    Encoding {
        /// The text's meaning.
        what: &'static str,
        /// The library's word.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// For `map_err` around file operations.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }

    /// For `map_err` around API calls.
    pub fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
        let action = action.into();
        move |source| Error::Api { action, source: Box::new(source) }
    }
}
