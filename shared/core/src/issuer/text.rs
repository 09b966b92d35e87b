//! Trusted issuers as an operator writes them (`--trusted-issuer`, `AGENT_IDENTITY_TRUSTED_ISSUERS`): an issuer, and what
//! its tokens must say (D4).

use super::{TrustedIssuer, default_subject_claim};

/// Reads one or more issuers: JSON (an object or an array of them), or `issuer=URL,audience=A,client=C,typ=T,alg=ALG,subject-claim=N`
/// with every part but the issuer repeatable, several issuers separated by `;`.
///
/// # Errors
/// The text says what is wrong.
pub fn parse_trusted_issuers(text: &str) -> Result<Vec<TrustedIssuer>, String> {
    let text = text.trim();
    let issuers = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else if text.starts_with('{') {
        vec![serde_json::from_str(text).map_err(|error| error.to_string())?]
    } else {
        text.split(';').filter(|part| !part.trim().is_empty()).map(words).collect::<Result<Vec<_>, _>>()?
    };
    if issuers.is_empty() {
        return Err("names no issuer; leave it out to accept any on loopback".to_owned());
    }
    for issuer in &issuers {
        check(issuer)?;
    }
    Ok(issuers)
}

fn words(text: &str) -> Result<TrustedIssuer, String> {
    let mut issuer = TrustedIssuer {
        issuer: String::new(),
        audiences: Vec::new(),
        clients: Vec::new(),
        algorithms: Vec::new(),
        typ: None,
        subject_claim: default_subject_claim(),
    };
    for word in text.split(',') {
        let (name, value) = word.trim().split_once('=').ok_or_else(|| {
            format!(
                "`{}` is none of issuer=…, audience=…, client=…, alg=…, typ=…, subject-claim=…",
                word.trim()
            )
        })?;
        let value = value.to_owned();
        match name {
            "issuer" => issuer.issuer = value,
            "audience" => issuer.audiences.push(value),
            "client" => issuer.clients.push(value),
            "typ" => issuer.typ = Some(value),
            "subject-claim" => issuer.subject_claim = value,
            "alg" => issuer.algorithms.push(
                serde_json::from_value(serde_json::Value::String(value.clone()))
                    .map_err(|_unknown| format!("`{value}` is no algorithm for users' tokens"))?,
            ),
            _ => {
                return Err(format!("`{name}` is none of issuer, audience, client, alg, typ, subject-claim"));
            }
        }
    }
    Ok(issuer)
}

fn check(issuer: &TrustedIssuer) -> Result<(), String> {
    if !is_url(&issuer.issuer) {
        return Err(format!("the issuer `{}` is no http or https URL", issuer.issuer));
    }
    if issuer.audiences.is_empty() && issuer.clients.is_empty() {
        return Err(format!(
            "an issuer is not enough: say which tokens of `{}` are for you, with audience=… or client=…",
            issuer.issuer
        ));
    }
    Ok(())
}

/// An issuer is compared byte for byte, so only what can be none is refused here.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    !host.is_empty() && !host.contains('@') && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_an_issuer_without_audience_or_client_is_refused() {
        assert!(parse_trusted_issuers("issuer=https://idp.example").unwrap_err().contains("not enough"));
        assert!(
            parse_trusted_issuers(r#"{"issuer":"https://idp.example"}"#).unwrap_err().contains("not enough")
        );
    }

    #[test]
    fn d4_no_issuer_is_not_any_issuer() {
        for text in ["", "  ", "[]", ";", " ; "] {
            assert!(parse_trusted_issuers(text).unwrap_err().contains("names no issuer"), "{text:?}");
        }
    }

    #[test]
    fn both_forms_say_the_same() {
        let words = parse_trusted_issuers(
            "issuer=https://idp.example,audience=a,client=c,alg=ES256,typ=at+jwt,subject-claim=oid",
        )
        .unwrap();
        let json = parse_trusted_issuers(
            r#"[{"issuer":"https://idp.example","audiences":["a"],"clients":["c"],"algorithms":["ES256"],"typ":"at+jwt",
                "subjectClaim":"oid"}]"#,
        );
        assert_eq!(words, json.unwrap());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(
            parse_trusted_issuers("issuer=https://idp.example,audience=a,alg=HS256")
                .unwrap_err()
                .contains("HS256")
        );
        assert!(parse_trusted_issuers("nonsense").unwrap_err().contains("issuer=…"));
        assert!(parse_trusted_issuers("issuer=idp,audience=a").unwrap_err().contains("no http or https URL"));
    }

    proptest::proptest! {
        #[test]
        fn d4_whatever_is_accepted_names_an_issuer_and_whom_its_tokens_are_for(text in "\\PC{0,60}", issuer in "[a-z:/.,=;]{0,30}") {
            for text in [text, format!("issuer=https://{issuer},audience=a")] {
                for issuer in parse_trusted_issuers(&text).unwrap_or_default() {
                    proptest::prop_assert!(issuer.issuer.starts_with("http"));
                    proptest::prop_assert!(!issuer.audiences.is_empty() || !issuer.clients.is_empty());
                }
            }
        }
    }
}
