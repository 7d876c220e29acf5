//! Expands variables and removes quotes in one word of an instruction.
//!
//! This is the small shell-like language of Dockerfiles as BuildKit has it: `'…'`, `"…"`, an escape
//! character, `$name`, and `${name…}` with the modifiers `:-` `-` `:+` `+` `:?` `?` `#` `##` `%`
//! `%%` `/` and `//`. Nothing is executed, and nothing is looked up but the variables that are
//! passed in. Unset variables are empty.
//!
//! # Guarantees
//!
//! - Errors have BuildKit's texts.
//! - A result is at most [`MAX_EXPANSION`] bytes long, nesting at most [`MAX_DEPTH`] deep, and a
//!   pattern compared at most [`MAX_COMPARISONS`] times, whatever the input. BuildKit has no such
//!   limits.
//!
//! # Known differences
//!
//! A variable name is made of Unicode's alphabetic characters and ASCII's digits, where BuildKit
//! has the general categories `L` and `Nd`. They differ in characters that no shell accepts in a
//! name.

mod pattern;
mod word;

use std::collections::{BTreeMap, BTreeSet};

use crate::go;

/// The longest text that one word may become, in bytes.
///
/// Linux accepts no argument or variable above 128 KiB. Without a limit, thirty lines of
/// `ENV A=$A$A` fill all memory.
pub const MAX_EXPANSION: usize = 1 << 20;

/// How deep `${a:-${b:-…}}` may be nested: expansion is recursive, and a stack is finite.
pub const MAX_DEPTH: usize = 100;

/// How many characters of a value times characters of a pattern may be compared.
///
/// Matching takes time proportional to this product, and a word has room for a pattern of tens of
/// thousands of characters.
pub const MAX_COMPARISONS: usize = 1 << 24;

/// Where names get their values.
pub trait Variables {
    /// The value of `name`, `None` where it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Variables for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// What happens to quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quotes {
    /// They quote, and are removed.
    #[default]
    Removed,
    /// They quote, and stay.
    Kept,
    /// They are characters like any other; `$` is expanded between them.
    Ignored,
}

/// How a word is read. [`Expander::new`] is right for almost every instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expander {
    /// The escape character, `\` unless a directive says otherwise.
    pub escape: char,
    /// What happens to quotes.
    pub quotes: Quotes,
    /// Whether escape characters stay in the result.
    pub keeps_escapes: bool,
    /// Whether the reference to an unset variable stays as it is.
    pub keeps_unset: bool,
}

/// A word after expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The whole word.
    pub text: String,
    /// The same, split at white space that is not quoted, including that in values.
    ///
    /// As in BuildKit, a `${…}` that holds a word itself drops what stands directly before it:
    /// `8${N:-0}` splits to `0`.
    pub words: Vec<String>,
    /// Variables that were asked for and are set.
    pub matched: BTreeSet<String>,
    /// Variables that were asked for and are not set.
    pub unmatched: BTreeSet<String>,
}

/// A word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {reason}", go::quote(.word))]
pub struct ExpandError {
    /// The word as it is written.
    pub word: String,
    /// What is wrong with it.
    pub reason: ExpandErrorReason,
}

/// Why an [`ExpandError`] happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ExpandErrorReason {
    #[error("unexpected end of statement while looking for matching single-quote")]
    OpenSingleQuote,
    #[error("unexpected end of statement while looking for matching double-quote")]
    OpenDoubleQuote,
    #[error("syntax error: missing '}}'")]
    OpenBrace,
    #[error("syntax error: missing '/' in ${{}}")]
    OpenPattern,
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    InvalidPattern { pattern: String, escaped: char },
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("the result is longer than {MAX_EXPANSION} bytes")]
    TooLong,
    #[error("the pattern and the value are too long for each other")]
    TooSlow,
    #[error("substitutions are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

impl Expander {
    /// Quotes and escapes are removed, unset variables are empty.
    pub fn new(escape: char) -> Self {
        Self { escape, quotes: Quotes::Removed, keeps_escapes: false, keeps_unset: false }
    }

