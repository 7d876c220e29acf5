//! The list of submodules, `.gitmodules`.

use std::collections::BTreeMap;

/// One submodule of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Submodule {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) url: String,
    /// Whether its own `update = none` says that it is not wanted.
    pub(crate) is_skipped: bool,
}

/// Reads the list, which is written in the language of git's configuration. Lines that are not
/// understood are passed over.
pub(crate) fn parse(text: &str) -> Vec<Submodule> {
    let mut modules: BTreeMap<String, Submodule> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in logical_lines(text) {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            current = section(header);
            continue;
        }
        let Some(name) = &current else { continue };
        let Some((key, raw)) = line.split_once('=') else { continue };
        let module = modules
            .entry(name.clone())
            .or_insert_with(|| Submodule { name: name.clone(), ..Submodule::default() });
        let value = value(raw);
        match key.trim().to_ascii_lowercase().as_str() {
            "path" => value.trim_end_matches('/').clone_into(&mut module.path),
            "url" => module.url = value,
            "update" => module.is_skipped = value == "none",
            _ => {}
        }
    }
    modules.into_values().collect()
}

/// A backslash at a line's end continues it.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(start) if !start.ends_with('\\') => open.push_str(start),
            _ => {
                open.push_str(line);
                lines.push(std::mem::take(&mut open));
            }
        }
    }
    lines
}

/// The name in `submodule "NAME"]`.
fn section(header: &str) -> Option<String> {
    let (kind, rest) = header.split_once('"')?;
    if !kind.trim().eq_ignore_ascii_case("submodule") {
        return None;
    }
    let mut name = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(name),
            '\\' => name.push(chars.next()?),
            char => name.push(char),
        }
    }
}

/// A value without quotes, escapes and comment.
fn value(raw: &str) -> String {
    let mut value = String::new();
    let mut is_quoted = false;
    let mut end = 0;
    let mut chars = raw.trim_start().chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => is_quoted = !is_quoted,
            '#' | ';' if !is_quoted => break,
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(other) => value.push(other),
                None => {}
            },
            char => value.push(char),
        }
        if is_quoted || !char.is_whitespace() {
            end = value.len();
        }
    }
    value.truncate(end);
    value
}

/// Whether a submodule may be called `name`: it becomes a path below `.git/modules`.
pub(crate) fn is_safe_name(name: &str) -> bool {
    !name.is_empty()
        && !name.chars().any(char::is_control)
        && !name.split(['/', '\\']).any(|part| matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = |module: &Submodule| {
            let skipped = if module.is_skipped { " skipped" } else { "" };
            format!("{}: {} from {}{skipped}", module.name, module.path, module.url)
        };
        let actual = parse(text).iter().map(shown).collect::<Vec<_>>().join("\n");
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn sections_with_names_are_submodules() {
        check(
            "[submodule \"b\"]\n\tpath = lib/b/\n\turl = ../b.git\n[core]\n path = x\n\
             [Submodule \"a \\\"q\"]\nPATH=a\nURL = \"https://h/a;b\" ; note\nupdate = none\n",
            "a \"q: a from https://h/a;b skipped\nb: lib/b from ../b.git",
        );
    }

    #[test]
    fn comments_continued_lines_and_nonsense_are_read_as_git_does() {
        check(
            "# c\n[submodule \"a\"]\npath = a # x\nurl = ht\\\ntps://h\nx\n[",
            "a: a from https://h",
        );
        check("[submodule \"a\npath = a\n", "");
        check("path = a\n", "");
    }

    #[test]
    fn names_that_climb_are_not_safe() {
        for name in ["", "..", "../x", "a/../../x", "a\\..\\b", "/a", "a/"] {
            assert!(!is_safe_name(name), "{name}");
        }
        assert!(is_safe_name("lib/a.b"));
    }
}
