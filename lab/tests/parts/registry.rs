//! The distribution's own registry, and the plugin as its client: credentials and TLS.

use std::fs;
use std::path::Path;
use std::process::Command;

use liveupdate_host::bundle::{MANIFEST, Part};
use liveupdate_lab::registry::USERS;
use liveupdate_lab::{Registry, RegistryOptions, RunDir, binaries, trial_bundle};

fn bundle(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let image = b"a kernel".repeat(100_000);
    fs::write(folder.join(Part::Image.file()), &image).unwrap();
    let manifest = trial_bundle::manifest("7.3.5-lu2", "quiet", trial_bundle::file(&image));
    fs::write(folder.join(MANIFEST), manifest.to_bytes().unwrap()).unwrap();
}

/// Standard output, or standard error of what failed.
async fn plugin(run: &RunDir, arguments: &[&str]) -> Result<String, String> {
    let program = tokio::task::spawn_blocking(|| binaries::fresh("kubectl-liveupdate", "kubectl-liveupdate"));
    let mut command = Command::new(program.await.unwrap().unwrap());
    // Whoever runs the tests may be logged in somewhere.
    command.args(["bundle"]).args(arguments).env("DOCKER_CONFIG", run.path());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[tokio::test]
async fn a_registry_that_asks_for_credentials_and_speaks_tls_takes_and_gives_bundles() {
    let run = RunDir::create().unwrap();
    let at = |name: &str| run.path().join(name).to_string_lossy().into_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(at("tls.crt"), certificate.pem()).unwrap();
    fs::write(at("tls.key"), key.serialize_pem()).unwrap();
    fs::write(at("users"), USERS).unwrap();
    let options = RegistryOptions {
        htpasswd: Some(at("users").into()),
        tls: Some((at("tls.crt").into(), at("tls.key").into())),
    };
    let registry = Registry::start(&run, &options).await.unwrap();
    bundle(Path::new(&at("b")));
    let repository = format!("{}/kernels/lu2", registry.address());
    let with = |password: &str| {
        let text = format!(
            r#"{{"auths":{{"{}":{{"username":"kernels","password":"{password}"}}}}}}"#,
            registry.address()
        );
        fs::write(at(password), text).unwrap();
        at(password)
    };
    let (right, wrong) = (with("lu2"), with("lu3"));
    let ca = at("tls.crt");
    let push = async |more: &[&str]| {
        let folder = at("b");
        plugin(&run, &[&["push", &folder, &repository], more].concat()).await
    };
    let no_tls = push(&["--registry-auth", &right]).await.unwrap_err();
    assert!(no_tls.contains("the registry cannot be used"), "{no_tls}");
    let nobody = push(&["--registry-ca", &ca]).await.unwrap_err();
    assert!(nobody.contains("401 Unauthorized") && nobody.contains("give credentials"), "{nobody}");
    let stranger = push(&["--registry-ca", &ca, "--registry-auth", &wrong]).await.unwrap_err();
    assert!(stranger.contains("401 Unauthorized") && !stranger.contains("lu3"), "{stranger}");
    let image = push(&["--registry-ca", &ca, "--registry-auth", &right]).await.unwrap();
    assert!(image.starts_with(&format!("{repository}@sha256:")), "{image}");
    let back = at("back");
    let pull = ["pull", &image, "-o", &back, "--registry-ca", &ca];
    let nobody = plugin(&run, &pull).await.unwrap_err();
    assert!(nobody.contains("401 Unauthorized"), "{nobody}");
    assert!(!Path::new(&back).exists());
    plugin(&run, &[pull.as_slice(), &["--registry-auth", &right]].concat()).await.unwrap();
    assert_eq!(fs::read(format!("{back}/image")).unwrap(), fs::read(at("b/image")).unwrap());
}
