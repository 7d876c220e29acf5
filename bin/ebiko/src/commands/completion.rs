//! `executor completion`: scripts with which a shell completes flags.
//!
//! They are made when the flags change, by a test, and not by the program, in which the generator would take more room than
//! what it generates.

use clap::ValueEnum;

/// A shell that has a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Fish,
    Powershell,
    Zsh,
}

impl Shell {
    /// The script.
    pub(super) fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("../../completions/bash"),
            Self::Fish => include_str!("../../completions/fish"),
            Self::Powershell => include_str!("../../completions/powershell"),
            Self::Zsh => include_str!("../../completions/zsh"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell as Generator;

    #[test]
    fn the_scripts_are_those_of_the_flags() {
        let case = testkit::Case::new(testkit::workspace_dir().join("bin/ebiko/completions"));
        for (file, shell) in [
            ("bash", Generator::Bash),
            ("fish", Generator::Fish),
            ("powershell", Generator::PowerShell),
            ("zsh", Generator::Zsh),
        ] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut crate::cli::arranged(), "executor", &mut text);
            case.assert_golden(file, &String::from_utf8(text).unwrap());
        }
    }
}
