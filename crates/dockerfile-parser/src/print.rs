//! Prints syntax, one line for each instruction. Golden tests compare it, and people read it.
//!
//! Each line has the numbers of the lines it was written on, the name of the instruction, and its parts in quotes, as
//! they are before expansion. Parts that were not written are not printed.

use std::fmt::{self, Display, Formatter};

use crate::ast::{
    Add, Arg, Command, Copy, Dockerfile, Escape, Healthcheck, Heredoc, InlineFile, Instruction,
    InstructionKind, KeyValue, OnBuild, Run, Stage,
};
use crate::source::{Spanned, Word};

impl Display for Dockerfile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let directives = &self.directives;
        for (name, directive) in [("syntax", &directives.syntax), ("check", &directives.check)] {
            if let Some(directive) = directive {
                writeln!(f, "{:<7}# {name} {:?}", directive.line, directive.value.value)?;
            }
        }
        if self.escape != Escape::default() {
            writeln!(f, "       # escape {:?}", self.escape.as_char())?;
        }
        for arg in &self.meta_args {
            header(f, arg)?;
            writeln!(f, "ARG{}", Print(&arg.kind))?;
        }
        for stage in &self.stages {
            stage.fmt(f)?;
        }
        for warning in &self.warnings {
            writeln!(f, "{:<7}warning: {}", self.source.line(warning.span.start), warning.message)?;
        }
        Ok(())
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let from = &self.from.kind;
        header(f, &self.from)?;
        write!(f, "FROM {:?}", from.image.value)?;
        option(f, "platform", from.platform.as_ref())?;
        option(f, "as", from.name.as_ref())?;
        writeln!(f)?;
        for instruction in &self.instructions {
            header(f, instruction)?;
            writeln!(f, "{}", instruction.kind)?;
        }
        Ok(())
    }
}

fn header<K>(f: &mut Formatter<'_>, instruction: &Instruction<K>) -> fmt::Result {
    let (first, last) = (instruction.lines.start(), instruction.lines.end());
    let lines = if first == last { first.to_string() } else { format!("{first}-{last}") };
    write!(f, "{lines:<7}")
}

/// Prints parts of an instruction, each after a space.
struct Print<T>(T);

impl Display for InstructionKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Add(add) => Print(add).fmt(f),
            Self::Arg(arg) => Print(arg).fmt(f),
            Self::Cmd(cmd) => Print(&cmd.command).fmt(f),
            Self::Copy(copy) => Print(copy).fmt(f),
            Self::Entrypoint(entrypoint) => Print(&entrypoint.command).fmt(f),
            Self::Env(env) => Print(&env.pairs[..]).fmt(f),
            Self::Expose(expose) => words(f, &expose.ports),
            Self::Healthcheck(check) => Print(check).fmt(f),
            Self::Label(label) => Print(&label.pairs[..]).fmt(f),
            Self::Maintainer(maintainer) => words(f, [&maintainer.name]),
            Self::OnBuild(on_build) => Print(on_build).fmt(f),
            Self::Run(run) => Print(run).fmt(f),
            Self::Shell(shell) => write!(f, " {:?}", shell.argv),
            Self::StopSignal(stop) => words(f, [&stop.signal]),
            Self::User(user) => words(f, [&user.user]),
            Self::Volume(volume) => words(f, &volume.paths),
            Self::Workdir(workdir) => words(f, [&workdir.path]),
        }
    }
}

fn words<'a>(f: &mut Formatter<'_>, words: impl IntoIterator<Item = &'a Word>) -> fmt::Result {
    words.into_iter().try_for_each(|word| write!(f, " {:?}", word.value))
}

fn option(f: &mut Formatter<'_>, name: &str, value: Option<&Word>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {name}={:?}", value.value))
}

fn switch(f: &mut Formatter<'_>, name: &str, value: Option<Spanned<bool>>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {name}={}", value.value))
}

