//! What holds for every text, Dockerfile or not.

use dockerfile_parser::{
    Command, Dockerfile, Instruction, InstructionKind, Span, Word, detect_syntax, parse_trigger,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Texts made of what Dockerfiles are made of, so that the parser gets beyond the first line.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&str] = &[
        "FROM x\n",
        "FROM a AS b\n",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "LABEL ",
        "ARG ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "CMD ",
        "SHELL ",
        "USER ",
        "EXPOSE ",
        "VOLUME ",
        "RUNN ",
        "# ",
        "# escape=`\n",
        "# syntax=x\n",
        "--from=",
        "--mount=",
        "--",
        "--link ",
        "NONE",
        "<<EOF",
        "<<-EOF",
        "<<'E F'",
        "EOF",
        "\nEOF\n",
        "3<<X\n",
        "\nX\n",
        "[",
        "]",
        "[\"a\", \"b\"]",
        "{}",
        "\"",
        "'",
        "\\",
        "`",
        "\\\n",
        "\\ \n",
        "\n",
        "\r\n",
        " ",
        "\t",
        "$",
        "${",
        "}",
        "${a:-",
        "=",
        "a=b ",
        "a",
        "b ",
        ",",
        "é",
        "ONBUILD \\\n",
        "\\\n \u{2003}ONBUILD ",
        "à",
        "\u{a0}",
        "\u{feff}",
        "漢",
        "\0",
        "\u{85}",
    ];
    let piece = prop_oneof![
        40 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| {
        let mut text = b"FROM scratch\n".to_vec();
        text.extend(pieces.concat());
        text
    })
}

/// All places in an instruction, however deep.
fn spans(instruction: &Instruction) -> Vec<Span> {
    let mut spans = vec![instruction.span, instruction.keyword.span];
    spans.extend(instruction.flags.iter().map(|flag| flag.span));
    spans.extend(words(&instruction.kind).into_iter().map(|word| word.span));
    match &instruction.kind {
        InstructionKind::Run(run) => spans.extend(run.heredocs.iter().map(|heredoc| heredoc.span)),
        InstructionKind::Copy(copy) => spans.extend(copy.files.iter().map(|file| file.span)),
        InstructionKind::Add(add) => spans.extend(add.files.iter().map(|file| file.span)),
        InstructionKind::OnBuild(on_build) => match &on_build.trigger {
            Ok(trigger) => spans.extend(self::spans(trigger)),
            Err(errors) => spans.extend(errors.iter().map(|error| error.span)),
        },
        _ => {}
    }
    spans
}

/// The words of an instruction that are not values of flags.
fn words(kind: &InstructionKind) -> Vec<&Word> {
    match kind {
        InstructionKind::Add(add) => add.sources.iter().chain([&add.destination]).collect(),
        InstructionKind::Copy(copy) => copy.sources.iter().chain([&copy.destination]).collect(),
        InstructionKind::Arg(arg) => {
            arg.args.iter().flat_map(|arg| [&arg.key].into_iter().chain(&arg.default)).collect()
        }
        InstructionKind::Env(env) => {
            env.pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect()
        }
        InstructionKind::Label(label) => {
            label.pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect()
        }
        InstructionKind::Expose(expose) => expose.ports.iter().collect(),
        InstructionKind::Volume(volume) => volume.paths.iter().collect(),
        InstructionKind::User(user) => vec![&user.user],
        InstructionKind::Workdir(workdir) => vec![&workdir.path],
        InstructionKind::StopSignal(stop) => vec![&stop.signal],
        InstructionKind::Maintainer(maintainer) => vec![&maintainer.name],
        _ => Vec::new(),
    }
}

