//! Files and the syntax, or the diagnostics, that they print as.

use dockerfile_parser::Dockerfile;

/// Every directory in `testdata/dockerfile` holds a `Dockerfile` and the `ast.txt` it reads as.
///
/// `cargo xtask bless` rewrites each `ast.txt`. Read the diff before you commit it.
#[test]
fn dockerfiles_read_as_recorded() {
    for case in testkit::cases("testdata/dockerfile") {
        let actual = match Dockerfile::parse("Dockerfile", &case.bytes("Dockerfile")) {
            Ok(file) => file.to_string(),
            Err(diagnostics) => format!("{diagnostics}\n"),
        };
        case.assert_golden("ast.txt", &actual);
    }
}
