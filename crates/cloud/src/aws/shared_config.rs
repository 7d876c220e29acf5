//! The files that AWS' programs share: `~/.aws/config` and `~/.aws/credentials`.

use std::collections::BTreeMap;

/// Settings by profile.
#[derive(Default)]
pub(crate) struct Profiles(BTreeMap<String, BTreeMap<String, String>>);

impl Profiles {
    /// Adds `config`, where a profile's section is `[profile NAME]`.
    pub(crate) fn add_config(&mut self, text: &str) {
        self.add(text, |section| match section.split_once(char::is_whitespace) {
            Some(("profile", name)) => Some(name.trim().to_owned()),
            None if section == "default" => Some(section.to_owned()),
            // `sso-session` and `services` are no profiles.
            _ => None,
        });
    }

    /// Adds `credentials`, where it is `[NAME]`; what it says wins.
    pub(crate) fn add_credentials(&mut self, text: &str) {
        self.add(text, |section| Some(section.to_owned()));
    }

    fn add(&mut self, text: &str, name: impl Fn(&str) -> Option<String>) {
        let mut profile = None;
        for line in text.lines() {
            // A line that is indented belongs to the setting above it.
            if line.starts_with([' ', '\t', '#', ';']) {
                continue;
            }
            if let Some(section) = line.strip_prefix('[') {
                let section = section.split(']').next().unwrap_or_default().trim();
                profile = name(section);
                if let Some(profile) = &profile {
                    self.0.entry(profile.clone()).or_default();
                }
                continue;
            }
            if let (Some(profile), Some((key, value))) = (&profile, line.split_once('=')) {
                let settings = self.0.entry(profile.clone()).or_default();
                // A comment begins with white space before its mark: passwords may hold either.
                let value = value.split(" #").next().unwrap_or_default();
                let value = value.split(" ;").next().unwrap_or_default();
                settings.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
        }
    }

    pub(crate) fn has(&self, profile: &str) -> bool {
        self.0.contains_key(profile)
    }

    pub(crate) fn get(&self, profile: &str, key: &str) -> Option<&str> {
        self.0.get(profile)?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_read_and_the_credentials_win() {
        let mut profiles = Profiles::default();
        profiles.add_config(
            "# comment\n[default]\nregion = eu-west-1 # here\ns3 =\n  max_queue_size = 1\n\
             [profile ci]\nROLE_ARN=arn:aws:iam::1:role/x\n[sso-session a]\nregion=b\n",
        );
        profiles.add_credentials(
            "[default]\naws_access_key_id = A\naws_secret_access_key=b=/#c\n[ci]\nx=1",
        );
        for (profile, key, expected) in [
            ("default", "region", Some("eu-west-1")),
            ("default", "aws_access_key_id", Some("A")),
            ("default", "aws_secret_access_key", Some("b=/#c")),
            ("default", "max_queue_size", None),
            ("default", "s3", None),
            ("ci", "role_arn", Some("arn:aws:iam::1:role/x")),
            ("ci", "x", Some("1")),
            ("none", "x", None),
        ] {
            assert_eq!(profiles.get(profile, key), expected, "{profile} {key}");
        }
        assert!(profiles.has("ci") && !profiles.has("a") && !profiles.has("sso-session a"));
    }
}
