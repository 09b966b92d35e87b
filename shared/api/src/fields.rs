//! Reading a request's JSON into types that cannot be wrong, collecting every field that is (`fieldList`).
//!
//! Clients validate almost nothing (`contract.md` 0.8): required members, types, lengths, patterns, enums and unions are
//! all checked here. A JSON `null` counts as an absent member; unknown members are ignored, as AWS's servers do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_identity_core::error::FieldError;
use agent_identity_core::{Error, Result, Secret};
use serde_json::{Map, Value};

/// Most entries of a list of texts. The model has no bound; a row has one, and so has patience.
const MAX_ITEMS: usize = 256;

/// The members of one object of the request.
#[derive(Clone)]
pub(crate) struct Members {
    path: String,
    map: Map<String, Value>,
    errors: Arc<Mutex<Vec<FieldError>>>,
}

impl Members {
    /// The members of the request's body.
    pub(crate) fn of_body(map: Map<String, Value>) -> Self {
        Self { path: String::new(), map, errors: Arc::default() }
    }

    /// The members themselves.
    pub(crate) fn into_map(self) -> Map<String, Value> {
        self.map
    }

    fn errors(&self) -> MutexGuard<'_, Vec<FieldError>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of a member, as `fieldList` names it.
    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Notes that a member is wrong.
    pub(crate) fn wrong(&self, name: &str, message: impl Into<String>) {
        self.errors().push(FieldError { name: self.at(name), message: message.into() });
    }

    /// The names of the members that are there.
    pub(crate) fn names(&self) -> Vec<String> {
        self.map.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect()
    }

    /// The member as it is.
    pub(crate) fn raw(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A text that may be absent. The outer `None` means that it is wrong, which is noted.
    pub(crate) fn text<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let Some(value) = self.raw(name) else {
            return Some(None);
        };
        let parsed = value.as_str().ok_or_else(|| "must be a string".to_owned()).and_then(parse);
        self.noted(name, parsed).map(Some)
    }

    /// A text that must be there.
    pub(crate) fn required<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let found = self.text(name, parse)?;
        if found.is_none() {
            self.missing(name);
        }
        found
    }

    /// Notes that a required member is absent.
    pub(crate) fn missing(&self, name: &str) {
        self.wrong(name, "is required");
    }

    /// A boolean, false when absent.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        match self.raw(name) {
            None => Some(false),
            Some(Value::Bool(value)) => Some(*value),
            Some(_) => self.noted(name, Err("must be a boolean".to_owned())),
        }
    }

    /// An integer within bounds that may be absent.
    pub(crate) fn integer(&self, name: &str, min: u64, max: u64) -> Option<Option<u64>> {
        let Some(value) = self.raw(name) else {
            return Some(None);
        };
        let parsed = match value {
            Value::Number(number) => number
                .as_u64()
                .filter(|number| (min..=max).contains(number))
                .ok_or_else(|| format!("must be an integer from {min} to {max}")),
            _ => Err(format!("must be an integer from {min} to {max}")),
        };
        self.noted(name, parsed).map(Some)
    }

    /// A list of texts that may be absent; the path of a wrong one carries its index.
    pub(crate) fn texts<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Option<Vec<T>>> {
        let Some(value) = self.raw(name) else {
            return Some(None);
        };
        let Some(items) = value.as_array() else {
            return self.noted(name, Err("must be a list of strings".to_owned()));
        };
        if items.len() > MAX_ITEMS {
            return self.noted(name, Err(format!("must have at most {MAX_ITEMS} entries")));
        }
        let before = self.errors().len();
        let parsed = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                let parsed = item.as_str().ok_or_else(|| "must be a string".to_owned()).and_then(&parse);
                self.noted(&format!("{name}[{index}]"), parsed)
            })
            .collect();
        (self.errors().len() == before).then_some(Some(parsed))
    }

    /// A map of texts that may be absent; `parse` sees key and value.
    pub(crate) fn text_map(
        &self,
        name: &str,
        max: usize,
        check: impl Fn(&str, &str) -> Result<(), String>,
    ) -> Option<Option<BTreeMap<String, String>>> {
        let Some(value) = self.raw(name) else {
            return Some(None);
        };
        let Some(entries) = value.as_object() else {
            return self.noted(name, Err("must be a map of strings".to_owned()));
        };
        if entries.len() > max {
            return self.noted(name, Err(format!("must have at most {max} entries")));
        }
        let before = self.errors().len();
        let mut parsed = BTreeMap::new();
        for (key, value) in entries {
            match value.as_str() {
                None => self.wrong(name, "must have strings as values"),
                Some(value) => match check(key, value) {
                    Err(message) => self.wrong(name, message),
                    Ok(()) => {
                        parsed.insert(key.clone(), value.to_owned());
                    }
                },
            }
        }
        (self.errors().len() == before).then_some(Some(parsed))
    }

    /// An object that may be absent.
    pub(crate) fn object(&self, name: &str) -> Option<Option<Members>> {
        match self.raw(name) {
            None => Some(None),
            Some(Value::Object(map)) => Some(Some(self.below(name, map.clone()))),
            Some(_) => self.noted(name, Err("must be an object".to_owned())),
        }
    }

    /// An object that must be there.
    pub(crate) fn required_object(&self, name: &str) -> Option<Members> {
        let found = self.object(name)?;
        if found.is_none() {
            self.missing(name);
        }
        found
    }

    /// A list of objects that may be absent, with bounds on its length.
    pub(crate) fn objects(&self, name: &str, min: usize, max: usize) -> Option<Option<Vec<Members>>> {
        let Some(value) = self.raw(name) else {
            return Some(None);
        };
        let items = value.as_array().filter(|items| (min..=max).contains(&items.len()));
        let Some(items) = items else {
            return self.noted(name, Err(format!("must be a list of {min} to {max} objects")));
        };
        let mut objects = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let name = format!("{name}[{index}]");
            match item {
                Value::Object(map) => objects.push(self.below(&name, map.clone())),
                _ => return self.noted(&name, Err("must be an object".to_owned())),
            }
        }
        Some(Some(objects))
    }

    /// The one member of a union that is set, by name.
    pub(crate) fn union(&self, members: &[&'static str]) -> Option<&'static str> {
        let set = self.names();
        let known: Vec<&'static str> =
            members.iter().copied().filter(|member| set.iter().any(|name| name == member)).collect();
        match (known.as_slice(), set.len()) {
            ([one], 1) => Some(one),
            _ => {
                let message = format!(
                    "must have exactly one of the members {}{}",
                    members.join(", "),
                    if set.is_empty() { String::new() } else { format!("; it has {}", shown(&set)) }
                );
                self.errors().push(FieldError { name: self.path.clone(), message });
                None
            }
        }
    }

    fn below(&self, name: &str, map: Map<String, Value>) -> Self {
        Self { path: self.at(name), map, errors: Arc::clone(&self.errors) }
    }

    fn noted<T>(&self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|message| self.wrong(name, message)).ok()
    }

    /// The request, if nothing was wrong with it.
    ///
    /// # Errors
    /// `Validation` with every field that is wrong.
    pub(crate) fn finish<T>(&self, value: Option<T>) -> Result<T> {
        let errors = std::mem::take(&mut *self.errors());
        match value {
            Some(value) if errors.is_empty() => Ok(value),
            _ if errors.is_empty() => {
                Err(Error::internal("a request was not read, and nothing was wrong with it"))
            }
            _ => Err(Error::fields(errors)),
        }
    }
}

