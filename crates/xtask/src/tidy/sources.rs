//! Rules for sources that neither the compiler nor clippy has.

use std::path::Path;

use super::{Problem, files, read};

/// Longer files hold more than one idea.
const LINE_LIMIT: usize = 900;

/// Types that change behind a shared reference. `LazyLock` is not among them: what it makes is the same every time.
const MUTABLE: [&str; 8] =
    ["Mutex", "RwLock", "Cell<", "Atomic", "OnceLock", "OnceCell", "Once", "mpsc"];

/// Written with a reason in the line above a static that must be: a signal handler has no other way to say something.
const ALLOWED: &str = "// process-wide because ";

pub(super) fn check(root: &Path, problems: &mut Vec<Problem>) -> anyhow::Result<()> {
    for path in files(root, &["rs", "md", "toml"])? {
        let text = read(root, &path)?;
        let place = path.display().to_string();
        let lines = text.lines().count();
        if lines > LINE_LIMIT {
            problems.push(Problem::new(
                &place,
                format!("has {lines} lines; split it where its ideas part ({LINE_LIMIT})"),
            ));
        }
        if path.extension().is_some_and(|extension| extension == "rs") && path.starts_with("crates")
        {
            find_statics(&place, &text, problems);
        }
        if path.extension().is_some_and(|extension| extension == "rs") {
            find_ignored_tests(&place, &text, problems);
        }
    }
    Ok(())
}

fn find_statics(place: &str, text: &str, problems: &mut Vec<Problem>) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (index, line) in lines.iter().enumerate() {
        if line.starts_with("thread_local!") && !is_allowed(&lines, index) {
            problems.push(Problem::new(
                format!("{place}:{}", index + 1),
                "state of a thread; pass a value instead",
            ));
        }
        let Some(declared) = static_declaration(line) else { continue };
        // The type may go on in the next lines; it ends where the value or the item does.
        let rest = lines[index + 1..].iter().take_while(|_| !line.contains(['=', ';'])).take(3);
        let whole: String = std::iter::once(&declared).chain(rest).copied().collect();
        let type_text = whole.split(['=', ';']).next().unwrap_or_default();
        let is_mutable =
            declared.starts_with("mut ") || MUTABLE.iter().any(|name| type_text.contains(name));
        if is_mutable && !is_allowed(&lines, index) {
            let message = format!(
                "process-wide mutable state; pass a value, or say `{ALLOWED}…` in the line above"
            );
            problems.push(Problem::new(format!("{place}:{}", index + 1), message));
        }
    }
}

/// What follows `static ` in a line that declares one.
fn static_declaration(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => line,
    };
    line.strip_prefix("static ")
}

/// Whether the comment directly above gives the reason.
fn is_allowed(lines: &[&str], index: usize) -> bool {
    lines[..index]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("//"))
        .any(|line| line.starts_with(ALLOWED))
}

fn find_ignored_tests(place: &str, text: &str, problems: &mut Vec<Problem>) {
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("#[ignore") {
            problems.push(Problem::new(
                format!("{place}:{}", index + 1),
                "an ignored test; mend it or remove it",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_statics(text: &str, lines: &[usize]) {
        let mut problems = Vec::new();
        find_statics("f.rs", text, &mut problems);
        let found: Vec<String> = problems.into_iter().map(|problem| problem.place).collect();
        let expected: Vec<String> = lines.iter().map(|line| format!("f.rs:{line}")).collect();
        assert_eq!(found, expected, "in {text}");
    }

    #[test]
    fn mutable_statics_are_found_and_constant_ones_are_not() {
        check_statics("static mut X: u8 = 0;", &[1]);
        check_statics(
            "const A: u8 = 1;\n    pub(crate) static X: Mutex<u8> = Mutex::new(0);",
            &[2],
        );
        check_statics("pub static SEEN: AtomicBool = AtomicBool::new(false);", &[1]);
        check_statics("static LONG:\n    std::sync::OnceLock<u8> =\n    OnceLock::new();", &[1]);
        check_statics("static NAMES: [&str; 1] = [\"Mutex\"];", &[]);
        check_statics("static TABLE: LazyLock<Vec<u8>> = LazyLock::new(Vec::new);", &[]);
        check_statics("fn f(x: &'static Mutex<u8>) {}", &[]);
        check_statics("thread_local! {", &[1]);
    }

    #[test]
    fn a_reason_allows_one() {
        check_statics(
            "// process-wide because a handler gets no argument.\nstatic X: AtomicI32 = AtomicI32::new(0);",
            &[],
        );
        check_statics(
            "// process-wide because of that.\n// More.\nstatic X: AtomicI32 = AtomicI32::new(0);",
            &[],
        );
        check_statics("// shared\nstatic X: AtomicI32 = AtomicI32::new(0);", &[2]);
    }
}
