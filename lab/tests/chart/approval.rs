//! Editing, approving and looking on are three rights, told apart by RBAC and the policy liveupdate-approval.

use liveupdate_crds::verbs::{self, VerbKind};
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
        let approve =
            ["annotate", "lu", "edits", "liveupdate.dev/approve=canary@7f3c9a21d04be68c5512f0a9937e6b1d"];
        bed.refused(editor, &approve, "may not approve steps of the LiveUpdate edits").await;
        bed.allowed(approver, &approve).await;
        // What stands there is no obstacle to an edit, and may be taken back.
        bed.allowed(editor, &["patch", "lu", "edits", "--type=merge", "-p", r#"{"spec":{"paused":true}}"#])
            .await;
        bed.allowed(editor, &["annotate", "lu", "edits", "liveupdate.dev/approve-"]).await;
        // Every other verb is the editor's.
        bed.allowed(editor, &["annotate", "lu", "edits", "liveupdate.dev/abort=7f3c"]).await;

        let born = bed.write(
            "born.yaml",
            &update("born-approved", "liveupdate.dev/approve: canary@7f3c9a21d04be68c5512f0a9937e6b1d"),
        );
        bed.refused(editor, &["create", "-f", &born], "may not approve").await;
        bed.allowed(&Account::admin(), &["create", "-f", &born]).await;
    });
}

/// What is released is gone for good, and is not the editor's.
#[test]
fn a_release_takes_the_right_to_approve_and_no_other() {
    run(async |bed| {
        let people = People::of(bed, "releases").await;
        let (editor, approver) = (&people.editor, &people.approver);
        make(bed, editor, "releases").await;
        let words = "may not release what nodes of the LiveUpdate releases keep";
        let annotate = |value: &str| {
            let annotation = format!("liveupdate.dev/release{value}");
            ["annotate", "--overwrite", "lu", "releases", &annotation].map(str::to_owned)
        };
        let refused = async |who: &Account, value: &str| {
            let args = annotate(value);
            bed.refused(who, &args.each_ref().map(String::as_str), words).await;
        };
        let allowed = async |who: &Account, value: &str| {
            let args = annotate(value);
            bed.allowed(who, &args.each_ref().map(String::as_str)).await;
        };
        refused(editor, "=n1@7f3c").await;
        allowed(approver, "=n1@7f3c").await;
        // An editor neither adds a node to what stands there nor puts another one in its place; he may take it back.
        refused(editor, "=n1@7f3c,n2@7f3c").await;
        refused(editor, "=n2@7f3c").await;
        bed.allowed(
            editor,
            &["patch", "lu", "releases", "--type=merge", "-p", r#"{"spec":{"paused":true}}"#],
        )
        .await;
        allowed(editor, "-").await;
        refused(editor, "=n1@7f3c").await;
        allowed(approver, "=n1@7f3c").await;
        allowed(approver, "-").await;

        let born =
            bed.write("born-released.yaml", &update("born-released", "liveupdate.dev/release: n1@7f3c"));
        bed.refused(editor, &["create", "-f", &born], "may not release").await;
        bed.allowed(&Account::admin(), &["create", "-f", &born]).await;
    });
}

#[test]
fn an_editor_cannot_approve_by_other_steps() {
    run(async |bed| {
        let people = People::of(bed, "lowers").await;
        make(bed, &people.editor, "lowers").await;
        let words = "may not change the steps of the LiveUpdate lowers, of which one has approval: Required";
        let patch = |steps: &str| format!(r#"{{"spec":{{"strategy":{{"steps":{steps}}}}}}}"#);
        let edit = async |account: &Account, patch: &str| {
            bed.kubectl(account, &["patch", "lu", "lowers", "--type=merge", "-p", patch]).await
        };
        let all = r#"{"name":"rest","nodes":"100%"}"#;
        for other in [
            // It asks for none.
            format!(r#"[{{"name":"canary","nodes":1}},{all}]"#),
            format!(r#"[{{"name":"other","nodes":1,"approval":"Required"}},{all}]"#),
            "[]".to_owned(),
            // It asks when all nodes have jumped.
            format!(r#"[{{"name":"canary","nodes":"100%","approval":"Required"}},{all}]"#),
            format!(r#"[{{"name":"canary","nodes":2,"approval":"Required"}},{all}]"#),
            // Nobody is asked before it.
            format!(
                r#"[{{"name":"first","nodes":"100%"}},{{"name":"canary","nodes":"100%","approval":"Required"}},{all}]"#
            ),
            format!(r#"[{all},{{"name":"canary","nodes":1,"approval":"Required"}}]"#),
            format!(r#"[{{"name":"canary","nodes":1,"cover":["DeviceModel"],"approval":"Required"}},{all}]"#),
        ] {
            let output = edit(&people.editor, &patch(&other)).await;
            assert!(output.code != Some(0) && output.stderr.contains(words), "{other}: {}", output.stderr);
        }
        let output = edit(&people.editor, r#"{"spec":{"strategy":null}}"#).await;
        assert!(output.code != Some(0) && output.stderr.contains(words), "no strategy: {}", output.stderr);

        // The twins: the same steps again, an edit of the strategy beside them, and somebody who may both.
        let same = patch(&format!(r#"[{{"name":"canary","nodes":1,"approval":"Required"}},{all}]"#));
        let beside = r#"{"spec":{"strategy":{"maxUnavailable":2}}}"#;
        for allowed in [same.as_str(), beside] {
            let output = edit(&people.editor, allowed).await;
            assert_eq!(output.code, Some(0), "{allowed}: {}", output.stderr);
        }
        let lowered = patch(&format!(r#"[{{"name":"canary","nodes":2}},{all}]"#));
        let output = edit(&Account::admin(), &lowered).await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        // Where nobody has to approve, steps are the editor's, and so is to ask for an approval.
        let asked = patch(&format!(r#"[{{"name":"canary","nodes":3,"approval":"Required"}},{all}]"#));
        let output = edit(&people.editor, &asked).await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        let output = edit(&people.editor, &lowered).await;
        assert!(output.code != Some(0) && output.stderr.contains(words), "{}", output.stderr);
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
        bed.allowed(
            approver,
            &["annotate", "lu", "approves", "liveupdate.dev/approve=canary@7f3c9a21d04be68c5512f0a9937e6b1d"],
        )
        .await;
        // Every other verb is an editor's: to give it, to change it, to take it back.
        let own = [VerbKind::Approve, VerbKind::Release];
        let others = verbs::ALL.into_iter().filter(|kind| !own.contains(kind)).map(verbs::annotation);
        let mut seen = 0;
        for verb in others.chain(["liveupdate.dev/of-a-later-version"]) {
            seen += 1;
            for value in ["=7f3c", "=abcd", "-"] {
                let annotation = format!("{verb}{value}");
                let args = ["annotate", "--overwrite", "lu", "approves", &annotation];
                bed.refused(approver, &args, words).await;
                bed.allowed(editor, &args).await;
            }
        }
        assert!(seen > 5, "{seen} verbs");
        // Not beside an approval either.
        let both = r#"{"metadata":{"annotations":{"liveupdate.dev/approve":"canary@abcd","liveupdate.dev/skip":"n@7f3c"}}}"#;
        bed.refused(approver, &merge(both), words).await;
        bed.allowed(approver, &["annotate", "lu", "approves", "liveupdate.dev/approve-"]).await;
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
