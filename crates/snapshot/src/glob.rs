//! Path patterns.

/// One path or pattern. `*` and `?` stop at `/`; `**` between slashes stands for any number of directories, none included;
/// `[a-z]` and `[!a-z]` for one byte; `{a,b}` for one of several patterns; `\` makes the next byte an ordinary one.
///
/// Matching takes no longer than the product of the lengths of path and pattern, whatever the two are.
#[derive(Debug, Clone)]
pub(crate) enum Glob {
    /// Nothing in it is special.
    Literal(Box<[u8]>),
    /// A state machine that may be in several states at once. It begins in the first state.
    Pattern(Vec<State>),
}

#[derive(Debug, Clone)]
pub(crate) enum State {
    /// Consumes one byte of this kind and goes on with the next state.
    One(Kind),
    /// Consumes nothing and is in all of these states at once.
    Fork(Vec<usize>),
    /// The path must end here.
    End,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Exactly(u8),
    NoSlash,
    Any,
    Class { is_negated: bool, ranges: Vec<(u8, u8)> },
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum PatternError {
    #[error("a `[` is never closed")]
    OpenClass,
    #[error("a range in `[…]` ends before it begins")]
    BackwardRange,
    #[error("`[…]` can hold ASCII characters only")]
    NotAscii,
    #[error("a `{{` is never closed")]
    OpenAlternatives,
    #[error("a `}}` closes nothing")]
    ClosedTooOften,
    #[error("nothing follows the last `\\`")]
    DanglingEscape,
}

impl Glob {
    pub(crate) fn parse(pattern: &str) -> Result<Self, PatternError> {
        let text = pattern.as_bytes();
        if !text.iter().any(|byte| b"*?[]{}\\".contains(byte)) {
            return Ok(Self::Literal(text.into()));
        }
        let mut parser = Parser { text, at: 0, depth: 0, states: Vec::new() };
        parser.sequence()?;
        if parser.at < text.len() {
            return Err(PatternError::ClosedTooOften);
        }
        parser.states.push(State::End);
        Ok(Self::Pattern(parser.states))
    }

    /// Whether the whole path matches.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        let states = match self {
            Self::Literal(literal) => return **literal == *path,
            Self::Pattern(states) => states,
        };
        let mut now = Active::new(states.len());
        let mut next = Active::new(states.len());
        now.add(states, 0);
        for &byte in path {
            for &at in &now.list {
                if let Some(State::One(kind)) = states.get(at)
                    && kind.takes(byte)
                {
                    next.add(states, at + 1);
                }
            }
            std::mem::swap(&mut now, &mut next);
            next.clear();
            if now.list.is_empty() {
                return false;
            }
        }
        now.list.iter().any(|&at| matches!(states.get(at), Some(State::End)))
    }
}

impl Kind {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Exactly(expected) => byte == *expected,
            Self::NoSlash => byte != b'/',
            Self::Any => true,
            Self::Class { is_negated, ranges } => {
                let is_in = ranges.iter().any(|&(first, last)| (first..=last).contains(&byte));
                byte != b'/' && is_in != *is_negated
            }
        }
    }
}

/// The states in which the machine is, each once.
struct Active {
    list: Vec<usize>,
    is_in: Vec<bool>,
}

impl Active {
    fn new(count: usize) -> Self {
        Self { list: Vec::new(), is_in: vec![false; count] }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.is_in.fill(false);
    }

    fn add(&mut self, states: &[State], first: usize) {
        let mut waiting = vec![first];
        while let Some(at) = waiting.pop() {
            if self.is_in.get(at) != Some(&false) {
                continue;
            }
            self.is_in[at] = true;
            match &states[at] {
                State::Fork(to) => waiting.extend(to),
                State::One(_) | State::End => self.list.push(at),
            }
        }
    }
}

struct Parser<'t> {
    text: &'t [u8],
    at: usize,
    /// How many `{` are open.
    depth: usize,
    states: Vec<State>,
}

