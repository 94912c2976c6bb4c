use proptest::prelude::*;

use super::*;

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![Just(Claim::Awaited), Just(Claim::Granted), Just(Claim::Resumed)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![any::<u64>().prop_map(Kind::Memory), ".{0,20}".prop_map(Kind::Device)]
}

fn entry() -> impl Strategy<Value = Entry> {
    let objects = prop::collection::btree_map(any::<u64>(), (".{0,20}", kind()), 0..5);
    (".{0,20}", objects, any::<Option<u64>>(), any::<bool>(), claim(), any::<Option<u64>>()).prop_map(
        |(owner, objects, quiesced, dma_quiescent, claim, resumed)| Entry {
            name: String::new(),
            owner,
            session: String::new(),
            objects: objects
                .into_iter()
                .map(|(token, (label, kind))| Object { token, label, kind })
                .collect(),
            quiesced,
            dma_quiescent,
            claim,
            resumed,
            seen: Vec::new(),
        },
    )
}

fn index() -> impl Strategy<Value = Index> {
    let holders = prop::collection::vec(entry(), 0..4);
    (".{0,30}", any::<Option<u64>>(), ".{0,36}", any::<Option<u64>>(), holders).prop_map(
        |(attempt, nonce, boot_id, committed, mut holders)| {
            for (i, entry) in holders.iter_mut().enumerate() {
                entry.name = format!("vm {i} \"\\\n\u{1f600}");
                entry.session = format!("s.{i}");
            }
            let nonce = nonce.map(|nonce| format!("{nonce:032x}"));
            Index { attempt, nonce, boot_id, counter_khz: committed, committed, holders }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_written_is_read(index in index(), generation in any::<u64>()) {
        prop_assert_eq!(Index::decode(&index.encode(generation).unwrap()), Ok((generation, index)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), real in any::<bool>()) {
        let mut bytes = bytes;
        if real {
            bytes.splice(..0, MAGIC.into_iter().chain(VERSION.to_le_bytes()));
        }
        prop_assert!(Index::decode(&bytes).is_err() && Index::newest(&bytes, &bytes).is_err());
    }
}

fn sample() -> Index {
    let object = |token, kind| Object { token, label: "memory".into(), kind };
    let entry = |name: &str, session: &str| Entry {
        name: name.into(),
        owner: format!("unit {name}.service"),
        session: session.into(),
        objects: vec![object(1, Kind::Memory(1 << 30)), object(2, Kind::Device("0000:01:00.0".into()))],
        quiesced: Some(7),
        dma_quiescent: true,
        claim: Claim::Awaited,
        resumed: None,
        seen: Vec::new(),
    };
    Index {
        attempt: "7f3c-0a1b2c3d-1".into(),
        nonce: Some("00112233445566778899aabbccddeeff".into()),
        boot_id: "b1".into(),
        counter_khz: Some(2_400_000),
        committed: Some(9),
        holders: vec![entry("vm-a", "s.0"), entry("vm-b", "s.1")],
    }
}

#[test]
fn every_byte_that_is_changed_and_every_cut_is_refused() {
    let bytes = sample().encode(3).unwrap();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            assert!(Index::decode(&changed).is_err(), "byte {at} with {flip:#x}");
        }
        assert!(Index::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    let mut longer = bytes.clone();
    longer.extend([0, 0, 1]);
    assert_eq!(Index::decode(&longer), Index::decode(&bytes), "what follows is of a longer one before");
}

#[test]
fn a_writer_that_dies_leaves_the_other_slot() {
    let (old, new) = (sample(), Index { nonce: None, ..sample() });
    let (first, second) = (new.encode(5).unwrap(), old.encode(4).unwrap());
    assert_eq!(Index::newest(&first, &second), Ok((5, new.clone())));
    assert_eq!(Index::newest(&second, &first), Ok((5, new)));
    for at in 0..first.len() {
        let mut torn = first.clone();
        torn[at] ^= 1;
        assert_eq!(Index::newest(&torn, &second), Ok((4, old.clone())), "byte {at}");
        assert_eq!(Index::newest(&second, &torn), Ok((4, old.clone())), "byte {at}");
        assert!(Index::newest(&torn, &torn).is_err());
    }
    assert!(Index::newest(&[], &[0; 40]).is_err());
}

#[test]
fn what_never_is_written_is_refused_though_its_checksum_fits() {
    let mut twice = sample();
    twice.holders[1].name = "vm-a".into();
    let mut shared = sample();
    shared.holders[1].session = "s.0".into();
    let mut tokens = sample();
    tokens.holders[0].objects[1].token = 1;
    let mut many = sample();
    many.holders = (0..=MAX_HOLDERS)
        .map(|i| Entry { name: format!("{i}"), session: format!("s.{i}"), ..sample().holders[0].clone() })
        .collect();
    for bad in [twice, shared, tokens, many] {
        assert!(matches!(Index::decode(&bad.encode(1).unwrap()), Err(IndexError::Content(_))));
    }
    let huge = Index { attempt: "x".repeat(SLOT), ..Index::default() };
    assert!(matches!(huge.encode(1), Err(IndexError::TooLarge { .. })));
}

#[test]
fn the_largest_index_that_is_allowed_fits() {
    let object = |token| Object { token, label: "\"".repeat(64), kind: Kind::Memory(u64::MAX) };
    let objects: Vec<Object> = (0..64).map(|i| object(u64::MAX - i)).collect();
    let holders = (0..MAX_HOLDERS).map(|i| Entry {
        name: format!("{i:0>128}"),
        owner: "x".repeat(300),
        session: format!("liveupdate.{i}"),
        objects: objects.clone(),
        ..sample().holders[0].clone()
    });
    let index = Index { holders: holders.collect(), ..sample() };
    let bytes = index.encode(1).unwrap();
    assert!(bytes.len() <= SLOT, "{} bytes", bytes.len());
}

#[test]
fn its_slot_has_room_for_all_that_is_written_until_its_end() {
    let begun = Index { nonce: None, counter_khz: None, committed: None, ..sample() };
    let mut ended = Index { nonce: Some("f".repeat(64)), counter_khz: Some(u64::MAX), ..sample() };
    ended.committed = Some(u64::MAX);
    for entry in &mut ended.holders {
        (entry.claim, entry.quiesced, entry.resumed) = (Claim::Resumed, Some(u64::MAX), Some(u64::MAX));
        let facts = Facts::default().to_string();
        let seen = |address: &str| Sighting {
            address: address.to_owned(),
            facts: facts.clone(),
            evidence: "e".repeat(8 << 10),
        };
        entry.seen = entry.devices().map(seen).collect();
    }
    assert!(ended.holders.iter().any(|entry| !entry.seen.is_empty()));
    let slot = begun.slot().unwrap();
    assert!(ended.encode(1).unwrap().len() <= slot, "{slot}");
    assert!(slot <= 64 << 10, "each page is blackout: {slot}");
}
