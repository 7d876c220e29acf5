//! eStargz and zstd:chunked: what the specifications promise a reader, checked byte by byte, and what GNU tar, gzip and zstd
//! see, who know nothing of it.
//!
//! The readers here share no code with the writer but the digest: archives are read by the `tar` crate, JSON by `serde_json`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the oracles need files of their own")]

mod support;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebiko_layer::{
    CompressError, CompressedBlob, Compression, FileBlob, Table, UnpackOptions, compress, spool,
};
use ebiko_oci::{DiffId, Digest, ImageFormat};
use serde_json::Value;
use support::{Place, Tar, chain, describe, output};

const CHUNK: usize = 4 << 20;
const ESTARGZ: Compression = Compression::Estargz { level: 3 };
const ZSTD_CHUNKED: Compression = Compression::ZstdChunked { level: 3 };

/// Does not compress well, and is different for each seed.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    let block: Vec<u8> = (0..length.min(1 << 16)).map(next).collect();
    let mut bytes: Vec<u8> = block.iter().copied().cycle().take(length).collect();
    for (number, block) in bytes.chunks_mut(1 << 16).enumerate() {
        block[0] = number.to_le_bytes()[0];
    }
    bytes
}

/// Everything that a table has to say.
fn everything() -> Vec<u8> {
    let mut tar = Tar::new()
        .directory("bin/")
        .member(b'0', "bin/su", "", 0o4755, b"#!")
        .raw(device())
        .fifo("dev/pipe")
        .file("empty", "")
        .symlink("etc/mtab", "/proc/mounts")
        .pax(b'x', &[("SCHILY.xattr.user.note", "a=b"), ("mtime", "1600000000.123456789")])
        .file("etc/noted", "with an attribute")
        .hard_link("etc/same", "etc/noted")
        .file("gr\u{fc}n", "UTF-8");
    for (index, size) in [1, CHUNK, 2 * CHUNK + 12_345].into_iter().enumerate() {
        let seed = u32::try_from(index).unwrap();
        tar = tar.file(format!("large-{index}"), noise(seed, size));
    }
    for index in 0..3000_u32 {
        tar = tar.file(format!("small-{index:04}"), noise(index, 100));
    }
    for index in 0..2500 {
        tar = tar.directory(format!("without-content-{index:04}/"));
    }
    tar.file("usr/.wh.gone", "").file("z", "the last").end()
}

/// `/dev/null`.
fn device() -> [u8; 512] {
    let mut block = support::header(b'3', b"dev/null", b"", 0o666, 0);
    block[329..345].copy_from_slice(b"0000001\x000000003\x00");
    support::seal(block)
}

fn packed(tar: &[u8], compression: Compression, threads: usize) -> (Vec<u8>, CompressedBlob) {
    let scratch = tempfile::tempdir().unwrap();
    let mut blob = Vec::new();
    let told =
        compress(&mut &tar[..], &mut blob, compression, threads, Some(scratch.path())).unwrap();
    assert_eq!((told.digest, told.size), (Digest::of(&blob), blob.len() as u64));
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing stays behind");
    (blob, told)
}

/// What a table must say of the members of an archive: kind, name, size, time, target, mode, owner, device, attributes.
type Facts =
    (String, String, u64, String, String, u32, u64, u64, (u64, u64), BTreeMap<String, Vec<u8>>);