impl Parser<'_> {
    /// Reads to the end, or to a `,` or `}` that belongs to what is around.
    fn sequence(&mut self) -> Result<(), PatternError> {
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'}' => break,
                b',' if self.depth > 0 => break,
                _ => self.at += 1,
            }
            match byte {
                b'*' => self.star(),
                b'?' => self.one(Kind::NoSlash),
                b'[' => self.class()?,
                b'{' => self.alternatives()?,
                b'\\' => {
                    let byte = *self.text.get(self.at).ok_or(PatternError::DanglingEscape)?;
                    self.at += 1;
                    self.one(Kind::Exactly(byte));
                }
                other => self.one(Kind::Exactly(other)),
            }
        }
        Ok(())
    }

    fn one(&mut self, kind: Kind) {
        self.states.push(State::One(kind));
    }

    /// Any number of bytes of a kind.
    fn many(&mut self, kind: Kind) {
        let at = self.states.len();
        self.states.push(State::Fork(vec![at + 1, at + 3]));
        self.one(kind);
        self.states.push(State::Fork(vec![at]));
    }

    fn star(&mut self) {
        let before = self.text.get(..self.at - 1).and_then(<[u8]>::last);
        let is_double = self.text.get(self.at) == Some(&b'*');
        let after = self.text.get(self.at + 1);
        if !is_double
            || before.is_some_and(|byte| *byte != b'/')
            || after.is_some_and(|byte| *byte != b'/')
        {
            return self.many(Kind::NoSlash);
        }
        self.at += 1;
        if after.is_none() {
            // Everything in the directory before it, which does not match itself.
            return self.many(Kind::Any);
        }
        // Either nothing or `…/`.
        self.at += 1;
        let fork = self.states.len();
        self.states.push(State::End);
        self.many(Kind::Any);
        self.one(Kind::Exactly(b'/'));
        self.states[fork] = State::Fork(vec![fork + 1, self.states.len()]);
    }

    fn class(&mut self) -> Result<(), PatternError> {
        let is_negated = matches!(self.text.get(self.at), Some(b'!' | b'^'));
        self.at += usize::from(is_negated);
        let mut ranges = Vec::new();
        loop {
            let first = *self.text.get(self.at).ok_or(PatternError::OpenClass)?;
            self.at += 1;
            // One that comes first is a member.
            if first == b']' && !ranges.is_empty() {
                break;
            }
            let last = match self.text.get(self.at..self.at + 2) {
                Some(&[b'-', last]) if last != b']' => {
                    self.at += 2;
                    last
                }
                _ => first,
            };
            if !first.is_ascii() || !last.is_ascii() {
                return Err(PatternError::NotAscii);
            }
            if last < first {
                return Err(PatternError::BackwardRange);
            }
            ranges.push((first, last));
        }
        self.one(Kind::Class { is_negated, ranges });
        Ok(())
    }

    fn alternatives(&mut self) -> Result<(), PatternError> {
        self.depth += 1;
        let fork = self.states.len();
        self.states.push(State::End);
        let (mut beginnings, mut ends) = (Vec::new(), Vec::new());
        loop {
            beginnings.push(self.states.len());
            self.sequence()?;
            ends.push(self.states.len());
            self.states.push(State::End);
            let byte = *self.text.get(self.at).ok_or(PatternError::OpenAlternatives)?;
            self.at += 1;
            if byte == b'}' {
                break;
            }
        }
        self.depth -= 1;
        let after = self.states.len();
        self.states[fork] = State::Fork(beginnings);
        for end in ends {
            self.states[end] = State::Fork(vec![after]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// globset is the judge of what is a pattern and what it matches.
    #[test]
    fn patterns_mean_what_they_mean_to_globset() {
        let patterns = [
            "a",
            "*",
            "?",
            "**",
            "a*",
            "*a",
            "a?b",
            "**/a",
            "a/**",
            "a/**/b",
            "**/*.c",
            "*/*",
            "a**b",
            "a/**b",
            "**a/b",
            "[ab]",
            "[a-c]x",
            "[!a]",
            "[^a-b]b",
            "[]a]",
            "[a-]",
            "[-a]",
            "a[b/]c",
            "{a,b}",
            "{a,b*}/c",
            "x{,y}z",
            "{a,{b,c}d}",
            "a,b",
            "\\*",
            "a\\[b",
            "{a/b,c}",
            "*.{c,h}",
            "a/*/c",
            "**/a/**",
            "a/b",
            "[",
            "a{b",
            "a}",
            "a\\",
            "[b-a]",
            "[]",
        ];
        let paths = [
            "a", "b", "c", "ab", "ba", "abc", "axb", "a/b", "a/b/c", "b/a", "x/y/a", "a/x/y/b",
            "a/x/y/c", "x.c", "d/x.c", "d/e/x.h", "bx", "cx", "dx", "xz", "xyz", "bd", "cd", "a,b",
            "*", "a[b", "]", "-", "a/", "a/a/a", "a/b/a/b", "aab", "b/c", "bb/c", "ac", "bb", "cb",
            "\u{e4}", "a\u{e4}b", "x.h",
        ];
        for pattern in patterns {
            let theirs = globset::GlobBuilder::new(pattern)
                .literal_separator(true)
                .backslash_escape(true)
                .empty_alternates(true)
                .build()
                .ok()
                .map(|glob| glob.compile_matcher());
            let ours = Glob::parse(pattern).ok();
            assert_eq!(ours.is_some(), theirs.is_some(), "is `{pattern}` a pattern?");
            let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
            for path in paths {
                let (ours, theirs) = (ours.matches(path.as_bytes()), theirs.is_match(path));
                assert_eq!(ours, theirs, "`{pattern}` on `{path}`");
            }
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_few() {
        let glob = Glob::parse(&"*a".repeat(60)).unwrap();
        assert!(!glob.matches("a".repeat(59).as_bytes()));
        assert!(glob.matches("a".repeat(300).as_bytes()));
        assert!(!glob.matches(("a".repeat(3000) + "b").as_bytes()));
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_said() {
        for (pattern, expected) in [
            ("a[b", "a `[` is never closed"),
            ("[b-a]", "a range in `[…]` ends before it begins"),
            ("[ä]", "`[…]` can hold ASCII characters only"),
            ("a{b", "a `{` is never closed"),
            ("{a,{b}", "a `{` is never closed"),
            ("a}", "a `}` closes nothing"),
            ("a\\", "nothing follows the last `\\`"),
        ] {
            assert_eq!(Glob::parse(pattern).unwrap_err().to_string(), expected, "{pattern}");
        }
    }
}
