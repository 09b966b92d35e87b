//! A user's browser, as far as the story needs one: cookies, redirects, forms.

use std::collections::BTreeMap;

use agent_identity_core::Secret;
use agent_identity_core::http::{HttpClient as _, HttpRequest, HttpResponse, Method};
use agent_identity_egress::{AllowList, GuardedClient};
use url::{Url, form_urlencoded};

use crate::CommandResult;

/// A browser with its cookies, one jar for each origin.
pub struct Browser {
    client: GuardedClient,
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// Where a visit ended.
pub struct Page {
    /// The address.
    pub url: Url,
    /// The status; a redirect when it leads out of the story.
    pub status: u16,
    /// What is shown.
    pub html: String,
}

/// More redirects than any sign-in has.
const MAX_REDIRECTS: usize = 10;

impl Browser {
    /// A fresh browser that may visit these origins.
    ///
    /// # Errors
    /// When an origin is none.
    pub fn new(origins: &[&str]) -> CommandResult<Self> {
        let rules = origins
            .iter()
            .map(|origin| origin.trim_start_matches("http://").parse())
            .collect::<Result<Vec<_>, _>>()?;
        let client = GuardedClient::new(AllowList::new(rules), Vec::new());
        Ok(Self { client, cookies: BTreeMap::new() })
    }

    /// Opens an address and follows redirects, until one leads to `stop_at`.
    ///
    /// # Errors
    /// When a server does not answer.
    pub async fn open(&mut self, url: &str, stop_at: &str) -> CommandResult<Page> {
        self.visit(Method::Get, Url::parse(url)?, None, stop_at).await
    }

    /// Fills the form of a page and sends it.
    ///
    /// # Errors
    /// When there is no form, or a server does not answer.
    pub async fn submit(
        &mut self,
        page: &Page,
        fields: &[(&str, &str)],
        stop_at: &str,
    ) -> CommandResult<Page> {
        let form = form(&page.html).ok_or_else(|| format!("there is no form at {}", page.url.path()))?;
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(&form.hidden).extend_pairs(fields);
        self.visit(Method::Post, page.url.join(&form.action)?, Some(body.finish()), stop_at).await
    }

    async fn visit(
        &mut self,
        mut method: Method,
        mut url: Url,
        mut body: Option<String>,
        stop_at: &str,
    ) -> CommandResult<Page> {
        for _ in 0..MAX_REDIRECTS {
            let origin = url.origin().ascii_serialization();
            let mut headers = Vec::new();
            if let Some(jar) = self.cookies.get(&origin) {
                let pairs: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
                headers.push(("cookie", Secret::new(pairs.join("; "))));
            }
            if body.is_some() {
                headers.push(("content-type", Secret::new("application/x-www-form-urlencoded")));
                headers.push(("origin", Secret::new(origin.clone())));
            }
            let request = HttpRequest::new(method, url.as_str(), headers, body.take().map(Secret::new));
            let response = self.client.send(request).await?;
            self.keep_cookies(&origin, &response);
            let location = response.header("location").map(|location| url.join(location)).transpose()?;
            match location {
                Some(next) if next.as_str().starts_with(stop_at) => {
                    return Ok(Page { url: next, status: response.status, html: String::new() });
                }
                Some(next) => (method, url) = (Method::Get, next),
                None => {
                    let html = String::from_utf8_lossy(&response.body).into_owned();
                    return Ok(Page { url, status: response.status, html });
                }
            }
        }
        Err("too many redirects".into())
    }

    fn keep_cookies(&mut self, origin: &str, response: &HttpResponse) {
        for (_, value) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = value.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                let jar = self.cookies.entry(origin.to_owned()).or_default();
                jar.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

struct Form {
    action: String,
    hidden: Vec<(String, String)>,
}

/// The one form of a page of this story: its action, and what it hides.
fn form(html: &str) -> Option<Form> {
    let start = html.find("<form")?;
    let form = html.get(start..)?.split("</form>").next()?;
    let hidden = form
        .split("<input")
        .skip(1)
        .filter_map(|input| input.split('>').next())
        .filter(|input| input.contains("type=\"hidden\""))
        .filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)))
        .collect();
    Some(Form { action: attribute(form.split('>').next()?, "action")?, hidden })
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let value = rest.split('"').next()?;
    Some(value.replace("&#38;", "&").replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_gives_its_action_and_what_it_hides() {
        let html = r#"<p>x</p><form method="post" action="/go?a=1&amp;b=2"><input type="hidden" name="n" value="v">
            <input name="shown" value="no"><button>ok</button></form>"#;
        let form = form(html).unwrap();
        assert_eq!(form.action, "/go?a=1&b=2");
        assert_eq!(form.hidden, [("n".to_owned(), "v".to_owned())]);
    }
}
