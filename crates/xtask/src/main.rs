//! The project's own chores. `cargo xtask` without arguments lists them.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a chore starts processes, reads and writes files and talks to the person who asked for it"
)]

mod bench;
mod binary;
mod checks;
mod conform;
mod demo;
mod deny;
mod images;
mod oracle;
mod packages;
mod progress;
mod tidy;

use std::process::ExitCode;

use anyhow::bail;

/// A name, one line about it, and what it does with the arguments after its name.
struct Chore {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const CHORES: [Chore; 10] = [
    Chore {
        name: "demo",
        about: "build the static binary, and with it the executor image and a hello image, into target/images and target/demo",
        run: |args| no_arguments(args).and_then(|()| demo::run()),
    },
    Chore {
        name: "test",
        about: "install what the tests need and run every check; --unprivileged leaves out what needs root",
        run: checks::run,
    },
    Chore {
        name: "tidy",
        about: "compare the documents and the sources with each other",
        run: |args| no_arguments(args).and_then(|()| tidy::run()),
    },
    Chore {
        name: "bless",
        about: "rewrite the golden files; read the diff before committing",
        run: |args| no_arguments(args).and_then(|()| checks::bless()),
    },
    Chore {
        name: "image",
        about: "build the executor image alone, into target/images/executor.tar",
        run: |args| no_arguments(args).and_then(|()| demo::image()),
    },
    Chore {
        name: "images",
        about: "build all of ebiko's images, into target/images: [--arch amd64|arm64]… [--busybox PATH]… [IMAGE…]",
        run: images::run,
    },
    Chore {
        name: "conform",
        about: "run recorded facts about BuildKit: DIR [--place pod|private] [--only REGEX] [--json FILE]",
        run: conform::run,
    },
    Chore {
        name: "bench",
        about: "measure builds against other builders, or parser, walk, micro; docs/benchmarks.md tells the flags",
        run: bench::run,
    },
    Chore {
        name: "deny",
        about: "check licences, sources and duplicates of what we depend on",
        run: |args| no_arguments(args).and_then(|()| deny::run()),
    },
    Chore {
        name: "oracle",
        about: "build testdata/build with BuildKit and compare; --record records what BuildKit makes of it",
        run: oracle::run,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> anyhow::Result<()> {
    let Some((name, rest)) = args.split_first() else {
        for Chore { name, about, .. } in CHORES {
            println!("cargo xtask {name:<7} {about}");
        }
        return Ok(());
    };
    match CHORES.iter().find(|chore| chore.name == name) {
        Some(chore) => (chore.run)(rest),
        None => bail!("there is no chore `{name}`; `cargo xtask` lists them"),
    }
}

fn no_arguments(args: &[String]) -> anyhow::Result<()> {
    match args.first() {
        None => Ok(()),
        Some(first) => bail!("this chore takes no arguments, but got `{first}`"),
    }
}
