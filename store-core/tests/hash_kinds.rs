//! The hash function of a store stands in its superblock: another one is never taken for it.

use store_core::{
    AttachError, Condition, CreateOptions, HashKind, Plain, PutOptions, Store, from_image,
    private_on_heap,
};

const FEATURES_REQUIRED: usize = 8;
const HASH_KIND: usize = 80;

fn image(hash: HashKind) -> Vec<u8> {
    let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(8).hash(hash);
    let store: Store<Plain> = private_on_heap(&options, 7).expect("a tiny store");
    let session = store.open_session().expect("a client entry");
    for number in 0..40_u8 {
        let put = PutOptions::new();
        store.put(&session, &[number], &[number], &put, Condition::Always).expect("a put");
    }
    store.image().expect("an image")
}

fn with(mut image: Vec<u8>, offset: usize, word: u64) -> Result<Store<Plain>, AttachError> {
    image[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
    from_image(&image)
}

#[test]
fn each_kind_is_read_as_itself() {
    for (hash, kind, features) in [(HashKind::Rapidhash, 1, 0), (HashKind::Siphash, 2, 2)] {
        let image = image(hash);
        assert_eq!(image[HASH_KIND], kind);
        assert_eq!(image[FEATURES_REQUIRED], features);
        let store: Store<Plain> = from_image(&image).expect("a store");
        for number in 0..40 {
            assert_eq!(store.get(&[number]), Ok(Some(vec![number])));
        }
        assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
    }
}

#[test]
fn another_kind_is_refused() {
    for hash in [HashKind::Rapidhash, HashKind::Siphash] {
        for kind in [0, 1, 2, 3, u64::MAX] {
            let image = image(hash);
            let own = u64::from(image[HASH_KIND]);
            let attached = with(image, HASH_KIND, kind);
            let refused = matches!(attached, Err(AttachError::Corruption(_)));
            assert_eq!(refused, kind != own, "{hash} as {kind}");
        }
    }
    let unknown = with(image(HashKind::Siphash), FEATURES_REQUIRED, 2 | 4);
    assert!(matches!(unknown, Err(AttachError::UnknownFeatures { unknown: 4, .. })));
}
