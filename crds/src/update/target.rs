//! The kernel to run.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// The kernel to run.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.bundle) != has(self.image)").message("write one of bundle (a folder under the agents' bundle root) and image (REGISTRY/REPOSITORY@sha256:…), and not both"))]
pub struct Target {
    /// What `uname -r` must say afterwards. A node that comes back with anything else has failed, and no
    /// other node tries this target.
    // 64 is what the kernel itself can say (utsname).
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new(r"self.matches('^[^\\s/]+$')").message("write the kernel's release as `uname -r` prints it, without spaces and slashes, such as 7.3.5-lu2"))]
    pub release: String,
    /// The bundle that holds the kernel, where it was copied to the nodes before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Bundle>,
    /// The bundle that holds the kernel, in a registry: `REGISTRY/REPOSITORY@sha256:…`, as `kubectl liveupdate
    /// bundle push` prints it. The nodes' agents fetch it; its signature is checked before anything large is downloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // So that its last part is a word of at most 253 bytes, whatever the registry is called.
    #[schemars(length(max = 320))]
    #[x_kube(validation = rules::image_has_a_digest(), validation = rules::image_is_a_reference())]
    pub image: Option<String>,
}

/// A bundle (kernel image, initrd, modules, manifest) under the agent's bundle root.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// Folder name under the bundle root of the nodes' agents.
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("size(self) > 0 && !self.contains('/') && !self.startsWith('.')").message("write the name of a folder under the agent's bundle root, without '/' and not beginning with '.', such as 7.3.5-lu2"))]
    pub name: String,
    /// Digest of the bundle's manifest: `sha256:` and 64 lower-case hex digits.
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^sha256:[0-9a-f]{64}$')").message("write the digest of the bundle's manifest as sha256: and 64 lower-case hex digits, as `sha256sum` prints them"))]
    pub digest: String,
}

/// A target as nodes are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// What people call it: the folder, or the last part of the repository.
    pub name: &'a str,
    /// Of the bundle's manifest, or with an image of the artifact's.
    pub digest: &'a str,
    /// `REGISTRY/REPOSITORY`; empty: the bundle lies on the nodes.
    pub repository: &'a str,
}

impl Target {
    /// Where the bundle comes from, and its digest.
    ///
    /// # Errors
    /// The rules of the schema refuse the same; what came past them is said with the field.
    pub fn named(&self) -> Result<Named<'_>, String> {
        match (&self.bundle, &self.image) {
            (Some(bundle), None) => Ok(Named { name: &bundle.name, digest: &bundle.digest, repository: "" }),
            (None, Some(image)) => {
                let (repository, digest) = image.split_once('@').ok_or_else(|| {
                    format!(
                        "spec.target.image: {image:?} names no digest: write REGISTRY/REPOSITORY@sha256:…"
                    )
                })?;
                let name = repository.rsplit('/').next().unwrap_or(repository);
                Ok(Named { name, digest, repository })
            }
            _ => Err("spec.target: write one of bundle and image, and not both".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_folder_or_an_artifact_and_not_both() {
        let bundle = Bundle { name: "7.3".into(), digest: "sha256:0".into() };
        let image = "registry.example:5000/kernels/lu2@sha256:1".to_owned();
        let of = |bundle, image| Target { release: "7.3".into(), bundle, image };
        let folder = of(Some(bundle.clone()), None);
        assert_eq!(folder.named(), Ok(Named { name: "7.3", digest: "sha256:0", repository: "" }));
        let artifact = of(None, Some(image.clone()));
        let repository = "registry.example:5000/kernels/lu2";
        assert_eq!(artifact.named(), Ok(Named { name: "lu2", digest: "sha256:1", repository }));
        for wrong in [of(None, None), of(Some(bundle), Some(image)), of(None, Some("a/b:tag".into()))] {
            assert!(wrong.named().is_err_and(|why| why.contains("spec.target")), "{wrong:?}");
        }
    }
}