/// The members, with where their content is in `tar`, as the `tar` crate reads them.
fn members(tar: &[u8]) -> Vec<(Facts, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut xattrs = BTreeMap::new();
        let mut nanos = String::new();
        for record in entry.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            if let Some(name) = record.key().unwrap().strip_prefix("SCHILY.xattr.") {
                xattrs.insert(name.to_owned(), record.value_bytes().to_vec());
            }
            if record.key().unwrap() == "mtime" {
                let (_, fraction) = record.value().unwrap().split_once('.').unwrap();
                fraction.clone_into(&mut nanos);
            }
        }
        let header = entry.header().clone();
        let kind = match header.as_bytes()[156] {
            b'0' => "reg",
            b'1' => "hardlink",
            b'2' => "symlink",
            b'3' => "char",
            b'4' => "block",
            b'5' => "dir",
            b'6' => "fifo",
            other => panic!("{other}"),
        };
        let is_device = matches!(kind, "char" | "block");
        let device = if is_device {
            let (major, minor) = (header.device_major().unwrap(), header.device_minor().unwrap());
            (u64::from(major.unwrap()), u64::from(minor.unwrap()))
        } else {
            (0, 0)
        };
        // Two times there are in these archives.
        let time = match (header.mtime().unwrap(), nanos.as_str()) {
            (0, "") => "1970-01-01T00:00:00Z".to_owned(),
            (1_600_000_000, "") => "2020-09-13T12:26:40Z".to_owned(),
            (_, nanos) => format!("2020-09-13T12:26:40.{nanos}Z"),
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let facts = (
            kind.to_owned(),
            text(&entry.path_bytes()),
            entry.size(),
            time,
            entry.link_name_bytes().map(|link| text(&link)).unwrap_or_default(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            device,
            xattrs,
        );
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (facts, content)
    });
    entries.collect()
}

fn number(entry: &Value, key: &str) -> usize {
    usize::try_from(entry[key].as_u64().unwrap_or_default()).unwrap()
}

fn text(entry: &Value, key: &str) -> String {
    entry[key].as_str().unwrap_or_default().to_owned()
}

/// The members that a table names, with their content read from the blob: only the range of each chunk, and every digest of it.
fn members_of_table(
    table: &Value,
    is_estargz: bool,
    blob: &[u8],
    read: impl Fn(&[u8], usize) -> Vec<u8>,
) -> Vec<(Facts, Vec<u8>)> {
    assert_eq!(table["version"], 1);
    let entries = table["entries"].as_array().unwrap();
    let mut members: Vec<(Facts, Vec<u8>)> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let is_chunk = entry["type"] == "chunk";
        if is_chunk {
            let last = members.last().unwrap();
            assert_eq!(
                (last.0.1.clone(), last.1.len()),
                (text(entry, "name"), number(entry, "chunkOffset"))
            );
        } else {
            let xattrs = entry["xattrs"].as_object().into_iter().flatten().map(|(name, value)| {
                (name.clone(), STANDARD.decode(value.as_str().unwrap()).unwrap())
            });
            let facts = (
                text(entry, "type"),
                text(entry, "name"),
                number(entry, "size") as u64,
                text(entry, "modtime"),
                text(entry, "linkName"),
                u32::try_from(number(entry, "mode")).unwrap(),
                number(entry, "uid") as u64,
                number(entry, "gid") as u64,
                (number(entry, "devMajor") as u64, number(entry, "devMinor") as u64),
                xattrs.collect(),
            );
            members.push((facts, Vec::new()));
        }
        let (facts, content) = members.last_mut().unwrap();
        let size = usize::try_from(facts.2).unwrap();
        if size == 0 {
            for key in ["offset", "chunkSize", "chunkDigest", "digest"] {
                assert_eq!(entry[key], Value::Null, "{key} of {}", facts.1);
            }
            continue;
        }
        let follows = entries.get(index + 1).is_some_and(|entry| entry["type"] == "chunk");
        let is_single = !is_chunk && !follows;
        let start = number(entry, "offset");
        // Where the next thing with an offset begins is the end in eStargz, which does not say it.
        let next = entries[index + 1..]
            .iter()
            .map(|entry| number(entry, "offset"))
            .find(|offset| *offset > 0);
        let end = if is_estargz {
            next.unwrap_or(blob.len())
        } else if follows && !is_chunk {
            next.unwrap()
        } else {
            number(entry, "endOffset")
        };
        let left = size - content.len();
        let chunk_size = match number(entry, "chunkSize") {
            0 => left,
            size => size,
        };
        match (is_estargz, follows, is_single) {
            // "The last chunk … MUST set this property to zero", and not chunked ones too.
            (true, false, _) => assert_eq!(number(entry, "chunkSize"), 0),
            (false, _, true) => assert_eq!(entry["chunkDigest"], Value::Null),
            _ => assert!(number(entry, "chunkSize") > 0),
        }
        let chunk = read(&blob[start..end], chunk_size);
        assert_eq!(chunk.len(), chunk_size, "{}", facts.1);
        if is_estargz || !is_single {
            assert_eq!(text(entry, "chunkDigest"), Digest::of(&chunk).to_string(), "{}", facts.1);
        }
        content.extend_from_slice(&chunk);
    }
    for (index, entry) in entries.iter().filter(|entry| entry["type"] != "chunk").enumerate() {
        let (facts, content) = &members[index];
        assert_eq!(content.len() as u64, facts.2, "{}", facts.1);
        if !content.is_empty() {
            assert_eq!(text(entry, "digest"), Digest::of(content).to_string(), "{}", facts.1);
        }
    }
    members
}

