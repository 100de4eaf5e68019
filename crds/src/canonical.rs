//! Canonical JSON (RFC 8785) and the hashes taken over it.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// A value that JSON cannot carry, such as NaN or a map with keys that are not strings.
#[derive(Debug, thiserror::Error)]
#[error("not canonical JSON: {0}")]
pub struct CanonicalError(#[from] serde_json::Error);

impl CanonicalError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        "canonical_json"
    }
}

/// The RFC 8785 bytes of `value`.
///
/// # Errors
/// [`CanonicalError`] for what JSON cannot carry.
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    Ok(serde_json_canonicalizer::to_vec(value)?)
}

/// `sha256:<hex>` of the canonical bytes of `value`: the form of `policyHash` and `payloadHash`.
///
/// # Errors
/// [`CanonicalError`] for what JSON cannot carry.
pub fn hash<T: Serialize>(value: &T) -> Result<String, CanonicalError> {
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(to_vec(value)?))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_by_utf16_units_and_numbers_are_ecmascripts() {
        // The vectors contracts.md asks for: non-ASCII, supplementary-plane keys, 1.0, 1e16, 1e-6, -0.0.
        let value = json!({"\u{20ac}": 1.0, "\u{1f600}": -0.0, "\u{fb33}": 1e-6, "a": 1e16});
        let bytes = to_vec(&value).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "{\"a\":10000000000000000,\"\u{20ac}\":1,\"\u{1f600}\":0,\"\u{fb33}\":0.000001}"
        );
    }

    #[test]
    fn equal_values_have_equal_hashes_whatever_the_order_of_keys() {
        assert_eq!(hash(&json!({"b": 1, "a": [2]})).unwrap(), hash(&json!({"a": [2], "b": 1})).unwrap());
    }
}
