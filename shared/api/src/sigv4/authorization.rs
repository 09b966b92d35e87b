//! The `Authorization` header, read strictly: what is ambiguous is refused, not guessed.

use agent_identity_core::encoding::unhex;

use super::{ALGORITHM, SigV4Error, TERMINATOR};

/// Longest header read. A long list of signed headers stays well below 2 KiB.
const MAX_BYTES: usize = 4096;
/// As AWS's `accessKeyIdType`.
const MAX_ACCESS_KEY_ID_BYTES: usize = 128;
/// The longest region name of AWS has 14 characters.
const MAX_REGION_BYTES: usize = 64;
/// hyper itself reads at most 100 headers.
const MAX_SIGNED_HEADERS: usize = 100;

/// The parts of the header, each well-formed; what they say is not yet believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authorization<'a> {
    pub access_key_id: &'a str,
    /// `YYYYMMDD`, digits only.
    pub date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
    /// Lower case, strictly ascending.
    pub signed_headers: Vec<&'a str>,
    pub signature: [u8; 32],
}

impl<'a> Authorization<'a> {
    /// Parses `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`, the fields in any order.
    pub fn parse(value: &'a str) -> Result<Self, SigV4Error> {
        if value.len() > MAX_BYTES {
            return Err(SigV4Error::incomplete(format!("Authorization is longer than {MAX_BYTES} bytes")));
        }
        let fields = value
            .strip_prefix(ALGORITHM)
            .filter(|rest| rest.starts_with(' '))
            .ok_or_else(|| SigV4Error::incomplete(format!("Authorization must begin with `{ALGORITHM} `")))?;

        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let Some((name, value)) = field.trim_matches(' ').split_once('=') else {
                return Err(SigV4Error::incomplete(
                    "Authorization must be a list of `name=value`, separated by `,`",
                ));
            };
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => {
                    return Err(SigV4Error::incomplete(
                        "Authorization may only hold `Credential`, `SignedHeaders` and `Signature`",
                    ));
                }
            };
            if slot.replace(value).is_some() {
                return Err(SigV4Error::incomplete(format!("Authorization holds `{name}` more than once")));
            }
        }

        let (access_key_id, date, region, service) = parse_credential(required(credential, "Credential")?)?;
        Ok(Self {
            access_key_id,
            date,
            region,
            service,
            signed_headers: parse_signed_headers(required(signed_headers, "SignedHeaders")?)?,
            signature: parse_signature(required(signature, "Signature")?)?,
        })
    }
}

fn required<'a>(field: Option<&'a str>, name: &str) -> Result<&'a str, SigV4Error> {
    field.ok_or_else(|| SigV4Error::incomplete(format!("Authorization header requires '{name}' parameter.")))
}

fn parse_credential(value: &str) -> Result<(&str, &str, &str, &str), SigV4Error> {
    let parts: Vec<&str> = value.splitn(6, '/').collect();
    let [access_key_id, date, region, service, terminator] = parts.as_slice() else {
        return Err(SigV4Error::incomplete(format!(
            "Credential must be `access-key-id/date/region/service/{TERMINATOR}`"
        )));
    };
    let graphic = |text: &str, max: usize| {
        (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let region_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !graphic(access_key_id, MAX_ACCESS_KEY_ID_BYTES) {
        Err(SigV4Error::incomplete("Credential has a malformed access key id"))
    } else if date.len() != 8 || !date.bytes().all(|byte| byte.is_ascii_digit()) {
        Err(SigV4Error::incomplete("Credential has a malformed date, it must be YYYYMMDD"))
    } else if !graphic(region, MAX_REGION_BYTES) || !region.bytes().all(region_byte) {
        Err(SigV4Error::incomplete("Credential has a malformed region"))
    } else if *terminator != TERMINATOR {
        Err(SigV4Error::incomplete(format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}'"
        )))
    } else {
        Ok((access_key_id, date, region, service))
    }
}

fn parse_signed_headers(value: &str) -> Result<Vec<&str>, SigV4Error> {
    let names: Vec<&str> = value.split(';').take(MAX_SIGNED_HEADERS + 1).collect();
    if names.len() > MAX_SIGNED_HEADERS {
        return Err(SigV4Error::incomplete(format!("more than {MAX_SIGNED_HEADERS} headers are signed")));
    }
    // RFC 9110 §5.6.2, without upper case and without the separators of this header.
    let name_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !names.iter().all(|name| !name.is_empty() && name.bytes().all(name_byte)) {
        return Err(SigV4Error::incomplete(
            "SignedHeaders must be header names in lower case, separated by `;`",
        ));
    }
    if !names.is_sorted_by(|left, right| left < right) {
        return Err(SigV4Error::incomplete("SignedHeaders must be sorted, each name once"));
    }
    Ok(names)
}

