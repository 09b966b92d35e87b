//! ECDSA signatures: KMS gives DER (RFC 3279 §2.2.3), JWTs want two numbers of 32 bytes (RFC 7518 §3.4).

/// The fixed form of a P-256 signature in DER; `None` for anything else.
pub(super) fn fixed_form(der: &[u8]) -> Option<Vec<u8>> {
    let (body, rest) = element(der, 0x30)?;
    let (r, body) = element(body, 0x02)?;
    let (s, end) = element(body, 0x02)?;
    if !rest.is_empty() || !end.is_empty() {
        return None;
    }
    Some([number(r)?, number(s)?].concat())
}

/// The content of the element with this tag, and what follows it. All lengths here are below 128, so of one byte.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    match bytes {
        [found, length, rest @ ..] if *found == tag && *length < 128 => {
            rest.split_at_checked(usize::from(*length))
        }
        _ => None,
    }
}

/// A positive number in 32 bytes.
fn number(bytes: &[u8]) -> Option<[u8; 32]> {
    let digits = match bytes {
        [] => return None,
        [first, ..] if *first > 127 => return None,
        [0, digits @ ..] => digits,
        digits => digits,
    };
    let mut fixed = [0; 32];
    let from = fixed.len().checked_sub(digits.len())?;
    fixed.get_mut(from..)?.copy_from_slice(digits);
    Some(fixed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
        let integer = |digits: &[u8]| {
            let start = digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len() - 1);
            let mut digits = digits[start..].to_vec();
            if digits[0] > 127 {
                digits.insert(0, 0);
            }
            [vec![2, u8::try_from(digits.len()).unwrap()], digits].concat()
        };
        let body = [integer(r), integer(s)].concat();
        [vec![0x30, u8::try_from(body.len()).unwrap()], body].concat()
    }

    #[test]
    fn what_is_no_signature_is_none() {
        let good = der(&[1; 32], &[2; 32]);
        for length in 0..good.len() {
            assert_eq!(fixed_form(&good[..length]), None, "{length}");
        }
        assert_eq!(fixed_form(&[good, vec![0]].concat()), None);
        assert_eq!(fixed_form(&[0x30, 6, 2, 1, 0x80, 2, 1, 1]), None, "a negative number");
        assert_eq!(fixed_form(&der(&[1; 33], &[1; 32])), None, "a number beyond the curve's");
    }

    proptest! {
        #[test]
        fn both_numbers_come_back_in_full_length(r: [u8; 32], s: [u8; 32]) {
            prop_assert_eq!(fixed_form(&der(&r, &s)), Some([r, s].concat()));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = fixed_form(&bytes);
        }
    }
}
