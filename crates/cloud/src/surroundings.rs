//! What is looked at on a machine.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

/// What the machine has for the clouds. Only this is looked at.
pub struct Surroundings<'m> {
    /// The environment variables.
    pub variables: &'m BTreeMap<String, String>,
    /// Reads a file that a variable or a cloud's own config names.
    pub read: &'m dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.keys().collect();
        f.debug_struct("Surroundings").field("variables", &names).finish_non_exhaustive()
    }
}

impl Surroundings<'_> {
    /// A variable that is set to something else than nothing.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a variable says yes: `true` in any case, or `1`.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    /// The text of a file, without white space around it, as tokens are wanted.
    pub(crate) fn token(&self, file: &str) -> Result<String, String> {
        let bytes = (self.read)(Path::new(file))
            .map_err(|error| format!("`{file}` cannot be read: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("`{file}` is no text"))?;
        Ok(text.trim().to_owned())
    }
}
