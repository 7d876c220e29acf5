//! `COPY` and `ADD`.

use dockerfile_parser::{Add, Copy, Diagnostic, Word};

use super::StageContext;
use super::config::Lowered;
use super::stage::StageState;
use crate::actions::{
    Action, CopyAction, CopyFrom, CopySource, DownloadSource, InlineFile, Unpack,
};
use crate::chmod::ModeChange;
use crate::expand::{Expander, Quotes};
use crate::git::GitAddress;
use crate::{Habit, download, go};

impl StageContext<'_> {
    pub(super) fn copy(&self, state: &StageState, copy: &Copy) -> Result<Lowered, Diagnostic> {
        let from = match copy.from.as_ref().filter(|from| !from.is_empty()) {
            None => CopyFrom::Context,
            Some(from) => {
                let source = self.graph.copy_source(from)?;
                self.read_from(source).ok_or_else(|| {
                    let message = format!(
                        "cannot copy from stage {}, it needs to be defined before current stage {}",
                        go::quote(from),
                        go::quote(&self.graph.shown_name(self.id)),
                    );
                    Diagnostic::error(from.span, message)
                })?
            }
        };
        let words = Words {
            name: "COPY",
            sources: &copy.sources,
            files: &copy.files,
            destination: &copy.destination,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            exclude: &copy.exclude,
            link: copy.link.is_some_and(|link| link.value),
            parents: copy.parents.is_some_and(|parents| parents.value),
        };
        let source = |word: &Word, source: &str| {
            let refuse = |message: &str| Err(Diagnostic::error(word.span, message));
            match git_address(word, source)? {
                Some(_) => refuse("source can't be a git ref for COPY"),
                None if download::is_download(source) => refuse("source can't be a URL for COPY"),
                None => path(state, word, source, words.parents),
            }
        };
        self.copied(state, &words, from, Unpack::Nothing, source)
    }

    pub(super) fn add(&self, state: &StageState, add: &Add) -> Result<Lowered, Diagnostic> {
        let words = Words {
            name: "ADD",
            sources: &add.sources,
            files: &add.files,
            destination: &add.destination,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            exclude: &add.exclude,
            link: add.link.is_some_and(|link| link.value),
            parents: false,
        };
        let checksum = self.given_value(state, add.checksum.as_ref())?;
        let unpack = match add.unpack {
            None => Unpack::Local,
            Some(unpack) if unpack.value => Unpack::Everything,
            Some(_) => Unpack::Nothing,
        };
        let keep_git_dir = add.keep_git_dir.map(|keeps| keeps.value);
        let source = |word: &Word, source: &str| {
            let text = checksum.as_ref().map(|checksum| checksum.value.as_str());
            match git_address(word, source)? {
                Some(address) => address
                    .added(keep_git_dir, text)
                    .map(CopySource::Git)
                    .map_err(|error| Diagnostic::error(word.span, error.to_string())),
                None if download::is_download(source) => {
                    DownloadSource::new(source, text).map(CopySource::Download).map_err(|message| {
                        let span = checksum.as_ref().map_or(word.span, |checksum| checksum.span);
                        Diagnostic::error(span, message)
                    })
                }
                None => path(state, word, source, false),
            }
        };
        if let Some(checksum) = &checksum {
            let refuse = |message| Err(Diagnostic::error(checksum.span, message));
            let [word] = &add.sources[..] else {
                return refuse("checksum can't be specified for multiple sources");
            };
            let text = state.expand(self.expander(), word)?;
            if git_address(word, &text)?.is_none() && !download::is_download(&text) {
                return refuse("checksum requires HTTP(S) or Git sources");
            }
        }
        self.copied(state, &words, CopyFrom::Context, unpack, source)
    }

    /// The value of a flag, expanded. A flag without a value counts as not given.
    fn given_value(
        &self,
        state: &StageState,
        word: Option<&Word>,
    ) -> Result<Option<Word>, Diagnostic> {
        let expanded = |word: &Word| {
            state.expand(self.expander(), word).map(|text| Word::new(text, word.span))
        };
        Ok(word.map(expanded).transpose()?.filter(|value| !value.is_empty()))
    }

    fn copied(
        &self,
        state: &StageState,
        words: &Words<'_>,
        from: CopyFrom,
        unpack: Unpack,
        source: impl Fn(&Word, &str) -> Result<CopySource, Diagnostic>,
    ) -> Result<Lowered, Diagnostic> {
        let chown = self.given_value(state, words.chown)?;
        let chmod = self.given_value(state, words.chmod)?;
        let mode: Option<ModeChange> = match &chmod {
            Some(text) => Some(text.parse().map_err(|error: crate::ModeError| {
                Diagnostic::error(text.span, error.to_string())
            })?),
            None => None,
        };
        let mut history = vec![words.name.to_owned()];
        history.extend(words.parents.then(|| "--parents".to_owned()));
        history.extend(chown.as_ref().map(|owner| format!("--chown={owner}")));
        history.extend(chmod.map(|mode| format!("--chmod={mode}")));
        let mut sources = Vec::new();
        for word in words.sources {
            let text = state.expand(self.expander(), word)?;
            sources.push(source(word, &text)?);
            history.push(text);
        }
        let files = words.files.iter().map(|file| self.inline_file(state, file));
        let files = files.collect::<Result<Vec<_>, Diagnostic>>()?;
        history.extend(words.files.iter().map(|file| format!("<<{}", file.name)));
        let written = state.expand(self.expander(), words.destination)?;
        let destination = state
            .system()
            .destination(&state.work_dir(), &written)
            .map_err(|message| Diagnostic::error(words.destination.span, message))?;
        history.extend([written, "# buildkit".to_owned()]);
        let takes_user = chown.is_none() && from == CopyFrom::Context;
        let copy = CopyAction {
            user: match &state.config.config.user {
                user if takes_user && self.has(Habit::CopiesForUser) => user.clone(),
                _ => String::new(),
            },
            from,
            sources,
            files,
            destination,
            chown: chown.map(|owner| owner.value),
            plain_parents: mode.is_some() && self.has(Habit::ParentsWithoutChmod),
            // BuildKit cannot change modes in a layer of its own and makes an ordinary copy then.
            link: words.link && mode.is_none(),
            chmod: mode,
            unpack,
            parents: words.parents,
            exclude: words.exclude.iter().map(|pattern| pattern.value.clone()).collect(),
        };
        Ok(Lowered::layer(history.join(" "), Action::Copy(copy)))
    }

    /// Bodies are expanded with `\` in every file, and quotes are nothing special in them.
    fn inline_file(
        &self,
        state: &StageState,
        file: &dockerfile_parser::InlineFile,
    ) -> Result<InlineFile, Diagnostic> {
        let content = if file.expand && !self.has(Habit::HereDocumentsAsWritten) {
            let expander = Expander { quotes: Quotes::Ignored, ..Expander::new('\\') };
            state.expand_at(expander, &file.content, file.span)?.text
        } else {
            file.content.as_ref().to_owned()
        };
        let name =
            file_name(&file.name).map_err(|message| Diagnostic::error(file.span, message))?;
        Ok(InlineFile { name, content })
    }
}

