//! The sealed form of one value (D19): a key and a commitment derived per value, then AES-256-GCM.
//!
//! ```text
//! salt (32) | commitment (32) | ciphertext | tag (16)
//! ```

use agent_identity_core::encoding::length_prefixed;
use agent_identity_core::seal::{Context, Key32, SealError};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Length of the salt, in bytes.
pub(super) const SALT: usize = 32;
const COMMITMENT: usize = 32;
const TAG: usize = 16;
const LABEL: &[u8] = b"agent-identity seal v1";

/// What HKDF gives for one value.
struct Derived {
    cipher: LessSafeKey,
    /// Only the holder of the same key, salt and context derives the same. AES-GCM alone commits to nothing: a
    /// ciphertext can be made that opens under two keys.
    commitment: Zeroizing<[u8; COMMITMENT]>,
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(key: &Key32, salt: &[u8], context: &Context) -> Result<Derived, Unspecified> {
    let info = length_prefixed([LABEL, context.as_bytes()]);
    let mut bytes = Zeroizing::new([0; 32 + COMMITMENT]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(key.expose())
        .expand(&[&info], Length(bytes.len()))?
        .fill(bytes.as_mut_slice())?;
    let (cipher, commitment) = bytes.split_first_chunk::<32>().ok_or(Unspecified)?;
    Ok(Derived {
        cipher: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, cipher)?),
        commitment: Zeroizing::new(commitment.try_into().map_err(|_| Unspecified)?),
    })
}

/// All zero, and still never used twice with one key: the key comes from a fresh 32-byte random salt and seals exactly
/// one value. A random 96-bit nonce would add nothing but a bound on the number of values.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// `header`, then the sealed form of `plaintext`.
///
/// # Errors
/// Only if memory runs out, or the plaintext has more than 64 GiB.
pub(super) fn seal(
    key: &Key32,
    context: &Context,
    salt: &[u8; SALT],
    header: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let derived = derive(key, salt, context)?;
    // Room for all of it at once: growing would leave a copy of the plaintext behind.
    let mut sealed = Vec::with_capacity(header.len() + SALT + COMMITMENT + plaintext.len() + TAG);
    sealed.extend_from_slice(header);
    sealed.extend_from_slice(salt);
    sealed.extend_from_slice(derived.commitment.as_slice());
    let text_at = sealed.len();
    sealed.extend_from_slice(plaintext);
    let text = sealed.get_mut(text_at..).ok_or(Unspecified)?;
    let tag = derived.cipher.seal_in_place_separate_tag(nonce(), Aad::from(context.as_bytes()), text)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// The plaintext of what follows the header in what [`seal`] made.
///
/// # Errors
/// [`SealError::Broken`] for another key or context, or any changed byte.
pub(super) fn open(key: &Key32, context: &Context, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (salt, rest) = sealed.split_at_checked(SALT).ok_or(SealError::Broken)?;
    let (commitment, text) = rest.split_at_checked(COMMITMENT).ok_or(SealError::Broken)?;
    let derived = derive(key, salt, context).map_err(|_| SealError::Broken)?;
    if !bool::from(derived.commitment.as_slice().ct_eq(commitment)) {
        return Err(SealError::Broken);
    }
    let mut text = Zeroizing::new(text.to_vec());
    let length = derived
        .cipher
        .open_in_place(nonce(), Aad::from(context.as_bytes()), &mut text)
        .map_err(|_| SealError::Broken)?
        .len();
    text.truncate(length);
    Ok(text)
}
