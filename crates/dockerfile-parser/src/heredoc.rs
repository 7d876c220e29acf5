//! Finds the operators of here-documents in a line.
//!
//! The line is divided into words by the rules of word expansion, with nothing to expand; each word is then looked at
//! on its own. So `<<` counts where it begins a word, and not in quotes, in arithmetic, or behind other text.

/// How deep `${a:-${b:-…}}` may nest. BuildKit has no limit, and a stack that grows; nobody writes three.
const DEEPEST: u32 = 100;

/// What an operator says about the body that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    /// The line that ends the body.
    pub(crate) name: String,
    /// Whether the body is to be expanded: nothing in the name is quoted.
    pub(crate) expand: bool,
    /// Whether leading tabs go.
    pub(crate) chomp: bool,
    pub(crate) file_descriptor: u64,
    /// Where in the line the operator begins.
    pub(crate) at: usize,
}

/// The operators in `line`, in order. None if the line cannot be divided, which is no error: a `RUN` may hold any text.
pub(crate) fn operators(line: &str) -> Result<Vec<Operator>, TooDeep> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let words = match Lexer::new(line, true, true).words() {
        Ok(words) => words,
        Err(LexError::Unfinished) => return Ok(Vec::new()),
        Err(LexError::TooDeep) => return Err(TooDeep),
    };
    let operator = |(word, at): (String, usize)| Some(Operator { at, ..operator(&word)? });
    Ok(words.into_iter().filter_map(operator).collect())
}

/// A line nests substitutions deeper than this parser follows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooDeep;

/// The operator that `word` is, if it is one.
pub(crate) fn operator(word: &str) -> Option<Operator> {
    let (number, rest) = word.split_at(word.find("<<")?);
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let rest = &rest[2..];
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let [(name, _)] = &Lexer::new(rest, false, false).words().ok()?[..] else { return None };
    let [(raw, _)] = &Lexer::new(rest, true, false).words().ok()?[..] else { return None };
    let quotes = |word: &str| word.matches(['\'', '"']).count();
    Some(Operator {
        name: name.clone(),
        expand: quotes(name) == quotes(raw),
        chomp,
        file_descriptor: if number.is_empty() { 0 } else { number.parse().unwrap_or(u64::MAX) },
        at: 0,
    })
}

enum LexError {
    /// A quote or a brace is never closed, or a substitution is none that the language knows.
    Unfinished,
    TooDeep,
}

type Words = Vec<(String, usize)>;

/// Word expansion in an empty environment, where unset variables stay as they are written.
///
/// Always with `\` as the escape character, whatever the file says: BuildKit does not ask.
struct Lexer<'a> {
    line: &'a str,
    at: usize,
    keep_quotes: bool,
    keep_escapes: bool,
    depth: u32,
}

/// Words that are being collected.
#[derive(Default)]
struct Collector {
    words: Words,
    word: String,
    start: Option<usize>,
}

impl Collector {
    fn add(&mut self, c: char, at: usize) {
        if !c.is_whitespace() {
            self.add_raw(c.encode_utf8(&mut [0; 4]), at);
        } else if !self.word.is_empty() {
            self.end();
        }
    }

    fn add_raw(&mut self, string: &str, at: usize) {
        self.start.get_or_insert(at);
        self.word.push_str(string);
    }

    fn end(&mut self) {
        let start = self.start.take().unwrap_or_default();
        if !self.word.is_empty() {
            self.words.push((std::mem::take(&mut self.word), start));
        }
    }
}

impl<'a> Lexer<'a> {
    fn new(line: &'a str, keep_quotes: bool, keep_escapes: bool) -> Self {
        Self { line, at: 0, keep_quotes, keep_escapes, depth: 0 }
    }

