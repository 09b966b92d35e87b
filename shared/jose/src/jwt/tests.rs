//! The profile, held against tokens of a local issuer and against the attacks that are known.

mod accepted;
mod claims;
mod header;
mod issuers;
mod presets;
mod profiles;
mod properties;
mod signature;
mod structure;
mod support;
mod tiers;
mod wycheproof;
