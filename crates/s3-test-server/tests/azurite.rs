//! The bucket store over a second protocol: Azure Blob Storage, by way of the Azurite emulator.
//! Runs when `SILTSTONE_AZURITE` holds its URL; `scripts/azurite.sh` starts it and sets that.

use siltstone_storage::{
    AzureSettings, Blobs, Error, ObjectBlobs, PutOutcome, SystemRng, Wait, probe_put_if_absent,
};
use std::io::ErrorKind;

const CONTAINER: &str = "siltstone";
const ACCOUNT: &str = "devstoreaccount1";
/// The emulator's key, the same everywhere and public.
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

fn endpoint() -> Option<String> {
    let endpoint = std::env::var("SILTSTONE_AZURITE").ok();
    if endpoint.is_none() {
        eprintln!("SILTSTONE_AZURITE is not set: left out");
    }
    endpoint
}

fn open(endpoint: &str, prefix: &str) -> siltstone_storage::Result<ObjectBlobs> {
    ObjectBlobs::azure(
        AzureSettings::new(CONTAINER, ACCOUNT, KEY).endpoint(endpoint),
        prefix,
    )
}

#[test]
fn every_operation_works_over_azure() -> Result<(), Error> {
    let Some(endpoint) = endpoint() else {
        return Ok(());
    };
    let prefix = format!("operations-{:016x}", fastrand::u64(..));
    let store = open(&endpoint, &prefix)?;
    probe_put_if_absent(&store, &SystemRng)?;

    store.put("sst/1", b"0123456789")?;
    store.put("empty", b"")?;
    assert_eq!(store.get("sst/1")?, &b"0123456789"[..]);
    assert_eq!(store.get("empty")?, &b""[..]);
    let reader = store.open("sst/1")?;
    assert_eq!(
        (reader.size(), reader.read(3, 4, Wait::Allowed)?),
        (10, "3456".into())
    );
    assert_eq!(store.put_if_absent("sst/1", b"other")?, PutOutcome::Exists);
    assert!(matches!(store.get("nothing"), Err(Error::NotFound { .. })));
    store.delete("sst/1")?;
    store.delete("sst/1")?;

    let bytes: Vec<u8> = (0..20_u32 << 20).map(|at| (at % 251) as u8).collect();
    let mut writer = store.create("big")?;
    writer.write(&bytes)?;
    assert!(matches!(store.get("big"), Err(Error::NotFound { .. })));
    writer.finish()?;
    assert!(store.get("big")? == bytes);
    let mut dropped = store.create("dropped")?;
    dropped.write(&bytes)?;
    drop(dropped);
    let names: Vec<String> = store.list("")?.into_iter().map(|blob| blob.name).collect();
    assert_eq!(names, ["big", "empty"]);
    Ok(())
}

#[test]
fn racing_creations_over_azure_have_one_winner() -> Result<(), Error> {
    let Some(endpoint) = endpoint() else {
        return Ok(());
    };
    let prefix = format!("race-{:016x}", fastrand::u64(..));
    let stores = (0..16)
        .map(|_| open(&endpoint, &prefix))
        .collect::<Result<Vec<_>, _>>()?;
    for round in 0..20 {
        let name = format!("manifest/{round}");
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = stores
                .iter()
                .enumerate()
                .map(|(racer, store)| {
                    let name = &name;
                    let bytes = format!("racer {racer}");
                    scope.spawn(move || store.put_if_absent(name, bytes.as_bytes()))
                })
                .collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().ok())
                .collect()
        });
        assert_eq!(outcomes.len(), stores.len());
        let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
        let won = outcomes
            .iter()
            .filter(|outcome| **outcome == PutOutcome::Created)
            .count();
        assert_eq!(won, 1, "round {round}");
    }
    Ok(())
}

#[test]
fn more_than_a_page_of_blobs_is_listed_over_azure() -> Result<(), Error> {
    let Some(endpoint) = endpoint() else {
        return Ok(());
    };
    let store = open(&endpoint, &format!("list-{:016x}", fastrand::u64(..)))?;
    let mut names: Vec<String> = (0..5_100).map(|number| format!("a/{number}")).collect();
    let pending: Vec<_> = names
        .iter()
        .map(|name| store.start_put_if_absent(name, name.clone().into_bytes().into()))
        .collect();
    for put in pending {
        assert_eq!(put.wait()?, PutOutcome::Created);
    }
    names.sort();
    let listed: Vec<String> = store
        .list("a/")?
        .into_iter()
        .map(|blob| blob.name)
        .collect();
    assert!(listed == names);
    Ok(())
}

#[test]
fn a_wrong_key_is_a_permission_error_over_azure() -> Result<(), Error> {
    let Some(endpoint) = endpoint() else {
        return Ok(());
    };
    let settings = AzureSettings::new(CONTAINER, ACCOUNT, "d3Jvbmcga2V5").endpoint(&endpoint);
    let error = ObjectBlobs::azure(settings, "")?.put("a", b"x");
    assert!(
        matches!(
            error,
            Err(Error::Io {
                kind: ErrorKind::PermissionDenied,
                ..
            })
        ),
        "{error:?}"
    );
    Ok(())
}