fn parse_signature(value: &str) -> Result<[u8; 32], SigV4Error> {
    unhex(value)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| SigV4Error::incomplete("Signature must be 64 hexadecimal digits in lower case"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIGNATURE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn header(credential: &str, signed_headers: &str, signature: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed_headers}, Signature={signature}"
        )
    }

    const CREDENTIAL: &str = "AKID/20260131/eu-central-1/bedrock-agentcore/aws4_request";

    #[test]
    fn the_form_that_clients_send_is_read() {
        let value = header(CREDENTIAL, "host;x-amz-date", SIGNATURE);
        let read = Authorization::parse(&value).unwrap();
        assert_eq!(
            (read.access_key_id, read.date, read.region, read.service),
            ("AKID", "20260131", "eu-central-1", "bedrock-agentcore")
        );
        assert_eq!(read.signed_headers, ["host", "x-amz-date"]);
        assert_eq!(agent_identity_core::encoding::hex(&read.signature), SIGNATURE);
    }

    #[test]
    fn order_and_spaces_around_commas_do_not_matter() {
        let usual = header(CREDENTIAL, "host", SIGNATURE);
        let other =
            format!("AWS4-HMAC-SHA256  Signature={SIGNATURE},SignedHeaders=host  ,Credential={CREDENTIAL}");
        assert_eq!(Authorization::parse(&usual), Authorization::parse(&other));
    }

    #[test]
    fn what_is_malformed_is_incomplete() {
        let upper = SIGNATURE.to_uppercase();
        let long_id = format!("{}/20260131/r/s/aws4_request", "A".repeat(129));
        let long_region = format!("A/20260131/{}/s/aws4_request", "r".repeat(65));
        let many = (100..201).map(|n| format!("h{n}")).collect::<Vec<_>>().join(";");
        let good = header(CREDENTIAL, "host", SIGNATURE);
        for value in [
            String::new(),
            "Bearer abc".into(),
            "AWS4-HMAC-SHA256".into(),
            "AWS4-HMAC-SHA256 ".into(),
            good.replace("SHA256 ", "SHA2567 "),
            good.replace("SHA256 ", "SHA256\t"),
            good.replace("Signature=", "signature="),
            format!("{good},"),
            format!("{good}, Signature={SIGNATURE}"),
            format!("{good}, Extra=1"),
            format!("AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders=host"),
            header("AKID/20260131/r/s", "host", SIGNATURE),
            header("AKID/20260131/r/s/aws4_request/more", "host", SIGNATURE),
            header("AKID/20260131/r/s/aws5_request", "host", SIGNATURE),
            header("/20260131/r/s/aws4_request", "host", SIGNATURE),
            header("A D/20260131/r/s/aws4_request", "host", SIGNATURE),
            header(&long_id, "host", SIGNATURE),
            header(&long_region, "host", SIGNATURE),
            header("AKID/2026013/r/s/aws4_request", "host", SIGNATURE),
            header("AKID/2026013x/r/s/aws4_request", "host", SIGNATURE),
            header("AKID/20260131//s/aws4_request", "host", SIGNATURE),
            header("AKID/20260131/R_1/s/aws4_request", "host", SIGNATURE),
            header(CREDENTIAL, "", SIGNATURE),
            header(CREDENTIAL, "Host", SIGNATURE),
            header(CREDENTIAL, "host;", SIGNATURE),
            header(CREDENTIAL, "host;host", SIGNATURE),
            header(CREDENTIAL, "x-amz-date;host", SIGNATURE),
            header(CREDENTIAL, "ho:st", SIGNATURE),
            header(CREDENTIAL, &many, SIGNATURE),
            header(CREDENTIAL, "host", ""),
            header(CREDENTIAL, "host", &upper),
            header(CREDENTIAL, "host", &format!("{SIGNATURE}00")),
            header(CREDENTIAL, "host", &"a".repeat(5000)),
        ] {
            assert!(
                matches!(Authorization::parse(&value), Err(SigV4Error::IncompleteSignature(_))),
                "{value} was read"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_nothing_is_echoed(secret in "[a-z]{12}", before in ".{0,40}", after in ".{0,40}") {
            let value = format!("{before}{secret}{after}");
            if let Err(error) = Authorization::parse(&value) {
                prop_assert!(!error.to_string().contains(&secret));
            }
            let value = format!("AWS4-HMAC-SHA256 Credential={before}{secret}/{after}");
            if let Err(error) = Authorization::parse(&value) {
                prop_assert!(!error.to_string().contains(&secret));
            }
        }
    }
}