/// Names for a message: few, and short, since they come from outside.
fn shown(names: &[String]) -> String {
    let short = |name: &String| name.chars().take(64).collect::<String>();
    names.iter().take(4).map(short).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A text of this many characters.
pub(crate) fn sized(min: usize, max: usize) -> impl Fn(&str) -> Result<String, String> {
    move |text| {
        if (min..=max).contains(&text.chars().count()) {
            Ok(text.to_owned())
        } else {
            Err(format!("must have {min} to {max} characters"))
        }
    }
}

/// A secret of this many characters.
pub(crate) fn secret(min: usize, max: usize) -> impl Fn(&str) -> Result<Secret, String> {
    move |text| sized(min, max)(text).map(Secret::new)
}

/// A text of this many characters, all of which `allowed` admits; `pattern` is how the model writes that.
pub(crate) fn patterned(
    min: usize,
    max: usize,
    allowed: impl Fn(char) -> bool,
    pattern: &'static str,
) -> impl Fn(&str) -> Result<String, String> {
    move |text| {
        let text = sized(min, max)(text)?;
        if text.chars().all(&allowed) { Ok(text) } else { Err(format!("must match {pattern}")) }
    }
}

/// One of a few words.
pub(crate) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("must be one of {}", all.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Members {
        Members::of_body(value.as_object().unwrap().clone())
    }

    fn errors(members: &Members) -> Vec<(String, String)> {
        let error = members.finish::<()>(None).unwrap_err();
        error.field_list().iter().map(|field| (field.name.clone(), field.message.clone())).collect()
    }

    #[test]
    fn every_wrong_field_is_named_with_its_path() {
        let body = members(json!({"a": 1, "b": {"c": "xyz"}, "d": ["ok", 2], "e": null}));
        assert!(body.required("a", sized(1, 2)).is_none());
        assert!(body.required_object("b").unwrap().required("c", sized(1, 2)).is_none());
        assert!(body.texts("d", sized(1, 2)).is_none());
        assert!(body.required("e", sized(1, 2)).is_none());
        let names: Vec<String> = errors(&body).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b.c", "d[1]", "e"]);
    }

    #[test]
    fn a_union_takes_exactly_one_known_member() {
        assert_eq!(members(json!({"x": 1})).union(&["x", "y"]), Some("x"));
        assert_eq!(members(json!({"x": 1, "y": null})).union(&["x", "y"]), Some("x"));
        for wrong in [json!({}), json!({"x": 1, "y": 2}), json!({"z": 1}), json!({"x": 1, "z": 2})] {
            let body = members(wrong);
            assert_eq!(body.union(&["x", "y"]), None);
            assert!(errors(&body)[0].1.contains("exactly one of the members x, y"));
        }
    }

    #[test]
    fn numbers_are_integers_within_their_bounds() {
        let body = members(json!({"a": 20, "b": 21, "c": 1.5, "d": -1, "e": "1"}));
        assert_eq!(body.integer("a", 1, 20), Some(Some(20)));
        for name in ["b", "c", "d", "e"] {
            assert_eq!(body.integer(name, 1, 20), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_sized_text_is_counted_in_characters(text in "\\PC{0,12}") {
            prop_assert_eq!(sized(2, 6)(&text).is_ok(), (2..=6).contains(&text.chars().count()));
        }
    }
}
