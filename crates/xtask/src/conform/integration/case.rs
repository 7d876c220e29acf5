//! One case of `cases.json`, and the replacement of placeholders in it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::Value;

/// A case, or one of the images that must exist before it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    value: Value,
    id: String,
}

impl Case {
    /// Reads an element of the list.
    pub(super) fn read(value: Value) -> anyhow::Result<Self> {
        let id = value["id"].as_str().context("a case has no `id`")?.to_owned();
        Ok(Self { value, id })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn group(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }

    /// The field `name`; null where there is none.
    pub(super) fn field(&self, name: &str) -> &Value {
        &self.value[name]
    }

    /// The option `name`; null where there is none.
    pub(super) fn option(&self, name: &str) -> &Value {
        &self.value["opts"][name]
    }

    pub(super) fn list(&self, name: &str) -> &[Value] {
        self.value[name].as_array().map_or(&[], Vec::as_slice)
    }

    pub(super) fn asserts(&self) -> &Value {
        &self.value["asserts"]
    }

    pub(super) fn expects_success(&self) -> bool {
        self.value["expect"] == "ok"
    }

    pub(super) fn dockerfile_name(&self) -> &str {
        self.value["dockerfile_name"].as_str().unwrap_or("Dockerfile")
    }

    /// The images to be built and pushed first, with the names to push them under.
    pub(super) fn prelude(&self) -> Vec<(Self, String)> {
        let item = |value: &Value| {
            let name = value["push"].as_str().unwrap_or_default().to_owned();
            (Self { value: value.clone(), id: self.id.clone() }, name)
        };
        self.list("prelude").iter().map(item).collect()
    }
}

/// What the placeholders `{{NAME}}` of a case stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Substitutions(BTreeMap<String, String>);

impl Substitutions {
    pub(super) fn insert(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Puts values in the place of placeholders, in every string.
    pub(super) fn replace(&self, value: Value) -> Value {
        strings(value, &|text| {
            self.0
                .iter()
                .fold(text, |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
        })
    }

    /// Puts placeholders in the place of values, long ones first, in every string, names of fields included.
    pub(super) fn restore(&self, value: Value) -> Value {
        strings(value, &|text| self.restore_text(&text))
    }

    /// [`Substitutions::restore`] for one text.
    pub(super) fn restore_text(&self, text: &str) -> String {
        let mut pairs: Vec<(&String, &String)> = self.0.iter().collect();
        pairs.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        pairs.into_iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(value.as_str(), &format!("{{{{{name}}}}}"))
        })
    }
}

fn strings(value: Value, change: &dyn Fn(String) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.into_iter().map(|item| strings(item, change)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, item)| (change(name), strings(item, change)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn placeholders_are_replaced_and_restored() {
        let mut substitutions = Substitutions::default();
        substitutions.insert("GIT", "http://h/.git");
        substitutions.insert("GIT_V2", "0123456789");
        substitutions.insert("GIT_V2_8", "01234567");
        let value = json!({"a": ["{{GIT}}#{{GIT_V2}}", 1], "{{GIT_V2_8}}": null});
        let replaced = json!({"a": ["http://h/.git#0123456789", 1], "01234567": null});
        assert_eq!(substitutions.replace(value.clone()), replaced);
        assert_eq!(substitutions.restore(replaced), value);
    }
}
