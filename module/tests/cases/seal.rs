//! Seals: who may vouch, for what, and what a stranger can change without its being seen.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::io::{Cursor, Read, Seek};

use ired_module::seal::{MAX_SEALS, PublicKey, SealError, SealingKey, check, seal, seals};
use ired_module::{Module, Verify};

use crate::sample::draft;

fn key(fill: u8) -> SealingKey {
    SealingKey::from_seed([fill; 32])
}

fn sealed(module: &[u8], key: &SealingKey) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    seal(module, key, &mut file).unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn signers(module: &[u8]) -> Vec<Option<PublicKey>> {
    seals(&mut Cursor::new(module)).unwrap().iter().map(|seal| seal.signer()).collect()
}

#[test]
fn a_sealed_module_is_the_same_module() {
    let plain = draft().to_bytes().unwrap();
    assert!(signers(&plain).is_empty());
    let bytes = sealed(&plain, &key(1));
    let (before, after) = (Module::parse(&plain).unwrap(), Module::parse(&bytes).unwrap());
    after.verify(Verify::All).unwrap();
    for kind in ired_module::SectionKind::ALL {
        assert_eq!(before.section(kind), after.section(kind), "{kind}");
    }
    check(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!(signers(&bytes), [Some(key(1).public())]);
}

#[test]
fn several_may_vouch_and_each_once() {
    let mut bytes = sealed(&sealed(&draft().to_bytes().unwrap(), &key(1)), &key(2));
    assert_eq!(signers(&bytes), [Some(key(1).public()), Some(key(2).public())]);
    let again = sealed(&bytes, &key(1));
    assert_eq!(signers(&again), [Some(key(2).public()), Some(key(1).public())]);
    for fill in 3..=MAX_SEALS as u8 {
        bytes = sealed(&bytes, &key(fill));
    }
    let mut file = tempfile::tempfile().unwrap();
    assert!(matches!(seal(&bytes, &key(99), &mut file), Err(SealError::Full)));
    Module::parse(&bytes).unwrap().verify(Verify::All).unwrap();
}

#[test]
fn no_byte_changes_unseen() {
    let bytes = sealed(&draft().to_bytes().unwrap(), &key(1));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let whole = check(&mut Cursor::new(&changed)).is_ok() && Module::parse(&changed).is_ok();
        let vouched = || {
            let seals = seals(&mut Cursor::new(&changed));
            seals.is_ok_and(|seals| seals.iter().any(|seal| seal.signer() == Some(key(1).public())))
        };
        assert!(!(whole && vouched()), "byte {at} of {}", bytes.len());
    }
}

#[test]
fn a_seal_does_not_move_to_another_module() {
    let bytes = sealed(&draft().to_bytes().unwrap(), &key(1));
    let mut other = draft();
    other.provenance.model_name.push('x');
    let other = sealed(&other.to_bytes().unwrap(), &key(2));
    // The last 96 bytes are the seal. A thief writes header and table anew, so that every hash is right.
    let mut thief = other.clone();
    let end = thief.len();
    thief[end - 96..].copy_from_slice(&bytes[bytes.len() - 96..]);
    let rows = u32::from_le_bytes(thief[12..16].try_into().unwrap()) as usize;
    let hash = *blake3::hash(&thief[end - 96..]).as_bytes();
    thief[64 + rows * 64 - 32..64 + rows * 64].copy_from_slice(&hash);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&thief[..32]).update(&thief[64..64 + rows * 64]);
    thief[32..64].copy_from_slice(hasher.finalize().as_bytes());
    check(&mut Cursor::new(&thief)).unwrap();
    assert_eq!(signers(&thief), [None]);
}

#[test]
fn keys_are_what_other_tools_read() {
    let pem = key(7).to_pem().unwrap();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(SealingKey::from_pem(&pem).unwrap().public(), key(7).public());
    let public = key(7).public().to_pem().unwrap();
    assert_eq!(PublicKey::from_pem(&public).unwrap(), key(7).public());
    assert!(matches!(PublicKey::from_pem(&pem), Err(SealError::Key)));
    assert!(matches!(SealingKey::from_pem(&public), Err(SealError::Key)));
}

#[test]
fn what_is_no_module_has_no_seals() {
    let bytes = sealed(&draft().to_bytes().unwrap(), &key(1));
    for cut in [0, 7, 63, 64, 500, bytes.len() - 1] {
        assert!(seals(&mut Cursor::new(&bytes[..cut])).is_err());
        assert!(check(&mut Cursor::new(&bytes[..cut])).is_err());
    }
}