fn check(text: &[u8]) -> Result<(), TestCaseError> {
    let lines = text.split(|&byte| byte == b'\n').count();
    drop(detect_syntax(text));
    let file = match Dockerfile::parse("Dockerfile", text) {
        Ok(file) => file,
        Err(errors) => {
            prop_assert!(errors.has_errors());
            for error in errors.items() {
                prop_assert!(
                    error.span.start <= error.span.end && error.span.end <= text.len(),
                    "{error:?}"
                );
            }
            prop_assert!(!errors.to_string().is_empty());
            return Ok(());
        }
    };
    let mut last_line = 0;
    let mut last_byte = 0;
    for stage in &file.stages {
        let from = &stage.from;
        let headers = [(&from.span, &from.lines)];
        let others =
            stage.instructions.iter().map(|instruction| (&instruction.span, &instruction.lines));
        for (span, range) in headers.into_iter().chain(others) {
            prop_assert!(
                *range.start() > last_line && range.start() <= range.end(),
                "{range:?} after {last_line}"
            );
            prop_assert!(*range.end() as usize <= lines);
            prop_assert!(
                span.start >= last_byte && span.start <= span.end && span.end <= text.len()
            );
            prop_assert_eq!(file.source.line(span.start), *range.start());
            prop_assert_eq!(file.source.line(span.end), *range.end());
            last_line = *range.end();
            last_byte = span.end;
        }
        for instruction in &stage.instructions {
            for span in spans(instruction) {
                prop_assert!(span.start <= span.end, "{span:?}");
                prop_assert!(
                    span.start >= instruction.span.start && span.end <= instruction.span.end,
                    "{span:?}"
                );
            }
            for word in words(&instruction.kind) {
                let written = &text[word.span.start..word.span.end];
                let is_one_piece = !written.iter().any(|&byte| matches!(byte, b'"' | b'\n'));
                if written.len() == word.len()
                    && is_one_piece
                    && std::str::from_utf8(written).is_ok()
                {
                    prop_assert_eq!(written, word.as_bytes());
                }
            }
            read_again(&file, instruction)?;
        }
    }
    prop_assert!(file.warnings.iter().all(|warning| !warning.is_error()));
    prop_assert!(!file.to_string().is_empty());
    Ok(())
}

/// The joined text of an instruction, with its bodies behind it, is the same instruction.
fn read_again(file: &Dockerfile, instruction: &Instruction) -> Result<(), TestCaseError> {
    let mut text = format!("# escape={}\nFROM x\n{}", file.escape.as_char(), instruction.original);
    match &instruction.kind {
        InstructionKind::Run(run) => {
            for heredoc in &run.heredocs {
                text.extend(["\n", &heredoc.content, &heredoc.name]);
            }
        }
        // Their bodies are not kept as they were written.
        _ if instruction.original.contains("<<") => return Ok(()),
        _ => {}
    }
    let again = Dockerfile::parse("again", text.as_bytes());
    let again = again.map_err(|errors| TestCaseError::fail(format!("{text:?}: {errors}")))?;
    let kinds: Vec<_> = again
        .stages
        .iter()
        .flat_map(|stage| &stage.instructions)
        .map(|again| again.kind.to_string())
        .collect();
    prop_assert_eq!(kinds, [instruction.kind.to_string()], "{:?}", text);
    if let InstructionKind::OnBuild(on_build) = &instruction.kind {
        let trigger = parse_trigger(&on_build.text).map(|trigger| trigger.kind.to_string());
        let known = on_build.trigger.as_ref().map(|trigger| trigger.kind.to_string());
        prop_assert_eq!(trigger.ok(), known.ok(), "{:?}", on_build.text);
    }
    Ok(())
}

/// The Dockerfiles of the golden folders: texts that reach every corner of the parser.
fn written() -> Vec<Vec<u8>> {
    let folders = ["testdata/dockerfile", "testdata/lint", "testdata/plan"];
    folders
        .iter()
        .flat_map(|folder| testkit::cases(folder))
        .filter_map(|case| case.bytes_if_present("Dockerfile"))
        .collect()
}

