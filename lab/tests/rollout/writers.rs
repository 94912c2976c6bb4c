//! Who has written what: `managedFields`, as the API server keeps them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Resource as _;
use liveupdate_crds::{FIELD_MANAGER, LiveUpdate, NodeLiveUpdate};

use crate::bed::{is_clean, run};

/// Field manager, subresource, and whether the status is among the fields.
fn writers(entries: Option<&Vec<ManagedFieldsEntry>>) -> Vec<(String, String, bool)> {
    let of = |entry: &ManagedFieldsEntry| {
        let fields = serde_json::to_value(&entry.fields_v1).unwrap();
        (
            entry.manager.clone().unwrap_or_default(),
            entry.subresource.clone().unwrap_or_default(),
            fields.get("f:status").is_some(),
        )
    };
    entries.into_iter().flatten().map(of).collect()
}

/// Two names would own fields that only one of them writes any more, and nobody would see whose a field is. See
/// docs/adr/0013.
#[test]
fn statuses_have_one_writer_under_one_name_and_a_record_has_no_other_at_all() {
    run(async |bed| {
        let pool = bed.pool("written", 2, |_, _| {}).await;
        pool.roll(|_| {}).await;
        bed.success("written").await;
        for number in [1, 2] {
            pool.stands(number, "Updated", "Updated").await;
            bed.node(&pool.name_of(number), "clean", is_clean).await;
        }

        let update = bed.bed.all::<LiveUpdate>().get("written").await.unwrap();
        let found = writers(update.meta().managed_fields.as_ref());
        let (of_status, of_the_rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|(.., status)| *status);
        assert_eq!(of_status, [(FIELD_MANAGER.to_owned(), "status".to_owned(), true)]);
        assert!(
            of_the_rest.iter().any(|(manager, ..)| manager != FIELD_MANAGER),
            "the spec is its owner's: {of_the_rest:?}"
        );

        for number in [1, 2] {
            let record = bed.bed.all::<NodeLiveUpdate>().get(&pool.name_of(number)).await.unwrap();
            let mut found = writers(record.meta().managed_fields.as_ref());
            found.sort();
            let ours = |subresource: &str, status| (FIELD_MANAGER.to_owned(), subresource.to_owned(), status);
            assert_eq!(found, [ours("", false), ours("status", true)], "it was made, and its status written");
        }
    });
}
