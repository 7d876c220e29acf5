//! `--chmod`: what it makes of a mode.

use std::fmt;

/// A change of file modes, from an octal number or from symbols such as `u+x,go-w`.
///
/// It is read with [`str::parse`]; its `Display` form is the text that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// The mode of everything, at most 07777.
    Octal(u32),
    /// BSD's `setmode` with an umask of 0.
    Symbolic(SymbolicMode),
}

/// A change in symbols, such as `u+x,go-w`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicMode {
    text: String,
    operations: Vec<Operation>,
}

/// A text that is no `--chmod`. The messages are BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// It begins like a number and is none that a mode can be.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Number(String),
    /// It is not in the language of `chmod`.
    #[error("invalid syntax")]
    Symbols,
}

/// One step of a symbolic change. Bits are those of a mode, 07777.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Set(u32),
    Clear(u32),
    /// `X`: sets the bits of a directory, and of a file that anybody could execute before the change.
    SetIfExecutable(u32),
    /// `g=u`: the permissions of one class, shifted to the classes whose bits are in `to`.
    Copy {
        from: Class,
        to: u32,
        operator: Operator,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    User,
    Group,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Assign,
}

const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const OTHER: u32 = 0o007;
const EXECUTE: u32 = 0o111;
/// What a change is about that names nobody; the sticky bit is only meant by its own letter.
const EVERYBODY: u32 = 0o6777;

impl ModeChange {
    /// The mode of a file or directory that had `mode`; the result has no more than the bits 07777.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(symbolic) => symbolic.apply(mode & 0o7777, is_directory),
        }
    }
}

impl std::str::FromStr for ModeChange {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|&mode| mode <= 0o7777);
            return mode.map(Self::Octal).ok_or_else(|| ModeError::Number(text.to_owned()));
        }
        let operations = operations(text).ok_or(ModeError::Symbols)?;
        Ok(Self::Symbolic(SymbolicMode { text: text.to_owned(), operations }))
    }
}

impl fmt::Display for ModeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octal(mode) => write!(f, "{mode:04o}"),
            Self::Symbolic(symbolic) => f.write_str(&symbolic.text),
        }
    }
}

impl SymbolicMode {
    fn apply(&self, before: u32, is_directory: bool) -> u32 {
        let is_executable = is_directory || before & EXECUTE != 0;
        self.operations.iter().fold(before, |mode, operation| match *operation {
            Operation::Set(bits) => mode | bits,
            Operation::Clear(bits) => mode & !bits,
            Operation::SetIfExecutable(bits) if is_executable => mode | bits,
            Operation::SetIfExecutable(_) => mode,
            Operation::Copy { from, to, operator } => {
                let permissions = (mode >> from.shift()) & OTHER;
                // The same three bits for each class, cut down to those that are meant.
                let bits = (permissions * 0o111) & to;
                match operator {
                    Operator::Add => mode | bits,
                    Operator::Remove => mode & !bits,
                    Operator::Assign => (mode & !to) | bits,
                }
            }
        })
    }
}

impl Class {
    fn shift(self) -> u32 {
        match self {
            Self::User => 6,
            Self::Group => 3,
            Self::Other => 0,
        }
    }
}

/// Reads `who operator permissions…, …`. The grammar is that of BSD's `setmode`, which allows `=` without anything,
/// several operators behind one "who", and copies such as `g=u`.
fn operations(text: &str) -> Option<Vec<Operation>> {
    text.split(',').try_fold(Vec::new(), |mut all, clause| {
        let start = clause.find(|c| !"augo".contains(c))?;
        let (who, mut rest) = clause.split_at(start);
        let who = who.chars().fold(0, |who, c| {
            who | match c {
                'a' => EVERYBODY,
                'u' => 0o4700,
                'g' => 0o2070,
                _ => OTHER,
            }
        });
        while let Some(c) = rest.chars().next() {
            let operator = match c {
                '+' => Operator::Add,
                '-' => Operator::Remove,
                '=' => Operator::Assign,
                _ => return None,
            };
            let behind = &rest[1..];
            let end = behind.find(|c| !"rwxXstugo".contains(c)).unwrap_or(behind.len());
            add_operations(&mut all, who, operator, &behind[..end]);
            rest = &behind[end..];
        }
        Some(all)
    })
}