/// Reads an eStargz blob as its specification says: footer, table, and every file by itself.
fn read_estargz(blob: &[u8], table: &Table) -> Vec<(Facts, Vec<u8>)> {
    let (payload, footer) = blob.split_at(blob.len() - 51);
    assert_eq!(footer[..16], *b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0");
    assert_eq!(footer[32..38], *b"STARGZ");
    assert_eq!(footer[38..], *b"\x01\0\0\xff\xff\0\0\0\0\0\0\0\0");
    let offset = usize::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap();
    // One gzip member, which holds the member of the archive, and nothing behind it but the footer.
    let mut member = flate2::bufread::GzDecoder::new(&payload[offset..]);
    let mut archive = Vec::new();
    member.read_to_end(&mut archive).unwrap();
    assert!(member.into_inner().is_empty(), "the table is one gzip member");
    let toc = members(&archive);
    assert_eq!((toc.len(), toc[0].0.1.as_str()), (1, "stargz.index.json"));
    let Table::Estargz { digest, diff_id, size } = *table else { panic!("{table:?}") };
    assert_eq!(Digest::of(&toc[0].1), digest);
    let annotations = table.annotations();
    assert_eq!(annotations["containerd.io/snapshot/stargz/toc.digest"], digest.to_string());
    assert_eq!(annotations["io.containers.estargz.uncompressed-size"], size.to_string());
    let mut stream = Vec::new();
    flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut stream).unwrap();
    assert_eq!((DiffId::of(&stream), stream.len() as u64), (diff_id, size));
    let json = serde_json::from_slice(&toc[0].1).unwrap();
    members_of_table(&json, true, &payload[..offset], |range, size| {
        let mut content = Vec::new();
        // Of one gzip member: a chunk begins one, and ends in it.
        flate2::bufread::GzDecoder::new(range).take(size as u64).read_to_end(&mut content).unwrap();
        content
    })
}

