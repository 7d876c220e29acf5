//! The rules, and what one says when it is broken.

use std::ops::RangeInclusive;

use crate::go;

/// A rule of BuildKit's linter, under the name that `# check=skip=` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "`description` says what each of them is about")]
pub enum Rule {
    StageNameCasing,
    FromAsCasing,
    NoEmptyContinuation,
    ConsistentInstructionCasing,
    DuplicateStageName,
    ReservedStageName,
    JsonArgsRecommended,
    MaintainerDeprecated,
    UndefinedArgInFrom,
    WorkdirRelativePath,
    UndefinedVar,
    MultipleInstructionsDisallowed,
    LegacyKeyValueFormat,
    InvalidBaseImagePlatform,
    RedundantTargetPlatform,
    SecretsUsedInArgOrEnv,
    InvalidDefaultArgInFrom,
    FromPlatformFlagConstDisallowed,
    CopyIgnoredFile,
    InvalidDefinitionDescription,
    ExposeProtoCasing,
    ExposeInvalidFormat,
}

impl Rule {
    /// Every rule, in the order of BuildKit's documentation.
    pub const ALL: [Self; 22] = [
        Self::StageNameCasing,
        Self::FromAsCasing,
        Self::NoEmptyContinuation,
        Self::ConsistentInstructionCasing,
        Self::DuplicateStageName,
        Self::ReservedStageName,
        Self::JsonArgsRecommended,
        Self::MaintainerDeprecated,
        Self::UndefinedArgInFrom,
        Self::WorkdirRelativePath,
        Self::UndefinedVar,
        Self::MultipleInstructionsDisallowed,
        Self::LegacyKeyValueFormat,
        Self::InvalidBaseImagePlatform,
        Self::RedundantTargetPlatform,
        Self::SecretsUsedInArgOrEnv,
        Self::InvalidDefaultArgInFrom,
        Self::FromPlatformFlagConstDisallowed,
        Self::CopyIgnoredFile,
        Self::InvalidDefinitionDescription,
        Self::ExposeProtoCasing,
        Self::ExposeInvalidFormat,
    ];

    /// The name, which `# check=` takes in exactly this form.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// What the rule demands, in one sentence.
    pub fn description(self) -> &'static str {
        self.texts().1
    }

    /// The page of Docker's documentation about it; one rule has none.
    pub fn url(self) -> Option<String> {
        (self != Self::InvalidBaseImagePlatform)
            .then(|| format!("https://docs.docker.com/go/dockerfile/rule/{}/", kebab(self.name())))
    }

    /// Whether it is checked only where `# check=experimental=` names it.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::StageNameCasing => ("StageNameCasing", "Stage names should be lowercase"),
            Self::FromAsCasing => {
                ("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword")
            }
            Self::NoEmptyContinuation => (
                "NoEmptyContinuation",
                "Empty continuation lines will become errors in a future release",
            ),
            Self::ConsistentInstructionCasing => (
                "ConsistentInstructionCasing",
                "All commands within the Dockerfile should use the same casing (either upper or lower)",
            ),
            Self::DuplicateStageName => ("DuplicateStageName", "Stage names should be unique"),
            Self::ReservedStageName => {
                ("ReservedStageName", "Reserved words should not be used as stage names")
            }
            Self::JsonArgsRecommended => (
                "JSONArgsRecommended",
                "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
            ),
            Self::MaintainerDeprecated => (
                "MaintainerDeprecated",
                "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
            ),
            Self::UndefinedArgInFrom => {
                ("UndefinedArgInFrom", "FROM command must use declared ARGs")
            }
            Self::WorkdirRelativePath => (
                "WorkdirRelativePath",
                "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
            ),
            Self::UndefinedVar => ("UndefinedVar", "Variables should be defined before their use"),
            Self::MultipleInstructionsDisallowed => (
                "MultipleInstructionsDisallowed",
                "Multiple instructions of the same type should not be used in the same stage",
            ),
            Self::LegacyKeyValueFormat => (
                "LegacyKeyValueFormat",
                "Legacy key/value format with whitespace separator should not be used",
            ),
            Self::InvalidBaseImagePlatform => (
                "InvalidBaseImagePlatform",
                "Base image platform does not match expected target platform",
            ),
            Self::RedundantTargetPlatform => (
                "RedundantTargetPlatform",
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            ),
            Self::SecretsUsedInArgOrEnv => (
                "SecretsUsedInArgOrEnv",
                "Sensitive data should not be used in the ARG or ENV commands",
            ),
            Self::InvalidDefaultArgInFrom => (
                "InvalidDefaultArgInFrom",
                "Default value for global ARG results in an empty or invalid base image name",
            ),
            Self::FromPlatformFlagConstDisallowed => (
                "FromPlatformFlagConstDisallowed",
                "FROM --platform flag should not use a constant value",
            ),
            Self::CopyIgnoredFile => {
                ("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore")
            }
            Self::InvalidDefinitionDescription => (
                "InvalidDefinitionDescription",
                "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
            ),
            Self::ExposeProtoCasing => {
                ("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase")
            }
            Self::ExposeInvalidFormat => (
                "ExposeInvalidFormat",
                "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
            ),
        }
    }
}

/// `JSONArgsRecommended` → `json-args-recommended`
fn kebab(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| letters.get(index));
        let after = letters.get(index + 1);
        let begins_word = letter.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase() || after.is_some_and(char::is_ascii_lowercase)
            });
        if begins_word {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

/// A rule that a Dockerfile breaks, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// What is wrong, with the names it is about.
    pub message: String,
    /// The lines of the instruction that breaks it, counted from 1.
    pub lines: RangeInclusive<u32>,
}

impl std::fmt::Display for Warning {
    /// One line, as BuildKit shows it while it builds.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} (line {})", self.rule.name(), self.message, self.lines.start())
    }
}

/// What a rule says about something, in BuildKit's words.
pub(super) mod messages {
    use super::go;

    pub(in crate::lint) fn undefined_arg_in_from(name: &str, suggestion: Option<&str>) -> String {
        let guess = suggestion.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        format!("FROM argument '{name}' is not declared{guess}")
    }

    pub(in crate::lint) fn undefined_variable(name: &str, suggestion: Option<&str>) -> String {
        let guess = suggestion.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
        format!("Usage of undefined variable '${name}'{guess}")
    }

    pub(in crate::lint) fn json_recommended(keyword: &str) -> String {
        format!(
            "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
        )
    }

    pub(in crate::lint) fn multiple(keyword: &str) -> String {
        format!(
            "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
        )
    }

    pub(in crate::lint) fn legacy(keyword: &str) -> String {
        format!(
            "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
        )
    }

    pub(in crate::lint) fn secret(instruction: &str, name: &str) -> String {
        let name = go::quote(name);
        format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_made_of_the_words_of_names() {
        assert_eq!(kebab("JSONArgsRecommended"), "json-args-recommended");
        assert_eq!(kebab("SecretsUsedInArgOrEnv"), "secrets-used-in-arg-or-env");
        assert_eq!(
            Rule::UndefinedVar.url().as_deref(),
            Some("https://docs.docker.com/go/dockerfile/rule/undefined-var/")
        );
        assert_eq!(Rule::InvalidBaseImagePlatform.url(), None);
    }

    #[test]
    fn every_rule_is_listed_once_and_in_order() {
        assert!(Rule::ALL.is_sorted(), "{:?}", Rule::ALL);
        let mut names: Vec<_> = Rule::ALL.map(Rule::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Rule::ALL.len());
    }
}
