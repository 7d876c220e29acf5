//! The reader of one word: a recursive descent over its characters.

use std::collections::BTreeSet;
use std::str::Chars;

use super::ExpandErrorReason as Reason;
use super::pattern::{self, End};
use super::{Expander, Expansion, MAX_DEPTH, MAX_EXPANSION, Quotes, Variables};

type Result<T> = std::result::Result<T, Reason>;

pub(super) fn expand(
    expander: Expander,
    word: &str,
    variables: &(impl Variables + ?Sized),
) -> Result<Expansion> {
    let mut reader = Reader {
        expander,
        variables,
        // Go's scanner, which BuildKit reads words with, skips a byte order mark at the start.
        rest: word.strip_prefix('\u{feff}').unwrap_or(word).chars(),
        keeps_escapes: expander.keeps_escapes,
        depth: 0,
        word: String::new(),
        words: Vec::new(),
        matched: BTreeSet::new(),
        unmatched: BTreeSet::new(),
    };
    let text = reader.read_until(None)?;
    Ok(Expansion {
        text,
        words: reader.words,
        matched: reader.matched,
        unmatched: reader.unmatched,
    })
}

struct Reader<'a, V: ?Sized> {
    expander: Expander,
    variables: &'a V,
    rest: Chars<'a>,
    keeps_escapes: bool,
    depth: usize,
    /// What has been read of the current one of `words`.
    word: String,
    words: Vec<String>,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