/// Adds what `operator permissions` amounts to; `who` is 0 where nobody was named.
fn add_operations(all: &mut Vec<Operation>, who: u32, operator: Operator, permissions: &str) {
    let is_for_others_only = who != 0 && who & !OTHER == 0;
    let mut who_with_sticky = who;
    let (mut bits, mut bits_if_executable) = (0, 0);
    // `=` clears once, with the first of its operations.
    let mut has_assigned = false;
    for c in permissions.chars() {
        match c {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'X' if operator != Operator::Remove => bits_if_executable |= EXECUTE,
            'x' | 'X' => bits |= EXECUTE,
            's' if !is_for_others_only => bits |= SET_ID,
            't' if !is_for_others_only => {
                who_with_sticky |= STICKY;
                bits |= STICKY;
            }
            's' | 't' => {}
            class => {
                if bits != 0 {
                    push(all, who_with_sticky, operator, bits);
                    bits = 0;
                }
                has_assigned = true;
                push_if_executable(all, who_with_sticky, bits_if_executable);
                bits_if_executable = 0;
                let from = match class {
                    'u' => Class::User,
                    'g' => Class::Group,
                    _ => Class::Other,
                };
                let to = if who_with_sticky == 0 { 0o777 } else { who & 0o777 };
                all.push(Operation::Copy { from, to, operator });
            }
        }
    }
    if bits != 0 || operator == Operator::Assign && !has_assigned {
        push(all, who_with_sticky, operator, bits);
    }
    push_if_executable(all, who_with_sticky, bits_if_executable);
}

fn push(all: &mut Vec<Operation>, who: u32, operator: Operator, bits: u32) {
    let meant = if who == 0 { bits } else { who & bits };
    match operator {
        Operator::Add => all.push(Operation::Set(meant)),
        Operator::Remove => all.push(Operation::Clear(meant)),
        Operator::Assign => {
            let cleared = if who == 0 { EVERYBODY } else { who };
            all.extend([Operation::Clear(cleared), Operation::Set(meant)]);
        }
    }
}

fn push_if_executable(all: &mut Vec<Operation>, who: u32, bits: u32) {
    if bits != 0 {
        all.push(Operation::SetIfExecutable(if who == 0 { bits } else { who & bits }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, before: u32, expected: u32) {
        let change: ModeChange = text.parse().unwrap();
        let actual = change.apply(before, false);
        assert_eq!(actual, expected, "{text} of {before:04o} is {actual:04o}");
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(text.parse::<ModeChange>().unwrap_err().to_string(), expected, "{text:?}");
    }

    #[test]
    fn a_number_is_the_mode() {
        for (text, mode) in [("0", 0), ("644", 0o644), ("0755", 0o755), ("7777", 0o7777)] {
            check(text, 0o1234, mode);
        }
        for text in ["8", "64a", "10000", "0o755", "99999999999999999999"] {
            check_error(
                text,
                &format!(
                    "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
                ),
            );
        }
    }

    #[test]
    fn symbols_change_some_bits() {
        check("u+x,go-w", 0o666, 0o744);
        check("a=r", 0o6777, 0o444);
        check("=", 0o7777, 0o1000);
        check("o=", 0o777, 0o770);
        check("+s", 0o755, 0o6755);
        check("o+s", 0o755, 0o755);
        check("g-s", 0o6755, 0o4755);
        check("u+t", 0o755, 0o1755);
        check("o+t", 0o755, 0o755);
        check("u=rw-w+x", 0o000, 0o500);
        check("u+", 0o123, 0o123);
        // As in BSD, a sticky bit of nobody in particular leaves no room for other letters.
        check("+tr", 0o000, 0o1000);
    }

    #[test]
    fn permissions_of_one_class_are_copied_to_others() {
        check("go=u", 0o740, 0o777);
        check("g+o", 0o615, 0o655);
        check("o-u", 0o637, 0o631);
        check("g=u-w", 0o700, 0o750);
        check("u=rwg", 0o017, 0o117);
        check("=u", 0o640, 0o666);
    }

    #[test]
    fn a_capital_x_is_for_directories_and_what_was_executable() {
        check("a+X", 0o644, 0o644);
        check("a+X", 0o744, 0o755);
        check("u=rwX,go=rX", 0o600, 0o644);
        check("u+x,g+X", 0o600, 0o700);
        check("a-X", 0o755, 0o644);
        let change: ModeChange = "go+X".parse().unwrap();
        assert_eq!(change.apply(0o600, true), 0o611);
    }

    #[test]
    fn what_chmod_does_not_know_is_refused() {
        for text in ["", "foo", "ug", "u?", "u+q", "u+x,", ",u+x", "+755", "u+r w", "é", "u+é"] {
            check_error(text, "invalid syntax");
        }
    }

    #[test]
    fn a_change_shows_what_was_written() {
        assert_eq!("u+x".parse::<ModeChange>().unwrap().to_string(), "u+x");
        assert_eq!("755".parse::<ModeChange>().unwrap().to_string(), "0755");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_the_result_is_a_mode(text in "[augorwxXst=+,7é-]{0,12}", mode: u32) {
            if let Ok(change) = text.parse::<ModeChange>() {
                assert!(change.apply(mode, mode & 1 == 0) <= 0o7777);
            }
        }
    }
}