    fn peek(&self) -> Option<char> {
        self.line[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn words(mut self) -> Result<Words, LexError> {
        let mut collector = Collector::default();
        let keep_escapes = self.keep_escapes;
        self.until(None, keep_escapes, Some(&mut collector))?;
        collector.end();
        Ok(collector.words)
    }

    /// Reads up to `stop`, or to the end of the line where there is none; gives the text, undivided.
    fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
        mut collector: Option<&mut Collector>,
    ) -> Result<String, LexError> {
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let mut result = String::new();
        loop {
            let at = self.at;
            let Some(c) = self.peek() else { break };
            if Some(c) == stop {
                self.next();
                self.keep_escapes = outer;
                return Ok(result);
            }
            let mut raw = true;
            let piece = match c {
                '\'' => self.single_quoted()?,
                '"' => self.double_quoted()?,
                '<' => self.operator(),
                '$' => {
                    raw = false;
                    self.dollar()?
                }
                '\\' => {
                    self.next();
                    let mut piece = String::new();
                    if keep_escapes {
                        piece.push('\\');
                    }
                    piece.extend(self.next());
                    piece
                }
                c => {
                    self.next();
                    raw = false;
                    c.to_string()
                }
            };
            result.push_str(&piece);
            if let Some(collector) = collector.as_deref_mut() {
                if raw {
                    collector.add_raw(&piece, at);
                } else {
                    piece.chars().for_each(|c| collector.add(c, at));
                }
            }
        }
        self.keep_escapes = outer;
        if stop.is_some() { Err(LexError::Unfinished) } else { Ok(result) }
    }

    /// `<<` and the blanks behind it, which belong to the word; or one `<`.
    fn operator(&mut self) -> String {
        let rest = &self.line[self.at..];
        let length = match rest.strip_prefix("<<") {
            Some(behind) => rest.len() - behind.trim_start_matches(['\t', ' ']).len(),
            None => 1,
        };
        self.at += length;
        rest[..length].to_owned()
    }

    fn single_quoted(&mut self) -> Result<String, LexError> {
        let rest = &self.line[self.at..];
        let length = rest[1..].find('\'').ok_or(LexError::Unfinished)? + 2;
        self.at += length;
        Ok(if self.keep_quotes { &rest[..length] } else { &rest[1..length - 1] }.to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, LexError> {
        let mut result = String::new();
        result.extend(self.next().filter(|_| self.keep_quotes));
        loop {
            match self.peek().ok_or(LexError::Unfinished)? {
                '"' => {
                    result.extend(self.next().filter(|_| self.keep_quotes));
                    return Ok(result);
                }
                '$' => result.push_str(&self.dollar()?),
                '\\' => {
                    self.next();
                    if self.keep_escapes {
                        result.push('\\');
                    }
                    match self.peek() {
                        Some(c @ ('"' | '$' | '\\')) => {
                            self.next();
                            result.push(c);
                        }
                        Some(_) => result.push('\\'),
                        None => {}
                    }
                }
                c => {
                    self.next();
                    result.push(c);
                }
            }
        }
    }

    fn dollar(&mut self) -> Result<String, LexError> {
        self.next();
        if self.peek() != Some('{') {
            return Ok(format!("${}", self.name()));
        }
        self.next();
        if matches!(self.peek(), None | Some('{' | '}' | ':')) {
            return Err(LexError::Unfinished);
        }
        if self.depth == DEEPEST {
            return Err(LexError::TooDeep);
        }
        self.depth += 1;
        let name = self.name();
        let result = match self.next().ok_or(LexError::Unfinished)? {
            '}' => format!("${{{name}}}"),
            ':' => {
                let modifier = self.next().ok_or(LexError::Unfinished)?;
                let word = self.until(Some('}'), matches!(modifier, '#' | '%'), None)?;
                format!("${{{name}:{modifier}{word}}}")
            }
            modifier @ ('+' | '-' | '?' | '#' | '%') => {
                let word = self.until(Some('}'), matches!(modifier, '#' | '%'), None)?;
                format!("${{{name}{modifier}{word}}}")
            }
            '/' => {
                if self.peek() == Some('/') {
                    self.next();
                }
                let pattern = self.until(Some('/'), true, None)?;
                let replacement = self.until(Some('}'), true, None)?;
                format!("${{{name}/{pattern}/{replacement}}}")
            }
            _ => return Err(LexError::Unfinished),
        };
        self.depth -= 1;
        Ok(result)
    }

    /// A variable's name, digits, or one special character; may be empty.
    fn name(&mut self) -> String {
        let rest = &self.line[self.at..];
        let length = match rest.chars().next() {
            Some(c) if c.is_numeric() => rest.find(|c: char| !c.is_numeric()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Some(1),
            _ => rest.find(|c: char| !c.is_alphanumeric() && c != '_'),
        };
        let name = &rest[..length.unwrap_or(rest.len())];
        self.at += name.len();
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints operators as they are written, with `'` around names whose bodies are not expanded.
    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let print = |operator: Operator| {
            let number = Some(operator.file_descriptor).filter(|&number| number > 0);
            let quote = if operator.expand { "" } else { "'" };
            format!(
                "{}<<{}{quote}{}{quote}",
                number.map_or_else(String::new, |number| number.to_string()),
                if operator.chomp { "-" } else { "" },
                operator.name
            )
        };
        let actual: Vec<_> = operators(line).unwrap().into_iter().map(print).collect();
        assert_eq!(actual, expected, "in {line:?}");
    }

    #[test]
    fn an_operator_is_a_word_of_its_own() {
        check("RUN <<EOF", &["<<EOF"]);
        check("RUN <<-EOF", &["<<-EOF"]);
        check("RUN 4<<EOF", &["4<<EOF"]);
        check("RUN <<EOF <<EOF2", &["<<EOF", "<<EOF2"]);
        check("COPY --chmod=755 <<EOF <<-E2 /d/", &["<<EOF", "<<-E2"]);
        check("RUN a && <<A b && <<B c", &["<<A", "<<B"]);
        check("RUN cat <<EOF|tr a b", &["<<EOF|tr"]);
        check("RUN <<EOF>x", &["<<EOF>x"]);
        for line in [
            "RUN x<<1",
            "RUN cat<<EOF",
            "RUN $((1<<2))",
            "RUN -1<<EOF",
            "RUN <<<EOF",
            "RUN <<",
            "RUN <<-",
        ] {
            check(line, &[]);
        }
    }

    #[test]
    fn blanks_may_follow_the_operator() {
        check("RUN <<  EOF  > foo", &["<<EOF"]);
        check("RUN << -EOF", &["<<-EOF"]);
        check("RUN <<- EOF", &[]);
        // A shift in arithmetic is an operator too if it is spaced so.
        check("RUN echo $((1 <<2))", &["<<2))"]);
    }

    #[test]
    fn a_quoted_name_stops_expansion() {
        check("RUN <<'EOF'", &["<<'EOF'"]);
        check("RUN <<eo'f'", &["<<'eof'"]);
        check("RUN <<E\"O\"F", &["<<'EOF'"]);
        check("RUN <<'one two'", &["<<'one two'"]);
        check("RUN <<'e'o\\'f", &["<<'eo'f'"]);
        check("RUN <<eo\\'f", &["<<eo'f"]);
        check("RUN <<\\EOF", &["<<EOF"]);
    }

    #[test]
    fn quoted_operators_are_none() {
        check("RUN '<<EOF'", &[]);
        check("RUN \"<<EOF\"", &[]);
        check("RUN << '' x", &[]);
    }

    #[test]
    fn variables_in_a_name_stay() {
        check("RUN <<$EOF", &["<<$EOF"]);
        check("RUN <<${A:-b}", &["<<${A:-b}"]);
    }

    #[test]
    fn a_line_that_cannot_be_divided_has_no_operators() {
        for line in
            ["RUN <<'EOF", "RUN it's <<EOF", "RUN ${x <<EOF", "RUN ${#x} <<EOF", "RUN ${} <<EOF"]
        {
            check(line, &[]);
        }
    }

    #[test]
    fn deep_nesting_is_refused_instead_of_exhausting_the_stack() {
        let nested =
            |depth: usize| format!("RUN <<E {}{}", "${a-".repeat(depth), "}".repeat(depth));
        assert_eq!(operators(&nested(100)).map(|found| found.len()), Ok(1));
        assert_eq!(operators(&nested(1_000_000)), Err(TooDeep));
    }
}
