//! Where the token is.

use super::Event;
use crate::settings::Settings;

/// The query parameter that RFC 6750 §2.3 has for tokens.
const ACCESS_TOKEN: &str = "access_token";

impl Event {
    /// The `Authorization` header. A browser cannot set it when it opens a WebSocket, so at `$connect`, and there alone, a query
    /// parameter that is an identity source may carry the token instead: elsewhere tokens in URLs end up in logs (RFC 6750 §5.3).
    ///
    /// # Errors
    /// When there are two: a client must use one way (RFC 6750 §2), and of two tokens none is ours to choose.
    pub(super) fn token(&self, settings: &Settings) -> Result<String, &'static str> {
        let header = self.one_header("authorization")?;
        let sources = settings.identity_sources.as_ref().filter(|_| self.is_connect());
        let named = sources.map_or(&[][..], |sources| sources.parameters());
        let mut parameters = named.iter().map(String::as_str).filter_map(|name| self.parameter(name));
        let parameter = parameters.next();
        let others = parameters.next().is_some()
            || self.parameter(ACCESS_TOKEN).is_some_and(|it| Some(it) != parameter);
        match (header, parameter) {
            (Some(header), None) if !others => Ok(header.to_owned()),
            (None, Some([token])) if !others => Ok(format!("Bearer {token}")),
            (None, None) => Ok(String::new()),
            _ => Err("two_tokens"),
        }
    }

    fn is_connect(&self) -> bool {
        self.version.is_none() && self.method_arn.as_ref().is_some_and(|arn| arn.ends_with("/$connect"))
    }

    /// The values of a query parameter.
    fn parameter(&self, name: &str) -> Option<&[String]> {
        if let Some(values) = self.multi_value_query_string_parameters.as_ref().and_then(|map| map.get(name))
        {
            return Some(values);
        }
        self.query_string_parameters.as_ref()?.get(name).map(std::slice::from_ref)
    }
}
