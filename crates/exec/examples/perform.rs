//! Performs one `RUN` in a directory, in a private root.
//!
//! ```text
//! perform [--user USER] [--cwd PATH] [--env NAME=VALUE]... [--protect PATH]... ROOT COMMAND [ARGUMENT]...
//! ```
//!
//! A protected path is one that belongs to the builder, as in a container. Prints the output of the command, then what failed and what can be done about it. Exits as the
//! command did.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example is a program")]
#![expect(clippy::disallowed_methods, reason = "a program reads its environment")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use ebiko_context::Context;
use ebiko_exec::{Archives, Site, perform};
use ebiko_oci::{Event, Observer, PortError};
use ebiko_plan::{Action, RunAction};
use ebiko_rootfs::{Root, RootOptions, RootPath, Time};
use ebiko_rootless::{Entered, Interrupt, Place, enter_private};

struct Printer;

impl Observer for Printer {
    fn event(&self, event: Event<'_>) {
        if let Event::Output { bytes } = event {
            std::io::stdout().write_all(bytes).ok();
        }
    }
}

struct NoArchives;

impl Archives for NoArchives {
    fn unpack(
        &self,
        _file: &mut File,
        _root: &Root,
        _destination: &RootPath,
        _owner: Option<(u32, u32)>,
    ) -> Result<Option<BTreeSet<RootPath>>, PortError> {
        Ok(None)
    }
}

fn main() -> ExitCode {
    match enter_private(&std::env::var_os("PATH").unwrap_or_default()) {
        Ok(Entered::Ended(ending)) => exit_code(ending.exit_status()),
        Ok(Entered::Inside(place)) => inside(&place).unwrap_or_else(|error| {
            eprintln!("error: {error}");
            exit_code(125)
        }),
        Err(error) => {
            eprintln!("error: {error}\nhint: {}", error.hint());
            exit_code(125)
        }
    }
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(255))
}

fn inside(place: &Place) -> Result<ExitCode, Box<dyn Error>> {
    let mut action = RunAction {
        argv: Vec::new(),
        env: Vec::new(),
        user: String::new(),
        work_dir: "/".to_owned(),
    };
    let mut host_path = String::new();
    let mut options = RootOptions::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--user" => action.user = value(),
            "--protect" => options.protected.push(RootPath::parse(value().as_bytes())?),
            "--cwd" => action.work_dir = value(),
            "--env" => {
                let value = value();
                let (name, value) = value.split_once('=').unwrap_or((&value, ""));
                action.env.push((name.to_owned(), value.to_owned()));
            }
            root => {
                root.clone_into(&mut host_path);
                action.argv.extend(arguments.by_ref());
            }
        }
    }
    let root = Root::open(Path::new(&host_path), options)?;
    let site = Site {
        root: &root,
        context: &Context::open(Path::new(&host_path), None)?,
        stages: &BTreeMap::new(),
        images: &BTreeMap::new(),
        created: Time { secs: 0, nanos: 0 },
        place,
        interrupt: &Interrupt::new()?,
        observer: &Printer,
        archives: &NoArchives,
    };
    let Err(error) = perform(&Action::Run(action), &site) else { return Ok(ExitCode::SUCCESS) };
    println!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        println!("caused by: {error}");
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        println!("hint: {hint}");
    }
    Ok(exit_code(error.exit_status().unwrap_or(1)))
}
