//! What the running kernel is.

/// Whether it is of this release (`major.minor`) or a later one. What a kernel can do is asked of it where it answers.
pub(crate) fn is_at_least(release: (u32, u32)) -> bool {
    let machine = rustix::system::uname();
    numbers(&machine.release().to_string_lossy()) >= release
}

fn numbers(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|part: char| !part.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(numbers("6.1.0-18-amd64"), (6, 1));
        assert_eq!(numbers("5.15.167-gke+"), (5, 15));
        assert_eq!(numbers("6-rc1"), (6, 0));
        assert_eq!(numbers("?"), (0, 0));
        assert!(is_at_least((3, 0)) && !is_at_least((999, 0)));
    }
}