/// A zstd:chunked blob: what is in front of the tables, the table, and tar-split's entries.
fn zstd_chunked_tables(blob: &[u8], table: &Table) -> (usize, Value, Vec<Value>) {
    let annotations = table.annotations();
    let note =
        |name: &str| annotations[&format!("io.github.containers.zstd-chunked.{name}")].clone();
    let numbers =
        |text: &str| text.split(':').map(|number| number.parse().unwrap()).collect::<Vec<usize>>();
    let manifest = numbers(&note("manifest-position"));
    let split = numbers(&note("tarsplit-position"));
    let footer = &blob[blob.len() - 64..];
    let in_footer: Vec<usize> = footer[..56]
        .chunks(8)
        .map(|bytes| usize::try_from(u64::from_le_bytes(bytes.try_into().unwrap())).unwrap())
        .collect();
    assert_eq!(in_footer, [&manifest[..], &split[..]].concat());
    assert_eq!(manifest[3], 1);
    assert_eq!(&footer[56..], b"GNUlInUx");
    let mut end = blob.len();
    let frames = [(blob.len() - 64, 64), (split[0], split[1]), (manifest[0], manifest[1])];
    for (offset, length) in frames {
        let header = &blob[offset - 8..offset];
        assert_eq!(header[..4], *b"\x50\x2a\x4d\x18");
        assert_eq!(u32::from_le_bytes(header[4..].try_into().unwrap()) as usize, length);
        assert_eq!(offset + length, end, "nothing is between the frames");
        end = offset - 8;
    }
    let unpacked = |position: &[usize], checksum: &str| {
        let bytes = &blob[position[0]..position[0] + position[1]];
        assert_eq!(Digest::of(bytes).to_string(), note(checksum));
        let bytes = zstd::decode_all(bytes).unwrap();
        assert_eq!(bytes.len(), position[2]);
        bytes
    };
    let json: Value = serde_json::from_slice(&unpacked(&manifest, "manifest-checksum")).unwrap();
    assert_eq!(json["tarSplitDigest"], note("tarsplit-checksum"));
    let lines = unpacked(&split, "tarsplit-checksum");
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    (end, json, lines.map(|line| serde_json::from_slice(line).unwrap()).collect())
}

/// Reads every file of a zstd:chunked blob by itself.
fn read_zstd_chunked(blob: &[u8], table: &Table) -> Vec<(Facts, Vec<u8>)> {
    let (end, json, _) = zstd_chunked_tables(blob, table);
    members_of_table(&json, false, &blob[..end], |range, size| {
        let content = zstd::decode_all(range).unwrap();
        assert_eq!(content.len(), size, "nothing else is in the frame");
        content
    })
}

#[test]
fn every_file_of_an_estargz_layer_can_be_read_on_its_own() {
    let tar = everything();
    let (blob, told) = packed(&tar, ESTARGZ, 2);
    let mut read = read_estargz(&blob, &told.table.unwrap());
    let landmark = read.remove(0);
    assert_eq!((landmark.0.1.as_str(), &landmark.1[..]), (".no.prefetch.landmark", &[0xf][..]));
    assert!(read == members(&tar));
}

#[test]
fn every_file_of_a_zstd_chunked_layer_can_be_read_on_its_own() {
    let tar = everything();
    let (blob, told) = packed(&tar, ZSTD_CHUNKED, 2);
    assert!(zstd::decode_all(&blob[..]).unwrap() == tar, "it is the stream that went in");
    assert_eq!(told.table.unwrap().diff_id(), None);
    assert!(read_zstd_chunked(&blob, &told.table.unwrap()) == members(&tar));
}

#[test]
fn the_stream_can_be_made_again_from_its_files_and_tar_split() {
    let tar = everything();
    let (blob, told) = packed(&tar, ZSTD_CHUNKED, 2);
    let table = told.table.unwrap();
    let files: BTreeMap<String, Vec<u8>> = read_zstd_chunked(&blob, &table)
        .into_iter()
        .map(|(facts, content)| (facts.1, content))
        .collect();
    let mut again = Vec::new();
    for (position, entry) in zstd_chunked_tables(&blob, &table).2.iter().enumerate() {
        assert_eq!(number(entry, "position"), position);
        match number(entry, "type") {
            1 => {
                let content = &files[entry["name"].as_str().unwrap()];
                assert_eq!(number(entry, "size"), content.len());
                assert_eq!(entry["payload"].is_null(), content.is_empty());
                again.extend_from_slice(content);
            }
            2 => again.extend(STANDARD.decode(entry["payload"].as_str().unwrap()).unwrap()),
            other => panic!("{other}"),
        }
    }
    assert!(again == tar);
}