/// What COPY and ADD have in common.
struct Words<'a> {
    name: &'a str,
    sources: &'a [Word],
    files: &'a [dockerfile_parser::InlineFile],
    destination: &'a Word,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    exclude: &'a [Word],
    link: bool,
    parents: bool,
}

/// A source that is a path.
fn path(
    state: &StageState,
    word: &Word,
    written: &str,
    with_parents: bool,
) -> Result<CopySource, Diagnostic> {
    let source = state.system().source(written, with_parents);
    source.map(CopySource::Path).map_err(|message| Diagnostic::error(word.span, message))
}

/// The repository that `text` is the address of. What could be a path is one.
fn git_address(word: &Word, text: &str) -> Result<Option<GitAddress>, Diagnostic> {
    GitAddress::parse(text)
        .map(|address| address.filter(|address| !address.is_like_a_path))
        .map_err(|error| Diagnostic::error(word.span, error.to_string()))
}

/// The name of a here-document as that of a file in an otherwise empty directory, where BuildKit makes it.
pub(super) fn file_name(name: &str) -> Result<String, String> {
    match go::join_path("/", name).trim_start_matches('/') {
        "" => Err("open /: is a directory".to_owned()),
        path if path.contains('/') => Err(format!("open /{path}: no such file or directory")),
        name => Ok(name.to_owned()),
    }
}
