//! Which user and group ids a private namespace has.

use std::fmt::Write as _;

/// Ids from `inside` on stand for ids from `outside` on, `count` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

/// The lines of a `uid_map` as this process sees its own.
pub(crate) fn parse_map(text: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        Some(Range { inside: next()?, outside: next()?, count: next()? })
    };
    text.lines().filter_map(range).collect()
}

/// Every id that exists here stands for itself there.
pub(crate) fn identity(own: &[Range]) -> Vec<Range> {
    own.iter().map(|range| Range { outside: range.inside, ..*range }).collect()
}

/// The ranges that `/etc/subuid` or `/etc/subgid` gives to a user, by name or by number.
pub(crate) fn parse_subordinate(text: &str, user: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let number = user.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if owner != number && Some(owner) != name {
            return None;
        }
        let start = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        (count > 0).then_some((start, count))
    };
    text.lines().filter_map(range).collect()
}

/// 0 stands for `own`, and 1, 2, … for the subordinate ids in their order.
pub(crate) fn with_subordinate(own: u32, subordinate: &[(u32, u32)]) -> Vec<Range> {
    let mut ranges = vec![Range { inside: 0, outside: own, count: 1 }];
    let mut inside = 1_u32;
    for &(outside, count) in subordinate {
        // Ids end before 2^32 - 1; what does not fit is of no use.
        let count = count.min(u32::MAX - inside);
        if count == 0 {
            break;
        }
        ranges.push(Range { inside, outside, count });
        inside += count;
    }
    ranges
}

/// As the kernel reads it from `uid_map`.
pub(crate) fn render(ranges: &[Range]) -> String {
    let mut text = String::new();
    for Range { inside, outside, count } in ranges {
        // Writing to a string cannot fail.
        writeln!(text, "{inside} {outside} {count}").ok();
    }
    text
}

/// The name of a user in the machine's `/etc/passwd`.
pub(crate) fn name_of(passwd: &str, user: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_ids_stand_for_themselves_as_far_as_they_exist() {
        assert_eq!(
            render(&identity(&parse_map("         0          0 4294967295\n"))),
            "0 0 4294967295\n"
        );
        let nested = "         0     100000      65536\n     70000          7          1\n";
        assert_eq!(render(&identity(&parse_map(nested))), "0 0 65536\n70000 70000 1\n");
    }

    #[test]
    fn subordinate_ids_are_found_by_name_and_by_number() {
        let text = "# comment\nann:100000:65536\n1000:300000:10\nbob:1:1\nann:500000:0\nann:x:1\nann:600000:5\n";
        assert_eq!(
            parse_subordinate(text, 1000, Some("ann")),
            [(100_000, 65536), (300_000, 10), (600_000, 5)]
        );
        assert_eq!(parse_subordinate(text, 1000, None), [(300_000, 10)]);
        assert_eq!(parse_subordinate(text, 7, Some("eve")), []);
    }

    #[test]
    fn a_users_own_id_becomes_zero_and_the_others_follow() {
        assert_eq!(
            render(&with_subordinate(1000, &[(100_000, 65536), (300_000, 10)])),
            "0 1000 1\n1 100000 65536\n65537 300000 10\n"
        );
        assert_eq!(render(&with_subordinate(1000, &[])), "0 1000 1\n");
        assert_eq!(
            render(&with_subordinate(1, &[(5, u32::MAX), (6, 6)])),
            "0 1 1\n1 5 4294967294\n"
        );
    }

    #[test]
    fn a_name_is_the_first_with_the_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000), Some("ann"));
        assert_eq!(name_of(passwd, 1), None);
    }
}
