//! The kernel to run.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The kernel to run.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// What `uname -r` must say afterwards. A node that comes back with anything else has failed, and no
    /// other node tries this target.
    // 64 is what the kernel itself can say (utsname).
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new(r"self.matches('^[^\\s/]+$')").message("write the kernel's release as `uname -r` prints it, without spaces and slashes, such as 7.3.5-lu2"))]
    pub release: String,
    /// The bundle that holds the kernel.
    pub bundle: Bundle,
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