#[test]
fn the_bytes_depend_on_nothing_but_the_stream() {
    let tar = everything();
    for compression in [ESTARGZ, ZSTD_CHUNKED] {
        let (expected, told) = packed(&tar, compression, 1);
        for threads in [0, 2, 8] {
            let (blob, again) = packed(&tar, compression, threads);
            assert!(blob == expected, "{compression:?} with {threads} threads");
            assert_eq!(again.table, told.table);
        }
        let mut blob = Vec::new();
        // Small pieces, and the table in memory.
        let mut pieces = Pieces(&tar);
        compress(&mut pieces, &mut blob, compression, 2, None).unwrap();
        assert!(blob == expected, "{compression:?} in small pieces");
    }
}

/// Gives little at a time.
struct Pieces<'a>(&'a [u8]);

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(777);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn layers_with_little_in_them_are_layers() {
    for tar in [
        Tar::new().end(),
        Tar::new().directory("d/").end(),
        Tar::new().file(".wh.f", "").end(),
        Tar::new().file("f", "x").end(),
        // As GNU tar fills up its records, and as some tools forget the end.
        Tar::new().file("f", "x").raw(vec![0; 20 * 512]).end(),
        Tar::new().file("f", "x").raw(vec![0; 3 << 20]).end(),
        Tar::new().file("f", "x").open(),
        Vec::new(),
    ] {
        let (blob, told) = packed(&tar, ESTARGZ, 2);
        assert!(read_estargz(&blob, &told.table.unwrap())[1..] == members(&tar));
        let (blob, told) = packed(&tar, ZSTD_CHUNKED, 2);
        assert!(read_zstd_chunked(&blob, &told.table.unwrap()) == members(&tar));
        assert!(zstd::decode_all(&blob[..]).unwrap() == tar);
    }
}

#[test]
fn what_belongs_to_estargz_is_not_in_it_twice() {
    // A RUN that touched the files that an eStargz base brings.
    let tar = Tar::new()
        .file(".no.prefetch.landmark", "\u{f}")
        .file(".prefetch.landmark", "\u{f}")
        .file("a", "first")
        .file("stargz.index.json", "{}".repeat(1000))
        .file("sub/stargz.index.json", "somebody else's")
        .end();
    let (blob, told) = packed(&tar, ESTARGZ, 2);
    let names: Vec<String> =
        read_estargz(&blob, &told.table.unwrap()).into_iter().map(|(facts, _)| facts.1).collect();
    assert_eq!(names, [".no.prefetch.landmark", "a", "sub/stargz.index.json"]);
    let (blob, told) = packed(&tar, ZSTD_CHUNKED, 2);
    assert!(read_zstd_chunked(&blob, &told.table.unwrap()) == members(&tar), "only to estargz");
}

#[test]
fn what_the_table_cannot_say_is_an_error() {
    let error = |tar: Tar, compression| {
        let error =
            compress(&mut &tar.end()[..], &mut Vec::new(), compression, 2, None).unwrap_err();
        assert!(matches!(error, CompressError::Unsayable { .. }), "{error:?}");
        let text = error.to_string();
        text.strip_prefix("the table of a seekable layer cannot say the ").unwrap().to_owned()
    };
    for compression in [ESTARGZ, ZSTD_CHUNKED] {
        for (tar, expected) in [
            (Tar::new().file(b"latin-\xfc", "x"), "name of `latin-\u{fffd}`: it is not UTF-8"),
            (
                Tar::new().pax(b'x', &[("mtime", "253402300800")]).file("late", "x"),
                "modification time of `late`: its year has not four digits",
            ),
            (
                Tar::new()
                    .pax(
                        b'x',
                        &[
                            ("GNU.sparse.size", "9"),
                            ("GNU.sparse.numblocks", "1"),
                            ("GNU.sparse.map", "8,1"),
                        ],
                    )
                    .file("holes", "x"),
                "content of `holes`: it has holes",
            ),
        ] {
            assert_eq!(error(tar, compression), expected);
        }
    }
    assert_eq!(
        error(Tar::new().hard_link("a", "stargz.index.json"), ESTARGZ),
        "target of `a`: it is a file of the format's own"
    );
    assert_eq!(
        error(Tar::new().directory("stargz.index.json/"), ESTARGZ),
        "name of `stargz.index.json/`: it is that of a file of the format's own"
    );
}

