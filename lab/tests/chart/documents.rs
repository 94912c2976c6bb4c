//! The documents name what there is.

use liveupdate_host::linux::machine::Options;
use liveupdate_host::linux::root::Root;
use liveupdate_lab::helm::{chart, documented_values};
use serde_json::Value;

#[test]
fn every_file_of_values_is_documented() {
    let text = std::fs::read_to_string(chart().join("../../docs/install.md")).unwrap();
    for file in documented_values().unwrap() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(text.contains(&format!("`ci/{name}`")), "docs/install.md does not say what ci/{name} is for");
    }
}

/// What docs/threat-model.md says that agents cannot work under, no file of values gives them.
#[test]
fn no_file_of_values_confines_agents_by_profiles_that_they_cannot_work_under() {
    let text = std::fs::read_to_string(chart().join("../../docs/threat-model.md")).unwrap();
    for words in
        ["default profile refuses `kexec_file_load`", "default profile forbids to read other processes"]
    {
        let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(words), "{words:?} has gone from docs/threat-model.md, and this test with it");
    }
    for file in documented_values().unwrap().into_iter().chain([chart().join("values.yaml")]) {
        let values: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for profile in ["seccompProfile", "appArmorProfile"] {
            let kind = &values["agent"][profile]["type"];
            assert_ne!(kind, "RuntimeDefault", "agent.{profile} in {}", file.display());
        }
    }
}

/// What docs/install.md says of the profile. That agents work under it: `lab/tests/kube`.
#[test]
fn the_seccomp_profile_allows_what_is_said_and_nothing_that_is_said_to_be_refused() {
    let hardened = std::fs::read_to_string(chart().join("ci/hardened-values.yaml")).unwrap();
    let hardened: Value = serde_saphyr::from_str(&hardened).unwrap();
    let name = hardened["agent"]["seccompProfile"]["localhostProfile"].as_str().unwrap();
    let profile = std::fs::read_to_string(chart().join("files/seccomp").join(name)).unwrap();
    let profile: Value = serde_json::from_str(&profile).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules: Vec<&Value> = profile["syscalls"].as_array().unwrap().iter().collect();
    let named = |rule: &Value, call: &str| rule["names"].as_array().unwrap().iter().any(|name| name == call);
    let of = |call: &str| rules.iter().filter(|rule| named(rule, call)).copied().collect::<Vec<_>>();
    for call in ["kexec_file_load", "chroot"] {
        assert_eq!(of(call).len(), 1, "{call}");
    }
    let refused = "kexec_load reboot mount umount2 move_mount open_tree fsopen pivot_root unshare setns ptrace \
        process_vm_readv process_vm_writev init_module finit_module delete_module bpf perf_event_open \
        userfaultfd io_uring_setup keyctl add_key swapon iopl ioperm settimeofday clock_settime mknod acct";
    for call in refused.split_whitespace() {
        assert!(of(call).is_empty(), "{call} is allowed");
    }
    // Families of sockets, each by itself; threads, and no namespaces.
    let argument = |rule: &Value| rule["args"][0]["value"].as_u64();
    assert_eq!(of("socket").into_iter().map(argument).collect::<Vec<_>>(), [1, 2, 10, 16].map(Some));
    let namespaces = 0x7e02_0000;
    assert_eq!(of("clone").into_iter().map(argument).collect::<Vec<_>>(), [Some(namespaces)]);
    assert_eq!(of("clone3")[0]["action"], "SCMP_ACT_ERRNO");
}

/// A reviewer of the threat model finds every capability and every path of the host in it.
#[test]
fn the_threat_model_names_every_capability_and_path_of_the_host() {
    let text = std::fs::read_to_string(chart().join("../../docs/threat-model.md")).unwrap();
    let agent = std::fs::read_to_string(chart().join("templates/agent.yaml")).unwrap();
    let words = agent.lines().map(str::trim);
    let capabilities = words.clone().filter_map(|line| line.strip_prefix("- "));
    let capabilities = capabilities.filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    let paths = words
        .filter_map(|line| line.strip_prefix("hostPath: {path: "))
        .filter_map(|rest| rest.split(',').next());
    let named: Vec<&str> = capabilities.chain(paths.filter(|path| path.starts_with('/'))).collect();
    assert!(named.len() > 4, "{named:?}");
    for name in named {
        assert!(text.contains(&format!("`{name}`")), "docs/threat-model.md does not speak of {name}");
    }
}

/// Whoever reached the keeper's own socket would be to it what the agent is. Who can write where the holders' is could put
/// one in its place, and be handed what other holders have.
#[test]
fn pods_of_holders_are_shown_the_folder_of_their_socket_alone_and_do_not_write_there() {
    let socket = Options::at(Root::machine()).holders_socket();
    let (folder, _) = socket.rsplit_once('/').unwrap();
    for file in ["lab/tests/kube/pods.yaml", "docs/install.md"] {
        let text = std::fs::read_to_string(chart().join("../..").join(file)).unwrap();
        for (what, whole) in [
            ("{path: /run/liveupdate", format!("hostPath: {{path: {folder}, type: Directory}}")),
            ("mountPath: /run/liveupdate", format!("mountPath: {folder}, readOnly: true}}")),
        ] {
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(what)).collect();
            assert!(!lines.is_empty(), "{file} has no {what}");
            for line in lines {
                assert!(line.contains(&whole), "{file}: {line:?} is not {whole:?}");
            }
        }
    }
}
