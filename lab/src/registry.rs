//! A real registry of the distribution, with its storage in a run's folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::Spec;
use crate::wait::{self, Answer};
use crate::{Error, Process, Result, RunDir, ports};

/// As its package calls it.
const PROGRAM: &str = "docker-registry";
const START: Duration = Duration::from_secs(60);

/// Users as htpasswd writes them: `kernels` with the password `lu2`, by bcrypt.
pub const USERS: &str = "kernels:$2b$04$EpMcD4Q7OXBA5WWxKnda..Drzwj.De5//VNTTjlBD4oxZ1OslXhuG\n";

/// Whom it lets in, and how it is spoken to.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// A file as htpasswd makes it, with bcrypt; none: everybody.
    pub htpasswd: Option<PathBuf>,
    /// Files of certificate and key; none: without TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A registry on a port of 127.0.0.1. It ends with this value.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    port: u16,
    storage: PathBuf,
}

impl Registry {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed, or does not listen.
    pub async fn start(run: &RunDir, options: &RegistryOptions) -> Result<Registry> {
        let port = ports::free()?;
        let folder = run.folder(&format!("registry-{port}"))?;
        let storage = folder.join("storage");
        let file = folder.join("config.yml");
        let text = configuration(port, &storage, options);
        std::fs::write(&file, text).map_err(Error::file("write", &file))?;
        let spec = Spec::new(PROGRAM, PROGRAM, &folder).args(["serve".into(), file.into_os_string()]);
        let process = Process::start(spec)?;
        wait::until(&format!("{PROGRAM} on port {port}"), START, async || {
            Ok(match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                Ok(_) => Answer::Yes(()),
                Err(error) => Answer::not_yet(error),
            })
        })
        .await?;
        Ok(Registry { process, port, storage })
    }

    /// `127.0.0.1:PORT`, which is spoken to without TLS unless a CA is named.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// As a QEMU guest reaches it.
    pub fn address_for_guests(&self) -> String {
        format!("10.0.2.2:{}", self.port)
    }

    /// What it wrote about requests so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let path = self.process.log();
        std::fs::read_to_string(path).map_err(Error::file("read", path))
    }

    /// The file that it keeps a blob in, for whoever wants to spoil it.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let place = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", hex.get(..2).unwrap_or(hex));
        self.storage.join(place)
    }
}

fn configuration(port: u16, storage: &Path, options: &RegistryOptions) -> String {
    // JSON is YAML, and quotes whatever is in a path.
    let mut http = serde_json::json!({ "addr": format!("127.0.0.1:{port}") });
    if let Some((certificate, key)) = &options.tls {
        http["tls"] = serde_json::json!({ "certificate": certificate, "key": key });
    }
    let mut all = serde_json::json!({
        "version": 0.1,
        "storage": { "filesystem": { "rootdirectory": storage }, "delete": { "enabled": true } },
        "http": http,
    });
    if let Some(file) = &options.htpasswd {
        all["auth"] = serde_json::json!({ "htpasswd": { "realm": "lab", "path": file } });
    }
    all.to_string()
}
