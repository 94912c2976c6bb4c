//! `bundle push` and `bundle pull`: bundles as artifacts in a registry.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use liveupdate_host::bundle::{
    self, Artifact, Blob, Bundle, BundleError, Delivery, Digest, MANIFEST_KIND, NO_CONFIGURATION, Part,
};
use liveupdate_proto::causes::chain;
use liveupdate_registry::{Client, Named, Options, Reader, Reference};
use tokio::runtime::{Handle, Runtime};

use super::text::Lines;
use crate::cli::{PullArgs, PushArgs, RegistryArgs};
use crate::error::Error;

/// Carries out `bundle push`; answers what is printed: what to write into `spec.target.image`.
///
/// # Errors
/// When the bundle is not whole, or the registry does not take it.
pub fn push(args: &PushArgs) -> Result<String, Error> {
    let named: Named = args.reference.parse().map_err(usage)?;
    let (repository, tag) = match named {
        Named::Repository(repository) => (repository, None),
        Named::Tag(repository, tag) => (repository, Some(tag)),
        Named::Digest(..) => {
            let why = "name a repository, with or without a tag: the digest follows from the bundle";
            return Err(Error::Usage(why.to_owned()));
        }
    };
    let failed = |error: BundleError| Error::Bundle(Box::new(error));
    let bundle = Bundle::open(&args.bundle).map_err(failed)?;
    // What is damaged should not get around.
    bundle.verify(&mut |_, _| true).map_err(failed)?;
    if bundle.signature_bytes().is_none() {
        eprintln!("{} is not signed: nodes will not fetch it (bundle sign)", args.bundle.display());
    }
    let artifact = Artifact::of(&bundle);
    let bytes = artifact.to_bytes(&bundle.manifest().release).map_err(Error::Encoding)?;
    let digest = Digest::of(&bytes).to_string();
    runtime()?.block_on(async {
        let client = Client::new(options(&args.registry));
        send(&client, &repository, &bundle, &artifact).await?;
        for under in [Some(digest.clone()), tag].into_iter().flatten() {
            client.put_manifest(&repository, &under, MANIFEST_KIND, bytes.clone()).await.map_err(registry)?;
        }
        Ok::<(), Error>(())
    })?;
    Ok(format!("{repository}@{digest}\n"))
}

async fn send(client: &Client, to: &Reference, bundle: &Bundle, artifact: &Artifact) -> Result<(), Error> {
    let small = [Some(NO_CONFIGURATION), Some(bundle.manifest_bytes()), bundle.signature_bytes()];
    for bytes in small.into_iter().flatten() {
        let digest = Digest::of(bytes).to_string();
        if !client.has(to, &digest).await.map_err(registry)? {
            let from = Cursor::new(bytes.to_vec());
            client.upload(to, &digest, bytes.len() as u64, from).await.map_err(registry)?;
        }
    }
    for (part, Blob { digest, size }) in &artifact.parts {
        let digest = digest.to_string();
        if client.has(to, &digest).await.map_err(registry)? {
            continue;
        }
        let path = bundle.path().join(Part::file(*part));
        let file = File::open(&path).map_err(|source| Error::File { path, source })?;
        client.upload(to, &digest, *size, file).await.map_err(registry)?;
    }
    Ok(())
}

/// Carries out `bundle pull`; answers what is printed.
///
/// # Errors
/// When it cannot be fetched, or is not what its digest says.
pub fn pull(args: &PullArgs) -> Result<String, Error> {
    let named: Named = args.reference.parse().map_err(usage)?;
    let Named::Digest(repository, digest) = named else {
        let why = "name the artifact by its digest (REGISTRY/REPOSITORY@sha256:…): a tag can be moved to other bytes";
        return Err(Error::Usage(why.to_owned()));
    };
    let wanted: Digest = digest.parse().map_err(|error| Error::Usage(format!("{error}")))?;
    let runtime = runtime()?;
    let mut from = FromRegistry {
        client: Client::new(options(&args.registry)),
        repository,
        digest,
        handle: runtime.handle().clone(),
    };
    let folder = args.output.clone();
    let pulled = runtime.block_on(async {
        tokio::task::spawn_blocking(move || bundle::pull(wanted, &mut from, &folder, &mut |_, _| true)).await
    });
    let pulled = pulled.map_err(io::Error::other)?.map_err(|error| Error::Bundle(Box::new(error)))?;
    let mut lines = Lines::default();
    lines.line("Bundle:", &pulled.path().display().to_string());
    lines.line("Digest:", &pulled.digest().to_string());
    lines.manifest(&pulled);
    Ok(lines.finish())
}

struct FromRegistry {
    client: Client,
    repository: Reference,
    digest: String,
    handle: Handle,
}

impl Delivery for FromRegistry {
    fn manifest(&mut self) -> Result<Vec<u8>, String> {
        let manifest = self.client.manifest(&self.repository, &self.digest);
        self.handle.block_on(manifest).map_err(|error| chain(&error))
    }

    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>, String> {
        let digest = blob.digest.to_string();
        let blob = self.client.blob(&self.repository, &digest, blob.size);
        let blob = self.handle.block_on(blob).map_err(|error| chain(&error))?;
        let wait = |blob: &mut liveupdate_registry::Blob| {
            self.handle.block_on(blob.next()).map_err(|error| io::Error::other(chain(&error)))
        };
        Ok(Box::new(Reader::new(blob, wait)))
    }
}

fn options(args: &RegistryArgs) -> Options {
    Options {
        ca: args.registry_ca.clone(),
        auth: args.registry_auth.clone().or_else(logged_in),
        plain_http: args.registry_plain_http.clone(),
        ..Options::default()
    }
}

/// Where `docker login` and its like leave credentials.
fn logged_in() -> Option<PathBuf> {
    let folder = match std::env::var_os("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
    };
    Some(folder.join("config.json")).filter(|file| file.is_file())
}

fn runtime() -> Result<Runtime, Error> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn registry(error: liveupdate_registry::Error) -> Error {
    Error::Registry(Box::new(error))
}

fn usage(error: impl std::fmt::Display) -> Error {
    Error::Usage(error.to_string())
}
