//! "did you mean …?"

/// The candidate that is at most two letters away from `word`, the first of the nearest.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let with_distance =
        candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    let nearest = with_distance.min_by_key(|&(distance, _)| distance)?;
    (1..=2).contains(&nearest.0).then_some(nearest.1)
}

/// How many letters must be put in, taken out or changed (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, c) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, &other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(c != other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_within_two_letters_is_suggested() {
        assert_eq!(nearest("biuld", ["base", "build"]), Some("build"));
        assert_eq!(nearest("build", ["xyz"]), None);
        assert_eq!(nearest("ab", ["ac", "ad"]), Some("ac"));
        assert_eq!(nearest("same", ["same", "sane"]), None, "the name was not what is wrong");
        assert_eq!(nearest("", ["é", "abc"]), Some("é"));
        assert_eq!(nearest("x", []), None);
    }
}