#[test]
fn what_is_no_layer_or_cannot_be_written_is_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let tar = everything();
    for compression in [ESTARGZ, ZSTD_CHUNKED] {
        let result = compress(&mut &noise(1, 10_000)[..], &mut Vec::new(), compression, 2, None);
        assert_eq!(
            chain(&result.unwrap_err()),
            "what is to be compressed is not a layer: the checksum of a header is wrong"
        );
        // Cut off in the middle of a file.
        let result = compress(&mut &tar[..5 << 20], &mut Vec::new(), compression, 2, None);
        assert!(result.is_err());
        for size in [0, 100_000, 800_000] {
            let result = compress(&mut &tar[..], &mut Full(size), compression, 2, None);
            let Err(CompressError::Write { source }) = result else { panic!("{result:?}") };
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        }
        let nowhere = std::path::Path::new("/nonexistent");
        let result = compress(&mut &tar[..], &mut Vec::new(), compression, 2, Some(nowhere));
        assert!(matches!(result, Err(CompressError::Scratch { .. })), "{result:?}");
    }
}

#[test]
fn packing_tells_the_descriptor_what_readers_look_for() {
    for compression in [ESTARGZ, ZSTD_CHUNKED] {
        let mut place = Place::new();
        place
            .directory("d")
            .file("d/f", noise(1, 100_000))
            .symlink("l", "d/f")
            .hard_link("same", "d/f");
        let changes = place.advance();
        let mut tar = Vec::new();
        let spooled = spool(&changes, &place.root, &mut place.snapshot, None, &mut tar).unwrap();
        let (blob, told) = packed(&tar, compression, 2);

        let table = told.table.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("blob");
        std::fs::write(&file, &blob).unwrap();
        let layer = spooled.layer(&told, ImageFormat::Oci, Arc::new(FileBlob::new(file)));
        assert_eq!(layer.descriptor.annotations, Some(table.annotations()));
        assert_eq!(layer.diff_id, table.diff_id().unwrap_or(spooled.diff_id));
        let suffix = if compression == ESTARGZ { "+gzip" } else { "+zstd" };
        assert!(layer.descriptor.media_type.to_string().ends_with(suffix));
        // Our own reader verifies digest, size and diff id.
        let mut copy = Place::new();
        ebiko_layer::unpack(&layer, &copy.root, &mut copy.snapshot, &UnpackOptions::default())
            .unwrap();
        if compression == ESTARGZ {
            for own in [".no.prefetch.landmark", "stargz.index.json"] {
                std::fs::remove_file(copy.host(own)).unwrap();
            }
        }
        assert_eq!(describe(&copy.root), describe(&place.root));
    }
}

#[test]
fn gnu_tar_sees_what_it_sees_in_plain_layers() {
    let tar = everything();
    let dir = tempfile::tempdir().unwrap();
    let list = |name: &str, blob: &[u8]| {
        std::fs::write(dir.path().join(name), blob).unwrap();
        let options = [
            "--full-time",
            "--numeric-owner",
            "--xattrs",
            "--warning=no-unknown-keyword",
            "-tvf",
            name,
        ];
        let lines = output("tar", &options, dir.path());
        let own = |line: &&str| {
            !line.ends_with(" .no.prefetch.landmark") && !line.ends_with(" stargz.index.json")
        };
        lines.lines().filter(own).map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = list("plain.tar", &tar);
    assert_eq!(expected.len(), members(&tar).len());
    assert!(list("estargz.tar.gz", &packed(&tar, ESTARGZ, 2).0) == expected);
    assert!(list("chunked.tar.zst", &packed(&tar, ZSTD_CHUNKED, 2).0) == expected);
    output("gzip", &["--test", "estargz.tar.gz"], dir.path());
    output("zstd", &["--quiet", "--test", "chunked.tar.zst"], dir.path());
}
