//! Editing, approving and looking on are three rights, told apart by RBAC and the policy liveupdate-approval.

use liveupdate_lab::Account;

use crate::bed::{Bed, run, update};

/// Three people with one role each.
struct People {
    editor: Account,
    approver: Account,
    viewer: Account,
}

impl People {
    async fn of(bed: &Bed, test: &str) -> Self {
        let bind = async |role: &str| {
            let user = format!("{test}-{role}");
            let (role, subject) = (format!("--clusterrole=liveupdate-{role}"), format!("--user={user}"));
            bed.allowed(&Account::admin(), &["create", "clusterrolebinding", &user, &role, &subject]).await;
            Account::user(user)
        };
        Self { editor: bind("editor").await, approver: bind("approver").await, viewer: bind("viewer").await }
    }
}

async fn make(bed: &Bed, who: &Account, name: &str) {
    let file = bed.write(&format!("{name}.yaml"), &update(name, ""));
    bed.allowed(who, &["create", "-f", &file]).await;
}

#[test]
fn an_editor_writes_updates_and_approves_none() {
    run(async |bed| {
        let people = People::of(bed, "edits").await;
        let (editor, approver) = (&people.editor, &people.approver);
        make(bed, editor, "edits").await;
        let approve = ["annotate", "lu", "edits", "liveupdate.dev/approve=canary@7f3c"];
        bed.refused(editor, &approve, "may not approve steps of the LiveUpdate edits").await;
        bed.allowed(approver, &approve).await;
        // What stands there is no obstacle to an edit, and may be taken back.
        bed.allowed(editor, &["patch", "lu", "edits", "--type=merge", "-p", r#"{"spec":{"paused":true}}"#])
            .await;
        bed.allowed(editor, &["annotate", "lu", "edits", "liveupdate.dev/approve-"]).await;
        // Every other verb is the editor's.
        bed.allowed(editor, &["annotate", "lu", "edits", "liveupdate.dev/abort=7f3c"]).await;

        let born = bed.write("born.yaml", &update("born-approved", "liveupdate.dev/approve: canary@7f3c"));
        bed.refused(editor, &["create", "-f", &born], "may not approve").await;
        bed.allowed(&Account::admin(), &["create", "-f", &born]).await;
    });
}

#[test]
fn an_editor_cannot_approve_by_asking_for_no_approval() {
    run(async |bed| {
        let people = People::of(bed, "lowers").await;
        make(bed, &people.editor, "lowers").await;
        let words = "may not take a required approval out of the LiveUpdate lowers";
        let steps = |steps: &str| format!(r#"{{"spec":{{"strategy":{{"steps":{steps}}}}}}}"#);
        let edit = async |account: &Account, patch: &str| {
            bed.kubectl(account, &["patch", "lu", "lowers", "--type=merge", "-p", patch]).await
        };
        for lowered in [
            r#"[{"name":"canary","nodes":1},{"name":"rest","nodes":"100%"}]"#,
            r#"[{"name":"other","nodes":1,"approval":"Required"},{"name":"rest","nodes":"100%"}]"#,
            r#"[]"#,
        ] {
            let output = edit(&people.editor, &steps(lowered)).await;
            assert!(output.code != Some(0) && output.stderr.contains(words), "{lowered}: {}", output.stderr);
        }
        // The twins: another edit of the same step, and somebody who may both.
        let more = steps(
            r#"[{"name":"canary","nodes":2,"approval":"Required"},{"name":"rest","nodes":"100%","approval":"Required"}]"#,
        );
        assert_eq!(edit(&people.editor, &more).await.code, Some(0));
        let lowered = edit(
            &Account::admin(),
            &steps(r#"[{"name":"canary","nodes":2},{"name":"rest","nodes":"100%"}]"#),
        )
        .await;
        assert_eq!(lowered.code, Some(0), "{}", lowered.stderr);
    });
}

#[test]
fn an_approver_approves_and_edits_nothing() {
    run(async |bed| {
        let people = People::of(bed, "approves").await;
        let (editor, approver) = (&people.editor, &people.approver);
        make(bed, editor, "approves").await;
        let words = "and nothing else of it";
        let merge = |patch| ["patch", "lu", "approves", "--type=merge", "-p", patch];
        for patch in [
            r#"{"spec":{"paused":true}}"#,
            r#"{"spec":{"nodeSelector":{"matchLabels":{"pool":"all"}}}}"#,
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
            r#"{"metadata":{"finalizers":["a.b/c"]}}"#,
            r#"{"metadata":{"annotations":{"others":"1"}}}"#,
            r#"{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n","uid":"u"}]}}"#,
        ] {
            bed.refused(approver, &merge(patch), words).await;
            if !patch.contains("ownerReferences") {
                bed.allowed(editor, &merge(patch)).await;
            }
        }
        bed.allowed(approver, &["annotate", "lu", "approves", "liveupdate.dev/approve=canary@7f3c"]).await;
        bed.allowed(editor, &merge(r#"{"metadata":{"finalizers":null}}"#)).await;
        let file = bed.write("another.yaml", &update("another", ""));
        bed.refused(approver, &["create", "-f", &file], "cannot create").await;
        bed.refused(approver, &["delete", "lu", "approves"], "cannot delete").await;
        bed.allowed(editor, &["delete", "lu", "approves"]).await;
    });
}

#[test]
fn a_viewer_looks_on() {
    run(async |bed| {
        let people = People::of(bed, "views").await;
        make(bed, &people.editor, "views").await;
        for kind in ["liveupdates", "nodeliveupdates", "liveupdatepolicies"] {
            bed.allowed(&people.viewer, &["get", kind]).await;
        }
        bed.refused(&people.viewer, &["annotate", "lu", "views", "liveupdate.dev/hold=7f3c"], "cannot patch")
            .await;
        // Whoever has the built-in role may look on, too; and whoever may edit everything may not edit updates.
        for (role, may) in [("view", true), ("edit", true)] {
            let user = format!("views-built-in-{role}");
            let flags = [format!("--clusterrole={role}"), format!("--user={user}")];
            bed.allowed(&Account::admin(), &["create", "clusterrolebinding", &user, &flags[0], &flags[1]])
                .await;
            let account = Account::user(user);
            let looked = bed.kubectl(&account, &["get", "liveupdates"]).await;
            assert_eq!(looked.code == Some(0), may, "{role}: {}", looked.stderr);
            bed.refused(&account, &["annotate", "lu", "views", "liveupdate.dev/hold=7f3c"], "cannot patch")
                .await;
        }
    });
}
