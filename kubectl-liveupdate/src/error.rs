//! What can go wrong, and the exit code that tells it to a script.

use std::path::PathBuf;

/// Everything that ends a command early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable kubeconfig.
    #[error(
        "no cluster can be chosen from the kubeconfig: name one with --kubeconfig or KUBECONFIG, and --context"
    )]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// The client cannot be made from the kubeconfig.
    #[error("the kubeconfig's cluster cannot be used")]
    Client(#[source] Box<kube::Error>),
    /// The API server refused or cannot be reached.
    #[error("{doing} failed")]
    Api {
        /// What was tried.
        doing: String,
        /// The API server's word.
        #[source]
        source: Box<kube::Error>,
    },
    /// There is no such object.
    #[error("{kind} {name:?} not found: {look}")]
    NotFound {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// How to see what there is.
        look: &'static str,
    },
    /// The API has none of our kinds.
    #[error(
        "the cluster does not know liveupdate.dev/v1alpha1: install its custom resource definitions first"
    )]
    NotInstalled,
    /// The verb makes no sense now.
    #[error("{0}")]
    Refused(String),
    /// The verb stands in the annotation, but nobody took it.
    #[error(
        "the verb is written, but the controller has not taken it within {seconds} s: \
         is it running? It will be taken when it is; see status.verbs"
    )]
    NotTaken {
        /// How long was waited.
        seconds: u64,
    },
    /// Somebody else kept changing the object.
    #[error("liveupdate {name:?} kept changing while the verb was written: nothing was written, try again")]
    Conflict {
        /// The update.
        name: String,
    },
    /// The watched update ended otherwise than well, or is gone.
    #[error("{0}")]
    Ended(String),
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is no kernel image.
    #[error("{} cannot be inspected", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<liveupdate_host::image::ImageError>,
    },
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is no key.
    #[error("{} cannot be used", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: liveupdate_host::bundle::KeyError,
    },
    /// No bundle can be made of this.
    #[error("no bundle was made")]
    Build(#[source] Box<liveupdate_host::bundle::BuildError>),
    /// A bundle is not as it has to be.
    #[error("the bundle cannot be used")]
    Bundle(#[source] Box<liveupdate_host::bundle::BundleError>),
    /// A registry is of no use.
    #[error("the registry cannot be used")]
    Registry(#[source] Box<liveupdate_registry::Error>),
    /// A manifest cannot be used.
    #[error("{0}")]
    Manifest(String),
    /// Arguments that fit no use.
    #[error("{0}")]
    Usage(String),
    /// Something cannot be written as JSON or YAML.
    #[error("the result cannot be written: {0}")]
    Encoding(String),
    /// Standard output is closed, or the runtime cannot start.
    #[error("input or output failed")]
    Io(#[from] std::io::Error),
}

impl Error {
    /// 2: wrong use, nothing was tried. 1: everything else.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Kubeconfig(_)
            | Self::Client(_)
            | Self::File { .. }
            | Self::Image { .. }
            | Self::Key { .. }
            | Self::Build(_)
            | Self::Manifest(_)
            | Self::Usage(_) => 2,
            Self::Api { .. }
            | Self::NotFound { .. }
            | Self::NotInstalled
            | Self::Refused(_)
            | Self::NotTaken { .. }
            | Self::Write { .. }
            | Self::Bundle(_)
            | Self::Registry(_)
            | Self::Conflict { .. }
            | Self::Ended(_)
            | Self::Encoding(_)
            | Self::Io(_) => 1,
        }
    }
}
