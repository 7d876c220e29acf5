//! Reads Dockerfile text into syntax with source spans, and finds all its errors at once.
//!
//! [`Dockerfile::parse`] reads a file, [`parse_trigger`] the text of one `ONBUILD` from an image config. Both give
//! values whose words are still unexpanded, each with the place where it was written, or [`Diagnostics`] that print
//! with lines and carets. The language is BuildKit's, quirks included; where its messages exist they are used.
//!
//! The crate does not know images, files, or values of build arguments, so what needs them is not judged here: whether
//! a stage exists, a port is a port, or a mount makes sense. [`Mount::parse`] judges a mount once its values are known.
//!
//! To read the code, follow a file through it: lines ([`Source`]) become one text for each instruction, that
//! is divided into a node, and nodes are given types.
//!
//! ```
//! use dockerfile_parser::{Command, Dockerfile, InstructionKind};
//!
//! let file = Dockerfile::parse("Dockerfile", b"FROM alpine AS base\nRUN echo \\\n  hi\n")?;
//! let step = &file.stages[0].instructions[0];
//! assert_eq!(step.original, "RUN echo   hi");
//! assert_eq!(step.lines, 2..=3);
//! let InstructionKind::Run(run) = &step.kind else { panic!("it is a RUN") };
//! assert_eq!(run.command, Command::Shell("echo   hi".to_owned()));
//!
//! let errors = Dockerfile::parse("Dockerfile", b"FROM alpine\nRUNN echo\n").unwrap_err();
//! assert!(errors.to_string().starts_with("error: unknown instruction: RUNN (did you mean RUN?)"));
//! # Ok::<(), dockerfile_parser::Diagnostics>(())
//! ```

mod source;

mod ast;
mod diagnostic;
mod mount;
mod print;
mod render;

mod parse;

mod directive;
mod text;

mod csv;
mod duration;
mod flags;
mod heredoc;
mod instruction;
mod json;
mod node;
mod suggest;
mod words;

pub use csv::fields as comma_separated;
pub use duration::duration;

pub use ast::{
    Add, Arg, ArgItem, Cmd, Command, Copy, Device, Directive, Directives, Dockerfile, Entrypoint,
    Env, Escape, Expose, Flag, From, Healthcheck, Heredoc, InlineFile, Instruction,
    InstructionKind, KeyValue, Label, Maintainer, Network, OnBuild, Run, Security, Shell, Stage,
    StopSignal, User, Volume, Workdir,
};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use directive::detect_syntax;
pub use mount::{Mount, MountError, MountKind, Sharing, byte_size};
pub use parse::{Reading, parse_trigger};
pub use source::{Source, Span, Spanned, Word};
pub use suggest::nearest;
pub use words::quoted_words;
