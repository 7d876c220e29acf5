//! Rules of the language, each with the text that shows it. What is longer is a golden file.

use dockerfile_parser::{Command, Directive, Dockerfile, InstructionKind, OnBuild, parse_trigger};

/// The instructions after `FROM x`, printed, or the messages of the errors.
fn print(text: &str) -> String {
    let print = |file: Dockerfile| {
        let stage = file.stages.into_iter().next().expect("the text begins with a FROM");
        let lines: Vec<_> =
            stage.instructions.iter().map(|instruction| instruction.kind.to_string()).collect();
        lines.join("\n")
    };
    match Dockerfile::parse("Dockerfile", format!("FROM x\n{text}").as_bytes()) {
        Ok(file) => print(file),
        Err(errors) => {
            let messages: Vec<_> = errors
                .items()
                .iter()
                .filter(|item| item.is_error())
                .map(|item| &item.message)
                .collect();
            messages
                .iter()
                .map(|message| format!("error: {message}"))
                .collect::<Vec<_>>()
                .join("\n")
        }
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(print(text), expected, "reading {text:?}");
}

#[test]
fn instructions_without_what_they_need_are_errors() {
    for name in ["MAINTAINER", "WORKDIR", "USER", "STOPSIGNAL"] {
        check(name, &format!("error: {name} requires exactly one argument"));
    }
    for name in ["ENV", "LABEL", "ONBUILD", "HEALTHCHECK", "EXPOSE", "VOLUME", "ARG", "SHELL"] {
        check(name, &format!("error: {name} requires at least one argument"));
    }
    check("SHELL []", "error: SHELL requires at least one argument");
    check("VOLUME []", "error: VOLUME requires at least one argument");
    for name in ["COPY", "ADD"] {
        for text in [
            name.to_owned(),
            format!("{name} a"),
            format!("{name} [\"a\"]"),
            format!("{name}\t\n\t\tquux"),
        ] {
            let first = print(&text);
            let expected = "requires at least two arguments, but only one was provided. Destination could not be determined";
            assert!(first.starts_with(&format!("error: {name} {expected}")), "{text:?}: {first}");
        }
    }
    check("ENV A", "error: ENV must have two arguments");
    check("LABEL A", "error: LABEL must have two arguments");
    for name in ["ENV", "LABEL", "ARG"] {
        check(&format!("{name} =x"), &format!("error: {name} names can not be blank"));
    }
    check("VOLUME [\" \"]", "error: VOLUME specified can not be an empty string");
}

#[test]
fn commands_may_be_empty() {
    check("RUN", r#"RUN shell """#);
    check("RUN []", "RUN exec []");
    check("CMD []", "CMD exec []");
    check("ENTRYPOINT", r#"ENTRYPOINT shell """#);
}

#[test]
fn from_has_one_or_three_arguments() {
    let check = |text: &str, expected: Result<(&str, Option<&str>), &str>| {
        let actual = Dockerfile::parse("Dockerfile", text.as_bytes()).map(|file| {
            let from = &file.stages[0].from.kind;
            (from.image.value.clone(), from.name.as_ref().map(|name| name.value.clone()))
        });
        let actual = actual.map_err(|errors| errors.items()[0].message.clone());
        let expected = expected.map(|(image, name)| (image.to_owned(), name.map(str::to_owned)));
        assert_eq!(actual, expected.map_err(str::to_owned), "reading {text:?}");
    };
    check("FROM a", Ok(("a", None)));
    check("from a aS B-c_d.e", Ok(("a", Some("b-c_d.e"))));
    check("FROM [\"a\"]", Ok(("[\"a\"]", None)));
    for text in ["FROM", "FROM a b", "FROM a b c", "FROM a AS b c"] {
        check(text, Err("FROM requires either one or three arguments"));
    }
    for name in ["1b", "a/b", "é", "-"] {
        let message = format!(
            "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
        );
        check(&format!("FROM a AS {name}"), Err(&message));
    }
}

#[test]
fn flags_are_checked_by_the_instruction_that_has_them() {
    check("COPY --chown a b", "error: missing a value on flag: --chown");
    check("COPY --chown= a b", r#"COPY "a" to "b" chown="""#);
    check("COPY --link=TRUE --parents=false a b", r#"COPY "a" to "b" link=true parents=false"#);
    check("COPY --link= a b", "error: missing a value on flag: --link");
    check("COPY --link=1 a b", "error: expecting boolean value for flag --link, not: 1");
    check("COPY --chown=1 --chown=2 a b", "error: duplicate flag specified: --chown");
    check("COPY --exclude=a --exclude=b a b", r#"COPY "a" to "b" exclude="a" exclude="b""#);
    check("COPY --FROM=x a b", "error: unknown flag: --FROM");
    check("COPY --keep-git-dir a b", "error: unknown flag: --keep-git-dir");
    check("ADD --from=x a b", "error: unknown flag: --from");
    check("COPY a --link b", r#"COPY "a" "--link" to "b""#);
    for text in [
        "MAINTAINER --x a",
        "LABEL --x a=b",
        "EXPOSE --x 80",
        "USER --x a",
        "VOLUME --x /a",
        "CMD --x a",
    ] {
        check(text, "error: unknown flag: --x");
    }
    check("COPY --a --b x y", "error: unknown flag: --a\nerror: unknown flag: --b");
}

#[test]
fn flags_of_instructions_that_never_look_at_them_are_ignored_with_a_warning() {
    for (text, expected) in [
        ("STOPSIGNAL --x SIGTERM", r#"STOPSIGNAL "SIGTERM""#),
        ("ARG --x a", r#"ARG "a""#),
        ("HEALTHCHECK --x NONE", "HEALTHCHECK NONE"),
    ] {
        check(text, expected);
        let file = Dockerfile::parse("Dockerfile", format!("FROM x\n{text}").as_bytes()).unwrap();
        assert_eq!(file.warnings.len(), 1, "in {text:?}");
    }
}

#[test]
fn run_flags_have_their_values() {
    check(
        "RUN --network=none --security=insecure x",
        r#"RUN shell "x" network=None security=Insecure"#,
    );
    check("RUN --network=NONE x", "error: invalid network mode \"NONE\"");
    check("RUN --network= x", "error: invalid network mode \"\"");
    check("RUN --security=x x", "error: security \"x\" is not valid");
    check("RUN --device=a=b,required=true x", r#"RUN shell "x" device="a=b" required"#);
    check("RUN --device=name=a x", r#"RUN shell "x" device="a""#);
    check("RUN --device=a,name=b x", "error: device name already set to a");
    check("RUN --device=a,b x", "error: invalid field 'b' must be a key=value pair");
    check(
        "RUN --device=a,nmae=b x",
        "error: unexpected key 'nmae' in 'nmae=b' (did you mean name?)",
    );
    check("RUN --mount=tpye=nonsense x", r#"RUN shell "x" mount="tpye=nonsense""#);
    let message = "error: 'from' doesn't support variable expansion, define alias stage instead";
    check("RUN --mount=from=$A,target=/x x", message);
}

#[test]
fn healthchecks_are_commands_with_times() {
    check("HEALTHCHECK none", "HEALTHCHECK NONE");
    check("HEALTHCHECK NONE x", "error: HEALTHCHECK NONE takes no arguments");
    check("HEALTHCHECK CMD", "error: Missing command after HEALTHCHECK CMD");
    check("HEALTHCHECK CMD []", "error: Missing command after HEALTHCHECK CMD");
    check("HEALTHCHECK foo", "error: Unknown type \"FOO\" in HEALTHCHECK (try CMD)");
    check("HEALTHCHECK --interval=0ms --timeout= cmd x y", r#"HEALTHCHECK shell "x y""#);
    check(
        "HEALTHCHECK --interval=1ms --retries=+3 CMD x",
        r#"HEALTHCHECK shell "x" interval=1ms retries=3"#,
    );
    check(
        "HEALTHCHECK --interval=50ns CMD x",
        "error: Interval \"interval\" cannot be less than 1ms",
    );
    check("HEALTHCHECK --timeout=-5s CMD x", "error: Interval \"timeout\" cannot be less than 1ms");
    check("HEALTHCHECK --timeout=5 CMD x", "error: time: missing unit in duration \"5\"");
    check("HEALTHCHECK --retries=-1 CMD x", "error: --retries cannot be negative (-1)");
    check(
        "HEALTHCHECK --retries=x CMD x",
        "error: strconv.ParseInt: parsing \"x\": invalid syntax",
    );
    check(
        "HEALTHCHECK --retries=2147483648 CMD x",
        "error: strconv.ParseInt: parsing \"2147483648\": value out of range",
    );
}

#[test]
fn heredocs_are_files_of_copy_but_no_destination() {
    check("COPY <<EOF foo.txt /bar\nx\nEOF", r#"COPY "foo.txt" file("EOF" "x\n") to "/bar""#);
    check("COPY /foo <<EOF\nEOF", "error: COPY cannot accept a heredoc as a destination");
    check("ADD a <<EOF\nEOF", "error: ADD cannot accept a heredoc as a destination");
    // A JSON array has no bodies, and BuildKit makes an empty file of the operator.
    check(r#"COPY ["<<EOF", "/x"]"#, r#"COPY file("EOF" "") to "/x""#);
    check("USER <<EOF", r#"USER "<<EOF""#);
}

#[test]
fn a_body_ends_at_the_whole_line_only() {
    check(
        "RUN <<EOF\nEOF \n EOF\n\tEOF\nEOF",
        r#"RUN shell "<<EOF" heredoc("EOF" "EOF \n EOF\n\tEOF\n")"#,
    );
    check("RUN <<-EOF\n\tx\n\t\tEOF", r#"RUN shell "<<-EOF" heredoc("EOF" chomp "\tx\n")"#);
    check(
        "RUN <<EOF\r\nx\r\nEOF\r\nUSER y",
        "RUN shell \"<<EOF\" heredoc(\"EOF\" \"x\\r\\n\")\nUSER \"y\"",
    );
    check("RUN <<EOF\nx\n", "error: unterminated heredoc");
}

#[test]
fn triggers_are_stored_as_text_and_understood_too() {
    let trigger = |text: &str| {
        let file = Dockerfile::parse("Dockerfile", format!("FROM x\n{text}").as_bytes()).unwrap();
        match file.stages.into_iter().next().and_then(|stage| stage.instructions.into_iter().next())
        {
            Some(instruction) => match instruction.kind {
                InstructionKind::OnBuild(on_build) => on_build,
                other => panic!("{other} is not an ONBUILD"),
            },
            None => panic!("{text:?} holds no instruction"),
        }
    };
    let OnBuild { text, trigger: inner } = trigger("onbuild \t  RUN   x \\\n  y");
    assert_eq!(text, "RUN   x   y");
    let inner = inner.unwrap();
    let InstructionKind::Run(run) = inner.kind else { panic!("it is a RUN") };
    assert_eq!(run.command, Command::Shell("x   y".to_owned()));
    assert_eq!(inner.lines, 2..=3, "lines are those of the file");

    let chomped = trigger("ONBUILD RUN <<-EOF\n\tx\n\tEOF");
    assert_eq!(chomped.text, "RUN <<-EOF\n\tx\nEOF", "the terminator is stored without its tabs");
    assert_eq!(
        chomped.trigger.unwrap().kind,
        parse_trigger(&chomped.text).map(|again| shifted(again.kind)).unwrap()
    );

    let continued = trigger("\\\n \u{2003}ONBUILD é x");
    assert_eq!(continued.text, "é x", "the name may be on the second line");

    let unknown = trigger("ONBUILD FOO x");
    assert_eq!(unknown.text, "FOO x");
    assert!(unknown.trigger.is_err(), "an unknown instruction is stored and fails later");

    check("ONBUILD ENV a", "error: ENV must have two arguments");
    check("ONBUILD --x RUN y", "error: unknown flag: --x");
}

/// Moves the one span that differs between a trigger in a file and alone.
fn shifted(kind: InstructionKind) -> InstructionKind {
    let InstructionKind::Run(mut run) = kind else { return kind };
    for heredoc in &mut run.heredocs {
        let before = "FROM x\nONBUILD ".len();
        heredoc.span.start += before;
        heredoc.span.end += before;
    }
    InstructionKind::Run(run)
}

#[test]
fn from_maintainer_and_onbuild_are_no_triggers() {
    for name in ["FROM", "from", "MAINTAINER"] {
        let message = format!("{} isn't allowed as an ONBUILD trigger", name.to_uppercase());
        check(&format!("ONBUILD {name} x"), &format!("error: {message}"));
        assert_eq!(parse_trigger(&format!("{name} x")).unwrap_err().items()[0].message, message);
    }
    let message = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
    check("ONBUILD ONBUILD RUN x", &format!("error: {message}"));
    let many = format!("FROM x\n{}", "ONBUILD \\\n".repeat(100_000));
    let errors = Dockerfile::parse("Dockerfile", many.as_bytes()).unwrap_err();
    assert_eq!(errors.items()[0].message, message, "nesting is not followed");
    assert_eq!(parse_trigger("ONBUILD RUN x").unwrap_err().items()[0].message, message);
}

#[test]
fn a_trigger_is_one_instruction() {
    assert_eq!(parse_trigger("COPY a b").unwrap().kind.to_string(), r#"COPY "a" to "b""#);
    assert_eq!(
        parse_trigger("RUN <<EOF\nx\nEOF").unwrap().kind.to_string(),
        r#"RUN shell "<<EOF" heredoc("EOF" "x\n")"#
    );
    let message = |text: &str| parse_trigger(text).unwrap_err().items()[0].message.clone();
    assert_eq!(message("RUN a\nRUN b"), "onbuild trigger should be a single expression");
    assert_eq!(message("\u{feff}"), "file with no instructions");
    assert_eq!(message(""), "file with no instructions");
    assert_eq!(message("# x"), "file with no instructions");
    assert_eq!(message("COPY a"), message("COPY x"), "a message does not depend on the argument");
}

#[test]
fn a_file_has_instructions() {
    for text in ["", "# only\n# comments\n", "\n\n", "\u{feff}"] {
        let errors = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_err();
        assert_eq!(errors.items()[0].message, "file with no instructions", "reading {text:?}");
    }
    let file = Dockerfile::parse("Dockerfile", b"ARG a=1 b\nARG c=$a").unwrap();
    assert_eq!((file.meta_args.len(), file.stages.len()), (2, 0), "a file of ARGs is read");
}

#[test]
fn the_byte_order_mark_belongs_to_the_first_line() {
    check("\u{feff}RUN b", "error: unknown instruction: \u{feff}RUN (did you mean RUN?)");
    assert!(Dockerfile::parse("Dockerfile", "\u{feff}FROM a".as_bytes()).is_ok());
}

#[test]
fn only_one_directive_of_a_kind_is_allowed() {
    let message = |text: &str| {
        Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_err().items()[0].message.clone()
    };
    assert_eq!(
        message("# syntax=a\n# syntax=b\nFROM a"),
        "only one syntax parser directive can be used"
    );
    assert_eq!(message("# escape=x\nFROM a"), "invalid escape token 'x' does not match ` or \\");
}

#[test]
fn directives_are_known_by_name_and_place() {
    let escape =
        |text: &str| Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap().escape.as_char();
    assert_eq!(escape("#   eScApE   =   `   \nFROM a"), '`');
    assert_eq!(escape("  # escape=`\nFROM a"), '`');
    assert_eq!(escape("# syntax=a\n# escape=`\nFROM a"), '`');
    for text in [
        "\n# escape=`\nFROM a",
        "# foo=bar\n# escape=`\nFROM a",
        "# x\n# escape=`\nFROM a",
        "#!/x\n# escape=`\nFROM a",
    ] {
        assert_eq!(escape(text), '\\', "reading {text:?}");
    }
    let file = Dockerfile::parse("Dockerfile", b"# syntax = a/b:1 // c\nFROM a").unwrap();
    assert_eq!(file.directives.syntax.as_ref().map(Directive::first_word), Some("a/b:1"));
}

#[test]
fn comments_above_an_instruction_belong_to_it() {
    let text = "# foo sets foo\nARG foo=1\n\n# base the\n# first\n\nFROM a AS base\n# lost\n#\n  # indented\nARG x y\n";
    let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
    assert_eq!(file.meta_args[0].description_of("foo"), Some("sets foo"));
    let from = &file.stages[0].from;
    assert_eq!(from.comments, ["base the", "first"]);
    assert_eq!(from.description_of("base"), Some("the"));
    assert_eq!(from.description_of("bas"), None);
    assert_eq!(file.stages[0].instructions[0].comments, ["# indented"]);
}

#[test]
fn bytes_that_are_not_utf8_are_replaced_where_the_image_config_would_and_refused_in_commands() {
    let label = Dockerfile::parse("Dockerfile", b"# \xff\nFROM x\nLABEL a=\xe9\n").unwrap();
    assert_eq!(label.stages[0].instructions[0].kind.to_string(), "LABEL \"a\"=\"\u{fffd}\"");
    assert_eq!(label.warnings.len(), 1);
    for text in [&b"FROM x\nRUN echo \xe9\n"[..], b"FROM x\nCOPY <<EOF /x\n\xe9\nEOF\n"] {
        assert!(Dockerfile::parse("Dockerfile", text).is_err(), "reading {text:?}");
    }
}

#[test]
fn spans_point_at_words_flags_and_names() {
    let text =
        "FROM a AS b\nCOPY --from=b \\\n  --chown=me x \"y\" /z\nENV K=v \"k 2\"='v'\nARG n=1\n";
    let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
    let stage = &file.stages[0];
    let mut spans = vec![stage.from.keyword.span, stage.from.kind.image.span];
    spans.extend(stage.from.kind.name.iter().map(|name| name.span));
    for instruction in &stage.instructions {
        spans.extend(instruction.flags.iter().map(|flag| flag.span));
        match &instruction.kind {
            InstructionKind::Copy(copy) => {
                spans.extend(copy.sources.iter().map(|word| word.span));
                spans.push(copy.destination.span);
            }
            InstructionKind::Env(env) => {
                spans.extend(env.pairs.iter().flat_map(|pair| [pair.key.span, pair.value.span]));
            }
            InstructionKind::Arg(arg) => {
                spans.extend(
                    arg.args
                        .iter()
                        .flat_map(|arg| {
                            [Some(arg.key.span), arg.default.as_ref().map(|word| word.span)]
                        })
                        .flatten(),
                );
            }
            other => panic!("{other} is not in the text"),
        }
    }
    let words: Vec<_> = spans.into_iter().map(|span| &text[span.start..span.end]).collect();
    let expected = [
        "FROM",
        "a",
        "b",
        "--from=b",
        "--chown=me",
        "x",
        "\"y\"",
        "/z",
        "K",
        "v",
        "\"k 2\"",
        "'v'",
        "n",
        "1",
    ];
    assert_eq!(words, expected);
    assert_eq!(stage.instructions[0].flag_span("chown"), stage.instructions[0].flags[1].span);
    assert_eq!(stage.instructions[0].flag_span("chmod"), stage.instructions[0].keyword.span);
}
