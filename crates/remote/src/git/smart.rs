//! Servers that know git: both versions of the protocol, over HTTP and SSH.

use std::io::{BufReader, Read};
use std::num::NonZero;

use super::GitErrorKind;
use super::object_id::ObjectId;
use super::packet::{self, Packet, SideBand};
use super::refs::{Advertised, Refs, candidates};
use super::server::{Greeting, Server, receive};
use super::store::Store;

/// How many bytes of names a server may have: a million names.
pub(crate) const MAX_NAMES: usize = 128 << 20;

/// How a server speaks.
pub(crate) enum Dialect {
    /// Names are asked for, and any commit.
    Second { capabilities: Vec<String> },
    /// All names came at once.
    First { capabilities: Vec<String>, refs: Refs },
    /// It knows nothing of git; there are only files. This is the list of names.
    Files { refs: Refs },
}

/// Asks the server how it speaks.
pub(crate) fn greet(server: &Server<'_>) -> Result<Dialect, GitErrorKind> {
    let answer = match server.discover()? {
        Greeting::Git(answer) => answer,
        Greeting::File(text) => {
            return Ok(Dialect::Files { refs: super::dumb::refs(server, &text)? });
        }
    };
    let mut lines = Lines::new(answer);
    let mut first = lines.next()?;
    if first.as_deref().is_some_and(|line| line.starts_with(b"# service=")) {
        while lines.next()?.is_some() {}
        first = lines.next()?;
    }
    match first.as_deref() {
        Some(b"version 2") => {
            let mut capabilities = Vec::new();
            while let Some(line) = lines.next()? {
                capabilities.push(String::from_utf8_lossy(&line).into_owned());
            }
            check_format(&capabilities)?;
            Ok(Dialect::Second { capabilities })
        }
        Some(b"version 1") => {
            let first = lines.next()?;
            first_version(first, &mut lines)
        }
        _ => first_version(first, &mut lines),
    }
}

fn first_version(
    first: Option<Vec<u8>>,
    lines: &mut Lines<impl Read>,
) -> Result<Dialect, GitErrorKind> {
    let mut capabilities = Vec::new();
    let mut refs = Refs::default();
    let mut next = first;
    while let Some(line) = next {
        let (line, said) = match line.iter().position(|byte| *byte == 0) {
            Some(end) => line.split_at_checked(end).unwrap_or_default(),
            None => (line.as_slice(), [].as_slice()),
        };
        for word in String::from_utf8_lossy(said).trim_start_matches('\0').split(' ') {
            if let Some(target) = word.strip_prefix("symref=HEAD:") {
                refs.default = Some(target.to_owned());
            }
            capabilities.push(word.to_owned());
        }
        check_format(&capabilities)?;
        if !line.starts_with(b"shallow ") {
            push_ref(&mut refs, line, b' ')?;
        }
        next = lines.next()?;
    }
    Ok(Dialect::First { capabilities, refs })
}

/// Adds a line of `ID name`; `name^{}` says what the tag before it points to.
pub(crate) fn push_ref(refs: &mut Refs, line: &[u8], separator: u8) -> Result<(), GitErrorKind> {
    let bad = || GitErrorKind::NotGit { reason: "the list of names is malformed".into() };
    let place = line.iter().position(|byte| *byte == separator).ok_or_else(bad)?;
    let (id, name) = line.split_at_checked(place).ok_or_else(bad)?;
    if id.len() == 64 {
        return Err(GitErrorKind::Format);
    }
    let id = ObjectId::parse(id).ok_or_else(bad)?;
    // Names that are no text cannot be asked for in a Dockerfile.
    let Ok(name) = std::str::from_utf8(name.get(1..).unwrap_or_default()) else { return Ok(()) };
    if name == "capabilities^{}" {
        return Ok(());
    }
    match (name.strip_suffix("^{}"), refs.refs.last_mut()) {
        (Some(tag), Some(last)) if last.name == tag => last.peeled = Some(id),
        (Some(_), _) => {}
        (None, _) => refs.refs.push(Advertised { name: name.to_owned(), id, peeled: None }),
    }
    Ok(())
}

fn check_format(capabilities: &[String]) -> Result<(), GitErrorKind> {
    match capabilities.iter().find_map(|word| word.strip_prefix("object-format=")) {
        None | Some("sha1") => Ok(()),
        Some(_) => Err(GitErrorKind::Format),
    }
}

/// Asks for the names that `reference` may stand for, or for all.
pub(crate) fn ls_refs(server: &Server<'_>, reference: Option<&str>) -> Result<Refs, GitErrorKind> {
    let mut message = Vec::new();
    packet::write(&mut message, "command=ls-refs\n");
    packet::write(&mut message, "agent=ebiko\n");
    packet::write(&mut message, "object-format=sha1\n");
    message.extend_from_slice(packet::DELIMITER);
    packet::write(&mut message, "peel\n");
    packet::write(&mut message, "symrefs\n");
    packet::write(&mut message, "ref-prefix HEAD\n");
    for name in reference.map(candidates).into_iter().flatten() {
        // A packet has an end; a name that does not fit in one is nowhere.
        if name.len() < 4096 && !name.contains('\n') {
            packet::write(&mut message, &format!("ref-prefix {name}\n"));
        }
    }
    if reference.is_none() {
        packet::write(&mut message, "ref-prefix refs/\n");
    }
    message.extend_from_slice(packet::FLUSH);
    let mut lines = Lines::new(server.ask(message, true)?);
    let mut refs = Refs::default();
    while let Some(line) = lines.next()? {
        let text = String::from_utf8_lossy(&line).into_owned();
        let mut words = text.split(' ');
        // An unborn branch has no object.
        let (Some(id), Some(name)) = (words.next(), words.next()) else { continue };
        let mut peeled = None;
        for word in words {
            if let Some(target) = word.strip_prefix("symref-target:").filter(|_| name == "HEAD") {
                refs.default = Some(target.to_owned());
            }
            peeled = peeled.or_else(|| {
                word.strip_prefix("peeled:").map(str::as_bytes).and_then(ObjectId::parse)
            });
        }
        if id != "unborn" {
            push_ref(&mut refs, format!("{id} {name}").as_bytes(), b' ')?;
            if let Some(last) = refs.refs.last_mut() {
                last.peeled = peeled;
            }
        }
    }
    Ok(refs)
}