impl<V: Variables + ?Sized> Reader<'_, V> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn skip_if(&mut self, wanted: char) -> bool {
        let is_it = self.peek() == Some(wanted);
        if is_it {
            self.rest.next();
        }
        is_it
    }

    /// Reads to the end of the word, or to `stop`, which is then consumed.
    fn read_until(&mut self, stop: Option<char>) -> Result<String> {
        let splits = stop.is_none();
        self.word.clear();
        let mut text = String::new();
        while let Some(c) = self.peek() {
            if stop == Some(c) {
                self.rest.next();
                self.word.clear();
                return Ok(text);
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    push(&mut text, &value)?;
                    if splits {
                        self.add_to_words(&value);
                    }
                }
                '\'' | '"' if self.expander.quotes != Quotes::Ignored => {
                    let value = if c == '"' { self.double_quoted() } else { self.single_quoted() }?;
                    push(&mut text, &value)?;
                    self.word.push_str(&value);
                }
                '<' => {
                    let value = self.less_than();
                    push(&mut text, &value)?;
                    self.word.push_str(&value);
                }
                c => {
                    self.rest.next();
                    if c == self.expander.escape {
                        if self.keeps_escapes {
                            self.word.push(c);
                            text.push(c);
                        }
                        let Some(escaped) = self.rest.next() else { break };
                        self.word.push(escaped);
                        text.push(escaped);
                    } else {
                        if c.is_whitespace() {
                            self.end_word();
                        } else {
                            self.word.push(c);
                        }
                        text.push(c);
                    }
                }
            }
        }
        match stop {
            Some('/') => Err(Reason::OpenPattern),
            Some(_) => Err(Reason::OpenBrace),
            None => {
                self.end_word();
                Ok(text)
            }
        }
    }

    fn add_to_words(&mut self, text: &str) {
        for (index, word) in text.split(char::is_whitespace).enumerate() {
            if index > 0 {
                self.end_word();
            }
            self.word.push_str(word);
        }
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn single_quoted(&mut self) -> Result<String> {
        self.rest.next();
        let Some((quoted, rest)) = self.rest.as_str().split_once('\'') else {
            // Everything was read in search of the end, which tells `nested` what to say.
            self.rest = "".chars();
            return Err(Reason::OpenSingleQuote);
        };
        self.rest = rest.chars();
        Ok(match self.expander.quotes {
            Quotes::Kept => format!("'{quoted}'"),
            Quotes::Removed | Quotes::Ignored => quoted.to_owned(),
        })
    }

    fn double_quoted(&mut self) -> Result<String> {
        let is_kept = self.expander.quotes == Quotes::Kept;
        let mut text = String::new();
        self.rest.next();
        if is_kept {
            text.push('"');
        }
        loop {
            match self.peek().ok_or(Reason::OpenDoubleQuote)? {
                '"' => {
                    self.rest.next();
                    if is_kept {
                        text.push('"');
                    }
                    return Ok(text);
                }
                '$' => {
                    let value = self.dollar()?;
                    push(&mut text, &value)?;
                }
                c => {
                    self.rest.next();
                    if c != self.expander.escape {
                        text.push(c);
                        continue;
                    }
                    if self.keeps_escapes {
                        text.push(c);
                    }
                    // Before any other character the escape character stands for itself.
                    match self.peek() {
                        None => {}
                        Some(escaped) if matches!(escaped, '"' | '$') || escaped == c => {
                            self.rest.next();
                            text.push(escaped);
                        }
                        Some(_) => text.push(c),
                    }
                }
            }
        }
    }

    /// `<<` and the blanks after it belong to one word, because a heredoc may be written so.
    fn less_than(&mut self) -> String {
        self.rest.next();
        let mut text = "<".to_owned();
        if self.skip_if('<') {
            text.push('<');
            while let Some(blank @ ('\t' | '\r' | ' ')) = self.peek() {
                text.push(blank);
                self.rest.next();
            }
        }
        text
    }

    fn dollar(&mut self) -> Result<String> {
        if self.depth == MAX_DEPTH {
            return Err(Reason::TooDeep);
        }
        self.depth += 1;
        self.rest.next();
        let value = if self.skip_if('{') { self.braces() } else { Ok(self.bare_name()) };
        self.depth -= 1;
        value
    }

    fn bare_name(&mut self) -> String {
        let name = self.name();
        if name.is_empty() {
            return "$".into();
        }
        match self.look_up(&name) {
            None if self.expander.keeps_unset => format!("${name}"),
            value => value.unwrap_or_default(),
        }
    }

    fn braces(&mut self) -> Result<String> {
        match self.peek() {
            None => return Err(Reason::OpenBrace),
            Some('{' | '}' | ':') => return Err(Reason::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let operator = self.rest.next();
        match operator {
            Some('}') => Ok(match self.look_up(&name) {
                None if self.expander.keeps_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some('/') => self.replacement(&name),
            Some(':') => {
                let operator = self.rest.next();
                let modifier = format!(":{}", shown(operator));
                self.modified(&name, operator, &modifier)
            }
            Some('+' | '-' | '?' | '#' | '%') => {
                self.modified(&name, operator, &shown(operator).to_string())
            }
            other => Err(Reason::UnsupportedModifier(shown(other).into())),
        }
    }

    /// What follows `${name:` or `${name`, from `operator` on.
    fn modified(&mut self, name: &str, operator: Option<char>, modifier: &str) -> Result<String> {
        let empty_is_unset = modifier.starts_with(':');
        let is_cut = matches!(operator, Some('#' | '%'));
        let unsupported = || Reason::UnsupportedModifier(modifier.to_owned());
        if empty_is_unset && is_cut {
            return Err(unsupported());
        }
        let word = self.nested('}', is_cut)?;
        let value = self.look_up(name);
        if value.is_none() && self.expander.keeps_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let is_unset = value.as_ref().is_none_or(|value| empty_is_unset && value.is_empty());
        let was_unset = value.is_none();
        let value = value.unwrap_or_default();
        match operator {
            Some('-') => Ok(if is_unset { word } else { value }),
            Some('+') => Ok(if is_unset { String::new() } else { word }),
            Some('?') if is_unset => {
                let message = match (word.is_empty(), was_unset) {
                    (false, _) => word,
                    (true, true) => "is not allowed to be unset".into(),
                    (true, false) => "is not allowed to be empty".into(),
                };
                Err(Reason::Required { name: name.to_owned(), message })
            }
            Some('?') => Ok(value),
            Some(sign @ ('#' | '%')) => {
                let end = if sign == '#' { End::Front } else { End::Back };
                match word.strip_prefix(sign) {
                    Some(pattern) => pattern::cut(&value, pattern, end, true),
                    None => pattern::cut(&value, &word, end, false),
                }
            }
            _ => Err(unsupported()),
        }
    }

    /// What follows `${name/`.
    fn replacement(&mut self, name: &str) -> Result<String> {
        let is_global = self.skip_if('/');
        let pattern = self.nested('/', true)?;
        let replacement = self.nested('}', true)?;
        let value = self.look_up(name);
        if value.is_none() && self.expander.keeps_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        pattern::replace(&value.unwrap_or_default(), &pattern, &replacement, is_global)
    }

    fn nested(&mut self, stop: char, keeps_escapes: bool) -> Result<String> {
        let outer = std::mem::replace(&mut self.keeps_escapes, keeps_escapes);
        let text = self.read_until(Some(stop));
        self.keeps_escapes = outer;
        text.map_err(|reason| match reason {
            Reason::TooLong | Reason::TooDeep | Reason::TooSlow => reason,
            // Whatever went wrong inside: when nothing is left, the missing end is what is told.
            _ if self.peek().is_some() => reason,
            _ if stop == '/' => Reason::OpenPattern,
            _ => Reason::OpenBrace,
        })
    }

    fn name(&mut self) -> String {
        let rest = self.rest.as_str();
        let length = match rest.chars().next() {
            Some(c) if c.is_ascii_digit() => {
                rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest.find(|c| !is_name_character(c)).unwrap_or(rest.len()),
        };
        let (name, rest) = rest.split_at(length);
        self.rest = rest.chars();
        name.to_owned()
    }

    fn look_up(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name).map(ToOwned::to_owned);
        let names = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        value
    }
}

pub(super) fn is_name_character(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_ascii_digit()
}

/// The end of the word is shown as the replacement character, which is how Go prints it.
fn shown(c: Option<char>) -> char {
    c.unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Appends, within [`MAX_EXPANSION`].
pub(super) fn push(text: &mut String, more: &str) -> Result<()> {
    if text.len() + more.len() > MAX_EXPANSION {
        return Err(Reason::TooLong);
    }
    text.push_str(more);
    Ok(())
}
