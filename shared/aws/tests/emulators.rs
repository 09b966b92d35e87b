//! The contract suites against DynamoDB Local and moto (`bash tests/run aws` starts both and says where they are).
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

#[path = "emulators/place.rs"]
mod place;

#[path = "emulators/proxy.rs"]
mod proxy;

#[path = "emulators/faults.rs"]
mod faults;
#[path = "emulators/keys.rs"]
mod keys;
#[path = "emulators/secrets.rs"]
mod secrets;
#[path = "emulators/store.rs"]
mod store;
