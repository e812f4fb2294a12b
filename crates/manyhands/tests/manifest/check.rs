//! What must hold of any bytes that are read as a table of parcels.

use manyhands::shared::Manifest;

/// Refused, or a table that names parcels, lies within the bytes and is written as it was read; whether it was read.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let Some((manifest, begins)) = Manifest::read(bytes) else { return false };
    assert!(!manifest.is_empty(), "a table of nothing");
    assert_eq!(begins, manifest.len());
    assert_eq!(bytes.get(..begins), Some(&manifest.to_bytes()[..]));
    for part in &manifest.parts {
        assert!(part.at.checked_add(part.len).is_some(), "a part beyond all memory");
    }
    true
}
