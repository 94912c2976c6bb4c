//! What lies on the node's disk beside the distribution's own files, and how it is started.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::images::{self, PAUSE_IMAGE};
use crate::testbed::{NAMESPACE, Testbed};
use crate::vm::installed::{First, LAB_UNIT, copy, copy_all, on_disk, write};
use crate::vm::options::{GUEST_ADDRESS, HOST_ADDRESS};
use crate::vm::{GuestOptions, Kit, Variant, static_binaries};
use crate::{Account, Error, Result, built, helm};

/// Memory in MiB.
const MEMORY: u32 = 2048;
const KUBERNETES: &str = "etc/kubernetes";
const IMAGES: &str = "var/lib/lab/images";

const CONTAINERD: &str = r#"version = 3

[plugins.'io.containerd.cri.v1.images']
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = 'PAUSE'

[plugins.'io.containerd.cri.v1.runtime']
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/opt/cni/bin']
    conf_dir = '/etc/cni/net.d'
    use_internal_loopback = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = true
"#;

/// The distribution's own configuration stays where it is.
const CONTAINERD_DROP_IN: (&str, &str) = (
    "etc/systemd/system/containerd.service.d/lab.conf",
    "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config /etc/containerd/lab.toml\n",
);

/// A list of plugins makes a node Ready; all pods here are in the node's own network and need none.
const NETWORK: &str = r#"{"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "loopback"}]}
"#;

const KUBELET: &str = "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: /etc/kubernetes/ca.crt}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: systemd
# The lab's kernels have no netfilter.
makeIPTablesUtilChains: false
resolvConf: /etc/kubernetes/resolv.conf
# A pod that a shutdown ends is over for good; a kexec is no shutdown.
shutdownGracePeriod: 0s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 10Mi, nodefs.available: 1%}
";

const KUBELET_UNIT: &str = "\
[Unit]
Description=kubelet
Requires=containerd.service
After=containerd.service lab-images.service

[Service]
ExecStart=/usr/bin/kubelet --config=/etc/kubernetes/kubelet.yaml --kubeconfig=/etc/kubernetes/kubelet.kubeconfig \
--hostname-override=NAME --node-ip=ADDRESS --node-labels=LABELS
Restart=always
RestartSec=1
# As distributions have it: pods are not the kubelet's to end.
KillMode=process

[Install]
WantedBy=multi-user.target
";

const IMAGES_UNIT: &str = "\
[Unit]
Description=images of the lab
Requires=containerd.service
After=containerd.service
ConditionPathExists=!/var/lib/lab/images/done

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'cd /var/lib/lab/images; while read -r name archive; do \
ctr --namespace k8s.io images import --base-name $name $archive; done <list; touch done'

[Install]
WantedBy=multi-user.target
";

impl Kit {
    /// How a node with a kubelet of its own is started; its disk is made now, with images that it will not have to
    /// pull.
    ///
    /// # Errors
    /// When the root cannot be built, or the disk cannot be made.
    pub fn kube(&self, bed: &Testbed, name: &str, labels: &str, variant: Variant) -> Result<GuestOptions> {
        let kernel = self.kernels().kernel(variant)?;
        let built = built::by("node/build.sh", "the node's root and kubelet")?;
        let files = self.folder().join(format!("{name}.files"));
        copy(&kernel.image(), &files.join(format!("boot/vmlinuz-{}", kernel.release)))?;
        copy(&built.join("kubelet"), &files.join("usr/bin/kubelet"))?;
        for (package, program) in [
            ("liveupdate-lab-guest", "liveupdate-lab-init"),
            ("liveupdate-lab-guest", "liveupdate-lab-pod"),
            ("liveupdate-holder", "liveupdate-hold"),
        ] {
            copy(&static_binaries::fresh(package, program)?, &files.join("usr/bin").join(program))?;
        }
        copy_all(&self.disk_folder(), &files.join("var/lib"))?;
        fs::create_dir_all(files.join(&super::PODS[1..])).map_err(Error::file("create", &files))?;
        kubernetes(bed, name, &files)?;
        units(name, labels, &files)?;
        let mut list = String::new();
        for (number, image) in images::own(self.folder())?.iter().enumerate() {
            copy(&image.archive, &files.join(IMAGES).join(format!("{number}.tar")))?;
            list += &format!("{} {number}.tar\n", image.name);
        }
        write(&files.join(IMAGES).join("list"), list.as_bytes())?;

        let first = First { image: kernel.image(), initrd: None, options: on_disk() };
        let mut options = self.install(name, &files, &built, &first)?;
        options.memory = MEMORY;
        Ok(options)
    }
}

/// Credentials and configuration of kubelet and containerd.
fn kubernetes(bed: &Testbed, name: &str, files: &Path) -> Result<()> {
    let folder = files.join(KUBERNETES);
    let server = format!("https://{HOST_ADDRESS}:{}", bed.plane.port());
    let account = Account::kubelet(name);
    let kubeconfig =
        bed.plane.write_kubeconfig(&account, &server, &format!("{}-guest", account.file_name()))?;
    copy(&kubeconfig, &folder.join("kubelet.kubeconfig"))?;
    write(&folder.join("ca.crt"), bed.plane.authority().certificate_pem().as_bytes())?;
    write(&folder.join("kubelet.yaml"), KUBELET.as_bytes())?;
    write(&folder.join("resolv.conf"), b"")?;
    // The kubelet gives pods in the node's own network the node's names. No cluster's DNS is here for the last one.
    let names = format!(
        "127.0.0.1 localhost\n{GUEST_ADDRESS} {name}\n{HOST_ADDRESS} liveupdate-controller.{NAMESPACE}.svc\n"
    );
    write(&files.join("etc/hosts"), names.as_bytes())?;
    // Where a kubelet finds what pods name as profiles of seccomp of type Localhost.
    let seccomp = helm::chart().join("files/seccomp").join(super::SECCOMP_PROFILE);
    copy(&seccomp, &files.join("var/lib/kubelet/seccomp").join(super::SECCOMP_PROFILE))?;
    write(&files.join("etc/containerd/lab.toml"), CONTAINERD.replace("PAUSE", PAUSE_IMAGE).as_bytes())?;
    write(&files.join(CONTAINERD_DROP_IN.0), CONTAINERD_DROP_IN.1.as_bytes())?;
    write(&files.join("etc/cni/net.d/lab.conflist"), NETWORK.as_bytes())
}

fn units(name: &str, labels: &str, files: &Path) -> Result<()> {
    let units = files.join("etc/systemd/system");
    let address = GUEST_ADDRESS.to_string();
    let kubelet = KUBELET_UNIT.replace("NAME", name).replace("ADDRESS", &address).replace("LABELS", labels);
    let texts = [
        ("liveupdate-lab.service", LAB_UNIT),
        ("lab-images.service", IMAGES_UNIT),
        ("kubelet.service", &kubelet),
    ];
    let wanted = units.join("multi-user.target.wants");
    fs::create_dir_all(&wanted).map_err(Error::file("create", &wanted))?;
    for (unit, text) in texts {
        write(&units.join(unit), text.as_bytes())?;
        let link = wanted.join(unit);
        symlink(PathBuf::from("..").join(unit), &link).map_err(Error::file("create", &link))?;
    }
    Ok(())
}
