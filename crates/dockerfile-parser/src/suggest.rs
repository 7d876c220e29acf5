//! Guesses what a misspelt word was meant to be.

use std::cmp::Reverse;

/// A word that is at least this many edits away is another word, not a misspelling. BuildKit draws the same line.
const TOO_FAR: usize = 3;

/// No word that is longer is compared: comparing takes time proportional to the product of two lengths, and names of
/// variables may be as long as a line.
const LONGEST: usize = 256;

/// The option that is the fewest edits away from `word`, if one is near enough.
///
/// Of several, the one that begins most like `word` wins, then the one that sorts first: a guess must not change
/// from run to run, as it does where a map is searched.
pub fn nearest<'a>(word: &str, options: &[&'a str]) -> Option<&'a str> {
    options
        .iter()
        .copied()
        .map(|option| (edits(word, option), Reverse(common_prefix(word, option)), option))
        .filter(|&(edits, ..)| edits < TOO_FAR)
        .min()
        .map(|(.., option)| option)
}

/// ` (did you mean X?)`, or nothing.
pub(crate) fn did_you_mean(word: &str, options: &[&str]) -> String {
    nearest(word, options).map_or_else(String::new, |option| format!(" (did you mean {option}?)"))
}

/// The Levenshtein distance, or [`TOO_FAR`] where it is at least that.
fn edits(from: &str, to: &str) -> usize {
    if to.len() > LONGEST || from.len() > LONGEST || to.len().abs_diff(from.len()) >= 4 * TOO_FAR {
        return TOO_FAR;
    }
    let to: Vec<char> = to.chars().collect();
    let from: Vec<char> = from.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()].min(TOO_FAR)
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, expected: Option<&str>) {
        assert_eq!(
            nearest(word, &["add", "env", "from", "healthcheck", "run"]),
            expected,
            "for {word:?}"
        );
    }

    #[test]
    fn the_nearest_option_is_chosen_if_it_is_near_enough() {
        check("runn", Some("run"));
        check("form", Some("from"));
        check("haelthcheck", Some("healthcheck"));
        check("xyz", None);
        check("", None);
        check("healthcheckers", None);
    }

    #[test]
    fn of_two_equally_near_options_the_one_that_begins_alike_is_chosen() {
        check("rnu", Some("run"));
    }

    #[test]
    fn a_long_word_is_near_nothing() {
        check(&"x".repeat(1 << 20), None);
    }
}
