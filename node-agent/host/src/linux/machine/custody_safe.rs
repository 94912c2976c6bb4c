//! The gate `CustodySafe`, by what the keeper tells of itself and what /proc says of it.

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::{Gate, GateId};
use serde::{Deserialize, Serialize};

use super::gate;
use crate::linux::cgroup::{self, Owner};
use crate::linux::root::Root;

/// What a keeper tells of itself in `/run/liveupdate/keeper.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeeperRecord {
    pub(super) boot_id: String,
    pub(super) pid: u32,
    /// Somebody else keeps copies of its files, and gives them back when it is started again.
    pub(super) files_kept: bool,
}

const NAME: &str = "liveupdate-keep";
const NEVER_KILLED: i32 = -1000;

/// A keeper runs here that does not die with a pod, is not killed for memory, and gets its files back when it
/// crashes.
pub(super) fn custody_safe(root: &Root, keeper: Option<KeeperRecord>) -> Gate {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let remedy = "run the keeper by its unit, liveupdate-keeper.service";
    let Some(keeper) = keeper else {
        let evidence = "/run/liveupdate/keeper.json: no keeper of this boot";
        return gate(GateId::CustodySafe, GateResult::Fail, evidence, "start liveupdate-keeper.service");
    };
    let at = |file: &str| format!("/proc/{}/{file}", keeper.pid);
    match root.line(&at("comm")) {
        Ok(name) if name.starts_with(NAME) => good.push(format!("{}: {name}", at("comm"))),
        Ok(name) => bad.push(format!("{}: {name}: the keeper is gone", at("comm"))),
        Err(error) => bad.push(format!("{error}: the keeper is gone")),
    }
    match root.number::<i32>(&at("oom_score_adj")) {
        Ok(NEVER_KILLED) => good.push(format!("oom_score_adj {NEVER_KILLED}")),
        Ok(score) => bad.push(format!("{}: {score}: it may be killed for memory", at("oom_score_adj"))),
        Err(error) => bad.push(error.to_string()),
    }
    match cgroup::path_of(root, keeper.pid) {
        Ok(path) if matches!(Owner::of(&path), Owner::Pod(_)) => {
            bad.push(format!("{}: {path}: it ends with a pod", at("cgroup")));
        }
        Ok(path) => good.push(format!("cgroup {path}")),
        Err(error) => bad.push(error.to_string()),
    }
    if keeper.files_kept {
        good.push("its files are kept by the service manager".into());
    } else {
        bad.push("nobody keeps its files (no FDSTORE): what it has in custody dies with it".into());
    }
    if bad.is_empty() {
        return gate(GateId::CustodySafe, GateResult::Pass, good.join("; "), "");
    }
    gate(GateId::CustodySafe, GateResult::Fail, bad.join("; "), remedy)
}