fn files(f: &mut Formatter<'_>, files: &[InlineFile]) -> fmt::Result {
    files.iter().try_for_each(|file| {
        let expand = if file.expand { "" } else { " literal" };
        write!(f, " file({:?}{expand} {:?})", file.name, file.content)
    })
}

impl Display for Print<&Command> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Command::Shell(text) => write!(f, " shell {text:?}"),
            Command::Exec(argv) => write!(f, " exec {argv:?}"),
        }
    }
}

impl Display for Print<&Run> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let run = self.0;
        Print(&run.command).fmt(f)?;
        for mount in &run.mounts {
            option(f, "mount", Some(mount))?;
        }
        if let Some(network) = run.network {
            write!(f, " network={:?}", network.value)?;
        }
        if let Some(security) = run.security {
            write!(f, " security={:?}", security.value)?;
        }
        for device in &run.devices {
            write!(
                f,
                " device={:?}{}",
                device.name,
                if device.required { " required" } else { "" }
            )?;
        }
        run.heredocs.iter().try_for_each(|heredoc| Print(heredoc).fmt(f))
    }
}

impl Display for Print<&Heredoc> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Heredoc { name, content, expand, chomp, file_descriptor, .. } = self.0;
        f.write_str(" heredoc(")?;
        if *file_descriptor != 0 {
            write!(f, "{file_descriptor} ")?;
        }
        write!(f, "{name:?}")?;
        if !expand {
            f.write_str(" literal")?;
        }
        if *chomp {
            f.write_str(" chomp")?;
        }
        write!(f, " {content:?})")
    }
}

impl Display for Print<&Copy> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let copy = self.0;
        words(f, &copy.sources)?;
        files(f, &copy.files)?;
        write!(f, " to {:?}", copy.destination.value)?;
        option(f, "from", copy.from.as_ref())?;
        option(f, "chown", copy.chown.as_ref())?;
        option(f, "chmod", copy.chmod.as_ref())?;
        switch(f, "link", copy.link)?;
        switch(f, "parents", copy.parents)?;
        copy.exclude.iter().try_for_each(|exclude| option(f, "exclude", Some(exclude)))
    }
}

impl Display for Print<&Add> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let add = self.0;
        words(f, &add.sources)?;
        files(f, &add.files)?;
        write!(f, " to {:?}", add.destination.value)?;
        option(f, "chown", add.chown.as_ref())?;
        option(f, "chmod", add.chmod.as_ref())?;
        switch(f, "link", add.link)?;
        switch(f, "keep-git-dir", add.keep_git_dir)?;
        option(f, "checksum", add.checksum.as_ref())?;
        switch(f, "unpack", add.unpack)?;
        add.exclude.iter().try_for_each(|exclude| option(f, "exclude", Some(exclude)))
    }
}

impl Display for Print<&[KeyValue]> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|pair| {
            let between = if pair.legacy { ' ' } else { '=' };
            write!(f, " {:?}{between}{:?}", pair.key.value, pair.value.value)
        })
    }
}

impl Display for Print<&Arg> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.args.iter().try_for_each(|arg| {
            write!(f, " {:?}", arg.key.value)?;
            arg.default.as_ref().map_or(Ok(()), |default| write!(f, "={:?}", default.value))
        })
    }
}

impl Display for Print<&Healthcheck> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Healthcheck::Check {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } = self.0
        else {
            return f.write_str(" NONE");
        };
        Print(command).fmt(f)?;
        for (name, time) in [
            ("interval", interval),
            ("timeout", timeout),
            ("start-period", start_period),
            ("start-interval", start_interval),
        ] {
            if !time.is_zero() {
                write!(f, " {name}={time:?}")?;
            }
        }
        if *retries > 0 { write!(f, " retries={retries}") } else { Ok(()) }
    }
}

impl Display for Print<&OnBuild> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {:?}", self.0.text)?;
        match &self.0.trigger {
            Ok(trigger) => write!(f, "\n       -> {}", trigger.kind),
            Err(_) => f.write_str("\n       -> wrong"),
        }
    }
}
