//! Taking a credential out of what comes back: an upstream may echo it.

use zeroize::Zeroizing;

use crate::encoding;

use super::template::escape;

/// What stands where the credential stood.
const MARK: &[u8] = b"[redacted]";

/// Takes secrets out of texts, in the forms in which an honest echo writes them: as they are, as JSON or a URL has them, and in
/// base64. Who means to give a secret away can hide it from this; they had it anyway.
pub struct Redaction {
    /// The longest first, so that none leaves a rest of another.
    forms: Vec<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redaction")
    }
}

impl Redaction {
    /// For these secrets. An empty one has no forms.
    pub(super) fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = Vec::new();
        for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
            let json = serde_json::Value::from(secret).to_string();
            let json = json.trim_matches('"').to_owned();
            let escaped = escape(secret);
            forms.extend([
                secret.to_owned(),
                json.replace('/', "\\/"),
                json,
                escaped.to_ascii_lowercase(),
                escaped.replace("%20", "+"),
                escaped,
                encoding::base64(secret),
                encoding::base64url(secret),
            ]);
        }
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.dedup();
        Self { forms: forms.into_iter().map(|form| Zeroizing::new(form.into_bytes())).collect() }
    }

    /// `bytes` without the secrets.
    pub fn apply(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.forms.iter().fold(bytes, |bytes, form| replace(bytes, form))
    }

    /// `text` without the secrets.
    pub fn apply_text(&self, text: String) -> String {
        // What is replaced and what it is replaced by are whole characters.
        String::from_utf8_lossy(&self.apply(text.into_bytes())).into_owned()
    }
}

fn replace(bytes: Vec<u8>, form: &[u8]) -> Vec<u8> {
    let mut clean = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some(at) = find(rest, form) {
        let (before, from) = rest.split_at(at);
        clean.extend_from_slice(before);
        clean.extend_from_slice(MARK);
        rest = from.get(form.len()..).unwrap_or_default();
    }
    if clean.is_empty() {
        return bytes;
    }
    clean.extend_from_slice(rest);
    clean
}

fn find(bytes: &[u8], form: &[u8]) -> Option<usize> {
    let first = *form.first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == first) {
        let start = from + at;
        if bytes.get(start..)?.starts_with(form) {
            return Some(start);
        }
        from = start + 1;
    }
    None
}