/// Whether the server can leave out what came before a commit.
pub(crate) fn is_shallow(dialect: &Dialect) -> bool {
    match dialect {
        Dialect::Second { capabilities } => capabilities.iter().any(|capability| {
            capability
                .strip_prefix("fetch=")
                .is_some_and(|features| features.split(' ').any(|feature| feature == "shallow"))
        }),
        Dialect::First { capabilities, .. } => capabilities.iter().any(|word| word == "shallow"),
        // There it is ours to leave it out.
        Dialect::Files { .. } => true,
    }
}

/// Fetches `wants` into the store with `depth` commits each, or with all that came before them. Gives the commits
/// whose parents were left out.
pub(crate) fn fetch(
    server: &Server<'_>,
    dialect: &Dialect,
    wants: &[ObjectId],
    depth: Option<NonZero<u32>>,
    store: &mut Store,
) -> Result<Vec<ObjectId>, GitErrorKind> {
    let mut shallow = Vec::new();
    match dialect {
        Dialect::Second { .. } => {
            let mut message = Vec::new();
            packet::write(&mut message, "command=fetch");
            packet::write(&mut message, "agent=ebiko");
            packet::write(&mut message, "object-format=sha1");
            message.extend_from_slice(packet::DELIMITER);
            packet::write(&mut message, "ofs-delta\n");
            if let Some(depth) = depth {
                packet::write(&mut message, &format!("deepen {depth}\n"));
            }
            for want in wants {
                packet::write(&mut message, &format!("want {want}\n"));
            }
            packet::write(&mut message, "done\n");
            message.extend_from_slice(packet::FLUSH);
            let mut lines = Lines::new(server.ask(message, true)?);
            loop {
                match lines.next()?.as_deref() {
                    Some(b"packfile") => break,
                    Some(b"shallow-info") => {
                        while let Some(line) = lines.next()? {
                            shallow.extend(shallow_line(&line));
                        }
                    }
                    Some(_) => while lines.next()?.is_some() {},
                    None => return Err(no_pack()),
                }
            }
            receive_pack(server, &mut SideBand::new(lines.input), store)?;
        }
        Dialect::First { capabilities, .. } => {
            let has = |name: &str| capabilities.iter().any(|word| word == name);
            let is_banded = has("side-band-64k");
            let mut words = String::from("agent=ebiko");
            for word in ["ofs-delta", "side-band-64k"].into_iter().filter(|word| has(word)) {
                words = format!("{word} {words}");
            }
            let mut message = Vec::new();
            for want in wants {
                packet::write(&mut message, &format!("want {want} {words}\n"));
                words.clear();
            }
            if let Some(depth) = depth {
                packet::write(&mut message, &format!("deepen {depth}\n"));
            }
            message.extend_from_slice(packet::FLUSH);
            packet::write(&mut message, "done\n");
            let mut lines = Lines::new(server.ask(message, false)?);
            if depth.is_some() {
                while let Some(line) = lines.next()? {
                    shallow.extend(shallow_line(&line));
                }
            }
            // "NAK": nothing in common, as nothing was offered.
            lines.next()?.ok_or_else(no_pack)?;
            if is_banded {
                receive_pack(server, &mut SideBand::new(lines.input), store)?;
            } else {
                receive_pack(server, &mut lines.input, store)?;
            }
        }
        Dialect::Files { .. } => return Err(no_pack()),
    }
    Ok(shallow)
}

fn no_pack() -> GitErrorKind {
    GitErrorKind::NotGit { reason: "there is no pack in the answer".into() }
}

fn shallow_line(line: &[u8]) -> Option<ObjectId> {
    line.strip_prefix(b"shallow ").and_then(ObjectId::parse)
}

fn receive_pack(
    server: &Server<'_>,
    body: &mut dyn Read,
    store: &mut Store,
) -> Result<(), GitErrorKind> {
    let (path, file) = server.spool(body, store)?;
    Ok(store.add_pack(&path, file, server.network.is_interrupted)?)
}

/// Reads lines up to the end of each section.
struct Lines<R> {
    input: BufReader<R>,
    left: usize,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(64 << 10, input), left: MAX_NAMES }
    }

    /// `None` at the end of a section, a message or the stream.
    fn next(&mut self) -> Result<Option<Vec<u8>>, GitErrorKind> {
        let Some(Packet::Data(data)) = packet::read(&mut self.input).map_err(receive)? else {
            return Ok(None);
        };
        self.left = self
            .left
            .checked_sub(data.len().max(1))
            .ok_or(GitErrorKind::NotGit { reason: "it has too many names".into() })?;
        match data.strip_prefix(b"ERR ") {
            Some(message) => Err(GitErrorKind::Said { message: packet::said(message) }),
            None => Ok(Some(packet::line(&data).to_vec())),
        }
    }
}