    /// Expands `word`.
    pub fn expand(
        &self,
        word: &str,
        variables: &(impl Variables + ?Sized),
    ) -> Result<Expansion, ExpandError> {
        word::expand(*self, word, variables)
            .map_err(|reason| ExpandError { word: word.to_owned(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> BTreeMap<String, String> {
        [
            ("FOO", "foo"),
            ("EMPTY", ""),
            ("SP", "a  b"),
            ("FILE", "/a/b/c.tar.gz"),
            ("STARS", "x*xx"),
            ("LINES", "one\ntwo"),
            ("UTF", "héé"),
            ("Q", "\"q\""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    #[track_caller]
    fn check_with(expander: Expander, word: &str, expected: &str) {
        let actual = match expander.expand(word, &variables()) {
            Ok(expansion) => expansion.text,
            Err(error) => format!("error: {}", error.reason),
        };
        assert_eq!(actual, expected, "expanding {word:?}");
    }

    #[track_caller]
    fn check(word: &str, expected: &str) {
        check_with(Expander::new('\\'), word, expected);
    }

    #[track_caller]
    fn check_words(word: &str, expected: &[&str]) {
        let expansion = Expander::new('\\').expand(word, &variables()).unwrap();
        assert_eq!(expansion.words, expected, "splitting {word:?}");
    }

    #[test]
    fn quotes_and_escapes_are_removed() {
        check("he'll'o", "hello");
        check(r"he\'llo", "he'llo");
        check(r#""a\tb\"c\\""#, r#"a\tb"c\"#);
        check(r"'a\b'", r"a\b");
        check(r"end\", "end");
        check("한'국'어", "한국어");
    }

    #[test]
    fn an_open_quote_is_an_error() {
        let expected = "error: unexpected end of statement while looking for matching ";
        check("he'llo", &format!("{expected}single-quote"));
        check(r#""a\""#, &format!("{expected}double-quote"));
        let error = Expander::new('\\').expand("\"a", &variables()).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"failed to process "\"a": unexpected end of statement while looking for matching double-quote"#
        );
    }

    #[test]
    fn a_dollar_takes_the_longest_name() {
        check("$FOO-bar ${FOO}bar $FOObar.", "foo-bar foobar .");
        check("$1x$12x$@x$$", "xxx");
        check("$. $ ${UTF}é $é|", "$. $ hééé |");
        check("'$FOO' \"$FOO\" \\$FOO", "$FOO foo $FOO");
    }

    #[test]
    fn a_default_with_colon_also_replaces_the_empty_value() {
        check("${UNSET:-x}${EMPTY:-y}${EMPTY-z}${FOO:-w}", "xyfoo");
        check("${UNSET:+x}${EMPTY:+y}${EMPTY+z}${FOO:+w}", "zw");
        check("${UNSET:-${EMPTY:-\"}\"}}", "}");
    }

    #[test]
    fn a_required_variable_names_itself() {
        check("${UNSET?}", "error: UNSET: is not allowed to be unset");
        check("${EMPTY:?}", "error: EMPTY: is not allowed to be empty");
        check("${UNSET:?give $FOO}", "error: UNSET: give foo");
        check("${EMPTY?}${FOO:?}", "foo");
    }

    #[test]
    fn patterns_cut_the_shortest_or_the_longest_match() {
        check("${FILE#*/} ${FILE##*/}", "a/b/c.tar.gz c.tar.gz");
        check("${FILE%.*} ${FILE%%.*}", "/a/b/c.tar /a/b/c");
        check("${FOO#[f]}", "foo");
        check(r"${STARS#x\*} ${STARS%%\**}", "xx x");
        check("${UTF#h?}", "é");
        check("${FOO##*} ${FOO#*}", " foo");
    }

    #[test]
    fn a_wildcard_stops_at_the_end_of_a_line() {
        check("${LINES##*o}", "ne\ntwo");
        check("${LINES//?/x}", "xxx\nxxx");
    }

    #[test]
    fn replacements_are_greedy_and_never_anchored() {
        check("${FOO/o/0} ${FOO//o/0}", "f0o f00");
        check("${FOO/#f/x} ${FOO//*/y} ${EMPTY//*/y}", "foo y y");
        check("${FOO///-}", "-f-o-o-");
        check(r"${FILE//\//_}", "_a_b_c.tar.gz");
        check("${UNSET/x/y}", "");
    }

    #[test]
    fn a_global_replacement_is_a_template_as_in_go() {
        check(r"${FOO//o/[\$0]}", r"f[\o][\o]");
        check(r"${FOO//o/[\$1\$x\$.]}", r"f[\\\$.][\\\$.]");
        check(r"${FOO/o/[\$0]}", r"f[\$0]o");
    }

    #[test]
    fn what_is_not_in_the_language_is_refused() {
        check("${}", "error: syntax error: bad substitution");
        check("${:-x}", "error: syntax error: bad substitution");
        check("${FOO", "error: unsupported modifier (\u{fffd}) in substitution");
        check("${FOO:-x", "error: syntax error: missing '}'");
        check("${FOO/x}", "error: syntax error: missing '/' in ${}");
        check("${FOO:=x}", "error: unsupported modifier (:=) in substitution");
        check("${FOO:#x}", "error: unsupported modifier (:#) in substitution");
        check("${FOO^}", "error: unsupported modifier (^) in substitution");
        check(r"${FOO#\f}", r"error: invalid pattern (\f) in substitution: invalid escape '\f'");
    }

    #[test]
    fn words_are_split_after_expansion_and_not_within_quotes() {
        check_words("$SP", &["a", "b"]);
        check_words("x$SP\"$SP\" y", &["xa", "ba  b", "y"]);
        check_words(r"a\ b '' c", &["a b", "c"]);
        check_words("$Q", &["\"q\""]);
        check_words("a << b", &["a", "<< b"]);
    }

    #[test]
    fn a_nested_word_drops_what_stands_before_it() {
        check_words("8${N:-0}", &["0"]);
        check_words("7 8${N:-0}9", &["7", "09"]);
        check_words("8$FOO", &["8foo"]);
        check("8${N:-0}", "80");
    }

    #[test]
    fn matched_and_unmatched_names_are_told_apart() {
        let expansion =
            Expander::new('\\').expand("$FOO ${A:-$B} ${FOO#$SP}", &variables()).unwrap();
        assert_eq!(expansion.matched.iter().collect::<Vec<_>>(), ["FOO", "SP"]);
        assert_eq!(expansion.unmatched.iter().collect::<Vec<_>>(), ["A", "B"]);
    }

    #[test]
    fn the_way_a_word_is_read_can_be_changed() {
        let new = Expander::new('\\');
        check_with(Expander::new('`'), r"a`b \$FOO", r"ab \foo");
        check_with(Expander { keeps_escapes: true, ..new }, r"a\b \$FOO", r"a\b \$FOO");
        check_with(Expander { quotes: Quotes::Kept, ..new }, r#""a" '$FOO'"#, r#""a" '$FOO'"#);
        check_with(Expander { quotes: Quotes::Ignored, ..new }, "it's '$FOO'", "it's 'foo'");
        check_with(
            Expander { keeps_unset: true, ..new },
            "$A ${A} ${A:-x} ${A/b/c} $FOO",
            "$A ${A} ${A:-x} ${A/b/c} foo",
        );
    }

    #[test]
    fn hostile_input_has_an_end() {
        let deep = "${a:-".repeat(20_000);
        check(&deep, "error: substitutions are nested more than 100 deep");
        let long: BTreeMap<_, _> = [("A".to_owned(), "x".repeat(MAX_EXPANSION))].into();
        for word in ["$A$A", "${A//?/$A}", "\"$A$A\"", "${A/x/$A}", "${B:-$A$A}"] {
            let error = Expander::new('\\').expand(word, &long).unwrap_err();
            assert_eq!(error.reason, ExpandErrorReason::TooLong, "{word}");
        }
        for pattern in ["${A#", "${A%%", "${A/"] {
            let word = format!("{pattern}{}/}}", "*x".repeat(1000));
            let error = Expander::new('\\').expand(&word, &long).unwrap_err();
            assert_eq!(error.reason, ExpandErrorReason::TooSlow, "{word}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(word in "[$a{}:/#%?*+' \"\\\\<é-]{0,40}") {
            for quotes in [Quotes::Removed, Quotes::Kept, Quotes::Ignored] {
                let expander = Expander { quotes, ..Expander::new('\\') };
                drop(expander.expand(&word, &BTreeMap::from([("a".into(), "b c".into())])));
            }
        }
    }
}
