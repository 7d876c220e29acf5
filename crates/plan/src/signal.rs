//! Which texts name a signal.

/// Whether `STOPSIGNAL text` is valid: a number other than 0, or a Linux name with or without
/// `SIG`, in any case.
pub(crate) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name)
        || (1..=15).any(|number| name == format!("RTMIN+{number}"))
        || (1..=14).any(|number| name == format!("RTMAX-{number}"))
}

const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "RTMAX", "RTMIN", "SEGV", "STKFLT", "STOP", "SYS",
    "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU",
    "XFSZ",
];

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_and_names_are_signals() {
        for text in ["9", "-1", "+3", "99", "KILL", "sigkill", "SigTerm", "RTMIN", "SIGRTMIN+3"] {
            assert!(super::is_signal(text), "{text}");
        }
        for text in ["RTMAX", "rtmax-14", "RTMIN+15"] {
            assert!(super::is_signal(text), "{text}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in ["", "0", "FOO", "SIG", "SIGSIGKILL", "RTMIN+16", "RTMIN+01", "RTMAX-15"] {
            assert!(!super::is_signal(text), "{text}");
        }
        for text in ["RTMIN-1", "RTMIN+", "RTMAX+1", "RTMIN3", "RTMIN+0", "9x", " 9"] {
            assert!(!super::is_signal(text), "{text}");
        }
    }
}
