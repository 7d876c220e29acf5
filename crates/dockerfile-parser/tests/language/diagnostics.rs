//! What people see when something is wrong.

use dockerfile_parser::{Diagnostic, Diagnostics, Dockerfile, Source, Span, parse_trigger};

#[track_caller]
fn check(dockerfile: &str, expected: &str) {
    let errors = Dockerfile::parse("Dockerfile", dockerfile.as_bytes()).expect_err("it is wrong");
    assert_eq!(errors.to_string(), expected.trim_matches('\n'), "in {dockerfile:?}");
}

#[test]
fn a_diagnostic_shows_the_line_and_what_to_do() {
    check(
        "FROM alpine\n\nRUNN x\n",
        "
error: unknown instruction: RUNN (did you mean RUN?)
 --> Dockerfile:3:1
  |
3 | RUNN x
  | ^^^^
",
    );
    check(
        "FROM alpine\nSHELL bash\n",
        r#"
error: SHELL requires the arguments to be in JSON form
 --> Dockerfile:2:7
  |
2 | SHELL bash
  |       ^^^^
  |
  = help: write `SHELL ["/bin/bash", "-c"]`, with double quotes
"#,
    );
}

#[test]
fn carets_point_into_continued_lines() {
    check(
        "FROM alpine\nCOPY \\\n  --chown=me \\\n  --form=x a b\n",
        "
error: unknown flag: --form (did you mean from?)
 --> Dockerfile:4:3
  |
4 |   --form=x a b
  |   ^^^^^^^^
",
    );
}

#[test]
fn a_span_over_several_lines_is_shown_by_its_first() {
    check(
        "FROM alp\\\nine as\n",
        "
error: FROM requires either one or three arguments
 --> Dockerfile:1:6
  |
1 | FROM alp\\
  |      ^^^^
  |
  = help: write `FROM image` or `FROM image AS name`
",
    );
}

#[test]
fn tabs_wide_characters_and_bytes_that_are_not_utf8_do_not_move_the_caret() {
    let source = Source::new("x", b"\t\xe6\xbc\xa2\xff!z");
    let items = vec![Diagnostic::error(Span::new(5, 6), "here")];
    let expected = "error: here\n --> x:1:4\n  |\n1 |     漢�!z\n  |        ^";
    assert_eq!(Diagnostics::new(source, items).to_string(), expected);
}

#[test]
fn a_file_cannot_send_commands_to_the_terminal() {
    let errors = Dockerfile::parse("Dockerfile", b"FROM a\n\x1b[2J\x07 x\n").unwrap_err();
    assert!(!errors.to_string().contains(['\x1b', '\x07']), "{:?}", errors.to_string());
}

#[test]
fn all_errors_of_a_file_are_reported_in_its_order() {
    let text = "FROM a AS 1\nRUNN x\nFROM b\nENV A=b c\nCOPY x\nCMD [1]\nADD --link --link a b\n";
    let errors = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_err();
    let lines: Vec<_> = errors.items().iter().map(|error| errors.line(error)).collect();
    assert_eq!(lines, [1, 2, 4, 5, 6, 7], "{errors}");
}

#[test]
fn diagnostics_of_a_trigger_are_about_its_text() {
    let errors = parse_trigger("RUN --netwrok=none x")
        .unwrap_err()
        .with_source_name("ONBUILD trigger of base:1");
    let expected = "
error: unknown flag: --netwrok (did you mean network?)
 --> ONBUILD trigger of base:1:1:5
  |
1 | RUN --netwrok=none x
  |     ^^^^^^^^^^^^^^
";
    assert_eq!(errors.to_string(), expected.trim_matches('\n'));
}

#[test]
fn a_misspelt_instruction_is_reported_though_its_body_is_not_ended() {
    let errors = Dockerfile::parse("Dockerfile", b"FROM a\nRUNN <<EOF\nx\n").unwrap_err();
    let messages: Vec<_> = errors.items().iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["unknown instruction: RUNN (did you mean RUN?)", "unterminated heredoc"]);
}

#[test]
fn each_of_several_diagnostics_is_printed() {
    let errors = Dockerfile::parse("Dockerfile", b"FROM a\nX1\nX2\n").unwrap_err();
    assert_eq!(errors.to_string().matches("\n\nerror: ").count(), 1, "{errors}");
}

#[test]
fn of_very_many_diagnostics_the_rest_is_counted() {
    let text = format!("FROM a\n{}", "FOO\n".repeat(1_000));
    let errors = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_err();
    assert_eq!(errors.items().len(), 1_000);
    let printed = errors.to_string();
    assert_eq!(printed.matches("error: ").count(), 100);
    assert!(printed.ends_with("\n\n... and 900 more"), "{printed}");
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let text = format!("FROM a\nRUN --netwrok=none {}\n", "word ".repeat(1_000));
    let errors = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_err();
    let longest = errors.to_string().lines().map(str::len).max();
    assert!(longest < Some(200), "{errors}");
}

#[test]
fn lines_of_a_heredoc_are_blamed_only_where_there_may_be_one() {
    let check = |text: &str, expected: &[u32]| {
        let reading = Dockerfile::read("Dockerfile", text.as_bytes());
        let lines: Vec<_> = reading.errors.iter().flat_map(|error| reading.lines(error)).collect();
        assert_eq!(lines, expected, "{text}");
    };
    check("FROM scratch\nCOPYY a <<EOF \\\n /\nx\nEOF\n", &[2, 3]);
    check("FROM scratch\nCOPY --no <<EOF \\\n /\nx\nEOF\n", &[2, 3, 4, 5]);
}