/// A change of a text; places are parts of its length.
#[derive(Clone, Debug)]
enum Damage {
    Cut(f64, usize),
    Repeat(f64, usize),
    Put(f64, &'static str),
    Byte(f64, u8),
    /// The rest of another text.
    Splice(f64, prop::sample::Index, f64),
}

fn damage() -> impl Strategy<Value = Damage> {
    const TOKENS: &[&str] = &[
        "\n", "\r\n", "\\\n", "\\", "`", "\"", "'", "<<", "<<-E\n", "\nE\n", "$", "${", "}", "[",
        "]", "#", "=", "--", "--from=", "ONBUILD ", "\u{feff}", "\u{a0}", " ", "\t",
    ];
    let place = || 0.0..1.0;
    prop_oneof![
        (place(), 1..40_usize).prop_map(|(at, length)| Damage::Cut(at, length)),
        (place(), 1..40_usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        (place(), prop::sample::select(TOKENS)).prop_map(|(at, token)| Damage::Put(at, token)),
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (place(), any::<prop::sample::Index>(), place())
            .prop_map(|(at, other, from)| Damage::Splice(at, other, from)),
    ]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a part of a small length"
)]
fn place(length: usize, part: f64) -> usize {
    ((length as f64 * part) as usize).min(length)
}

fn damaged(mut text: Vec<u8>, all: &[Vec<u8>], damage: &[Damage]) -> Vec<u8> {
    for change in damage {
        match change {
            Damage::Cut(at, length) => {
                let at = place(text.len(), *at);
                let end = text.len().min(at + length);
                text.drain(at..end);
            }
            Damage::Repeat(at, length) => {
                let at = place(text.len(), *at);
                let part = text[at..text.len().min(at + length)].to_vec();
                text.splice(at..at, part);
            }
            Damage::Put(at, token) => {
                let at = place(text.len(), *at);
                text.splice(at..at, token.bytes());
            }
            Damage::Byte(at, byte) => {
                let at = place(text.len(), *at);
                if let Some(old) = text.get_mut(at) {
                    *old = *byte;
                }
            }
            Damage::Splice(at, other, from) => {
                text.truncate(place(text.len(), *at));
                let other = other.get(all);
                text.extend(&other[place(other.len(), *from)..]);
            }
        }
    }
    text
}

/// Mutations of files that mean something get further than random text does.
#[test]
fn damaged_files_do_no_harm() {
    let all = written();
    assert!(all.len() > 20, "{} texts are too few to start from", all.len());
    let config = ProptestConfig {
        cases: 1_000,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let damage = prop::collection::vec(damage(), 1..6);
    proptest::test_runner::TestRunner::new(config)
        .run(&(any::<prop::sample::Index>(), damage), |(text, damage)| {
            check(&damaged(text.get(&all).clone(), &all, &damage))
        })
        .unwrap();
}

proptest! {
    // A fixed seed: a test that fails once in a while teaches to ignore it. Raise `cases` and change the seed to search.
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn places_are_right_in_whatever_looks_like_a_dockerfile(text in soup()) {
        check(&text)?;
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(text in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&text)?;
        drop(parse_trigger(&String::from_utf8_lossy(&text)));
    }
}

/// What is quadratic takes more than the two minutes after which a test is ended.
#[test]
fn long_texts_take_time_in_proportion() {
    let continued = format!("FROM x\nRUN a \\\n{}", "b \\\n".repeat(50_000));
    let file = Dockerfile::parse("Dockerfile", continued.as_bytes()).unwrap();
    let InstructionKind::Run(run) = &file.stages[0].instructions[0].kind else {
        panic!("it is a RUN")
    };
    assert!(matches!(&run.command, Command::Shell(text) if text.len() == 100_001));

    let words = format!("FROM x\nCOPY {}\n", "a \\\n".repeat(50_000));
    assert!(Dockerfile::parse("Dockerfile", words.as_bytes()).is_ok());

    let body = format!("FROM x\nRUN <<EOF\n{}EOF\n", "x\n".repeat(50_000));
    assert!(Dockerfile::parse("Dockerfile", body.as_bytes()).is_ok());

    let files = format!("FROM x\n{}", "ENV a=b\n".repeat(50_000));
    assert!(Dockerfile::parse("Dockerfile", files.as_bytes()).is_ok());
}
