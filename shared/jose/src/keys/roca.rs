//! ROCA (CVE-2017-15361): RSA keys of a broken generator, whose modulus can be factored, known by a fingerprint.

/// The odd primes whose product the broken generator built on, up to 167.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether the modulus is, modulo every one of those primes, a power of 65537. A sound modulus passes for such with a
/// probability below 2⁻²⁷.
pub(super) fn is_weak(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let residue = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        for _ in 0..*prime {
            if power == residue {
                return true;
            }
            power = power * 65537 % prime;
        }
        false
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A power of 65537, which has the fingerprint by definition, of 2049 bits.
    pub(in crate::keys) fn weak_modulus() -> Vec<u8> {
        let mut modulus = vec![1_u8];
        for _ in 0..128 {
            let mut carry = 0_u32;
            for byte in modulus.iter_mut().rev() {
                let product = u32::from(*byte) * 65537 + carry;
                *byte = (product & 0xff) as u8;
                carry = product >> 8;
            }
            while carry > 0 {
                modulus.insert(0, (carry & 0xff) as u8);
                carry >>= 8;
            }
        }
        modulus
    }

    #[test]
    fn a_modulus_with_the_fingerprint_is_weak_and_its_neighbour_is_not() {
        let mut modulus = weak_modulus();
        assert_eq!(modulus.len(), 257);
        assert!(is_weak(&modulus));
        *modulus.last_mut().unwrap() ^= 2;
        assert!(!is_weak(&modulus));
    }
}
