//! The one way out: an HTTP client that resolves a name once, refuses addresses that are nobody's business, connects to
//! exactly what it checked, and caps time and size.
//!
//! What is *not* here: redirects, proxies, cookies, decompression, retries, and reuse of connections. The last is on purpose:
//! when a server closes an idle connection just as a request goes out, nobody can say whether it was received, and for a
//! rotating refresh token "nobody can say" is a lost grant (D5). On a fresh connection, whatever fails before the
//! first byte is known not to have been sent. What a new connection costs is lowered by TLS session resumption.

mod address;
mod allow;
mod client;
mod connect;
mod roots;
mod target;
mod watched;

pub use allow::{AllowList, AllowRule, AllowRuleError};
pub use client::GuardedClient;
pub use connect::dial;
pub use roots::{RootsError, check_extra_roots, system_roots};
