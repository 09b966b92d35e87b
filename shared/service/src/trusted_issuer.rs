//! Trusted issuers as an operator writes them (`--trusted-issuer`, `AGENT_IDENTITY_TRUSTED_ISSUERS`): an issuer, and what
//! its tokens must say (D4).

use agent_identity_core::issuer::{TrustedIssuer, default_subject_claim};

/// Reads one or more issuers: JSON (an object or an array of them), or `issuer=URL,audience=A,client=C,typ=T,alg=ALG,subject-claim=N`
/// with every part but the issuer repeatable, several issuers separated by `;`.
///
/// # Errors
/// The text says what is wrong.
pub fn parse(text: &str) -> Result<Vec<TrustedIssuer>, String> {
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
    let url = url::Url::parse(&issuer.issuer)
        .map_err(|error| format!("the issuer `{}` is no URL: {error}", issuer.issuer))?;
    if !matches!(url.scheme(), "https" | "http") {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_an_issuer_without_audience_or_client_is_refused() {
        assert!(parse("issuer=https://idp.example").unwrap_err().contains("not enough"));
        assert!(parse(r#"{"issuer":"https://idp.example"}"#).unwrap_err().contains("not enough"));
    }

    #[test]
    fn d4_no_issuer_is_not_any_issuer() {
        for text in ["", "  ", "[]", ";", " ; "] {
            assert!(parse(text).unwrap_err().contains("names no issuer"), "{text:?}");
        }
    }

    #[test]
    fn both_forms_say_the_same() {
        let words =
            parse("issuer=https://idp.example,audience=a,client=c,alg=ES256,typ=at+jwt,subject-claim=oid")
                .unwrap();
        let json = parse(
            r#"[{"issuer":"https://idp.example","audiences":["a"],"clients":["c"],"algorithms":["ES256"],"typ":"at+jwt",
                "subjectClaim":"oid"}]"#,
        );
        assert_eq!(words, json.unwrap());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(parse("issuer=https://idp.example,audience=a,alg=HS256").unwrap_err().contains("HS256"));
        assert!(parse("nonsense").unwrap_err().contains("issuer=…"));
        assert!(parse("issuer=idp,audience=a").unwrap_err().contains("no URL"));
    }

    proptest::proptest! {
        #[test]
        fn d4_whatever_is_accepted_names_an_issuer_and_whom_its_tokens_are_for(text in "\\PC{0,60}", issuer in "[a-z:/.,=;]{0,30}") {
            for text in [text, format!("issuer=https://{issuer},audience=a")] {
                for issuer in parse(&text).unwrap_or_default() {
                    proptest::prop_assert!(issuer.issuer.starts_with("http"));
                    proptest::prop_assert!(!issuer.audiences.is_empty() || !issuer.clients.is_empty());
                }
            }
        }
    }
}
