//! The pages that a user sees.

use super::Scope;

/// Asks for name and password.
pub(super) fn login(interaction: &str, client_name: &str, wrong: bool) -> String {
    let note =
        if wrong { "<p role=\"alert\">Wrong: that user name and password do not match.</p>" } else { "" };
    layout(
        "Sign in",
        &format!(
            "<p>to continue to <strong>{}</strong></p>{note}\
             <form method=\"post\" action=\"/login\">\
             <input type=\"hidden\" name=\"interaction\" value=\"{}\">\
             <label>User name <input name=\"username\" autocomplete=\"username\" required autofocus></label>\
             <label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\" required></label>\
             <button>Sign in</button></form>",
            escape(client_name),
            escape(interaction)
        ),
    )
}

/// Asks for consent.
pub(super) fn consent(interaction: &str, client_name: &str, user: &str, scopes: &[Scope]) -> String {
    let scopes: String = scopes
        .iter()
        .map(|scope| format!("<li>{} <code>{}</code></li>", escape(scope.meaning), escape(scope.name)))
        .collect();
    layout(
        "Allow access?",
        &format!(
            "<p><strong>{}</strong> asks <strong>{}</strong> whether it may:</p><ul>{scopes}</ul>\
             <form method=\"post\" action=\"/consent\">\
             <input type=\"hidden\" name=\"interaction\" value=\"{}\">\
             <button name=\"decision\" value=\"allow\">Allow</button> \
             <button name=\"decision\" value=\"deny\">Refuse</button></form>",
            escape(client_name),
            escape(user),
            escape(interaction)
        ),
    )
}

/// Says what is wrong when there is nobody to send the browser back to.
pub(super) fn refused(message: &str) -> String {
    layout("This request cannot go on", &format!("<p>{}</p>", escape(message)))
}

fn layout(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:24rem;margin:4rem auto;padding:0 1rem}}\
         label{{display:block;margin:.5rem 0}}</style>\
         <h1>{title}</h1>{body}</html>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_comes_from_outside_becomes_markup() {
        let evil = "\"><script>alert('1')</script>&";
        let scope = [Scope { name: "a", meaning: "b" }];
        for page in [login(evil, evil, true), consent(evil, evil, evil, &scope), refused(evil)] {
            assert!(!page.contains("<script") && !page.contains("value=\"\""), "{page}");
        }
    }
}
