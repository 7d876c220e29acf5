//! "did you mean …?"

/// The candidate that is at most two letters away from `word`; `None` if one is `word` itself, which
/// is then not what is wrong.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if candidates.contains(&word) {
        return None;
    }
    dockerfile_parser::nearest(word, &candidates)
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
