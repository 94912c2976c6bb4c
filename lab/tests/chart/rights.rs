//! What each account may do, as `kubectl auth can-i --list` tells it, with a reason for each line.

use liveupdate_lab::Account;
use serde_json::Value;

use crate::bed::{Bed, NAMESPACE, run};
use crate::golden::compare_reasoned;

/// What the account may do, one line each; what everybody of its sort may is left out.
async fn rights(bed: &Bed, account: &Account, namespace: &str) -> Vec<String> {
    let list = async |account: &Account| {
        let told = bed.allowed(account, &["auth", "can-i", "--list", "--no-headers", "-n", namespace]).await;
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        told.lines().map(line).collect::<Vec<String>>()
    };
    let service = account.user.starts_with("system:serviceaccount:");
    let nobody =
        if service { Account::service_account("default", "nobody") } else { Account::user("nobody") };
    let everybody = list(&nobody).await;
    assert!(everybody.iter().any(|line| line.contains("/healthz")), "{everybody:?}");
    let mut found: Vec<String> =
        list(account).await.into_iter().filter(|line| !everybody.contains(line)).collect();
    found.sort();
    found
}

#[test]
fn each_account_may_do_what_is_written_here_for_a_reason() {
    run(async |bed| {
        let controller = Account::service_account(NAMESPACE, "liveupdate-controller");
        for (place, namespace) in
            [("own", NAMESPACE), ("node-leases", "kube-node-lease"), ("elsewhere", "default")]
        {
            compare_reasoned(
                &format!("golden/rights/controller-{place}.txt"),
                &rights(bed, &controller, namespace).await,
            );
        }
        for role in ["editor", "approver", "viewer"] {
            let user = format!("rights-{role}");
            let flags = [format!("--clusterrole=liveupdate-{role}"), format!("--user={user}")];
            bed.allowed(&Account::admin(), &["create", "clusterrolebinding", &user, &flags[0], &flags[1]])
                .await;
            let found = rights(bed, &Account::user(user), NAMESPACE).await;
            compare_reasoned(&format!("golden/rights/{role}.txt"), &found);
        }
    });
}

/// What `helm test` makes for the time of a test.
#[test]
fn the_account_of_the_check_may_read_what_it_asks_for() {
    run(async |bed| {
        let rendered = bed.template(&["--show-only=templates/tests/check.yaml"]).await;
        assert_eq!(rendered.code, Some(0), "{}", rendered.stderr);
        let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered.stdout).unwrap();
        let objects: Vec<&Value> = documents.iter().filter(|object| object["kind"] != "Pod").collect();
        assert!(objects.len() > 4, "{objects:?}");
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let file = bed.write("check.json", &list.to_string());
        bed.allowed(&Account::admin(), &["create", "-f", &file]).await;
        let account = Account::service_account(NAMESPACE, "liveupdate-check");
        for (place, namespace) in [("own", NAMESPACE), ("elsewhere", "default")] {
            compare_reasoned(
                &format!("golden/rights/check-{place}.txt"),
                &rights(bed, &account, namespace).await,
            );
        }
    });
}

#[test]
fn agents_and_the_uninstall_hook_may_do_what_everybody_may() {
    run(async |bed| {
        for account in ["liveupdate-agent", "liveupdate-uninstall"] {
            for namespace in [NAMESPACE, "kube-node-lease", "default"] {
                let found = rights(bed, &Account::service_account(NAMESPACE, account), namespace).await;
                assert_eq!(found, Vec::<String>::new(), "{account} in {namespace}");
            }
        }
        // The twin: the same question shows what somebody has.
        let found =
            rights(bed, &Account::service_account(NAMESPACE, "liveupdate-controller"), NAMESPACE).await;
        assert!(found.iter().any(|line| line.contains("liveupdate.dev")), "{found:?}");
    });
}
