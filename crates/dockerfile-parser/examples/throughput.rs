//! Measures how long a Dockerfile of 10,000 lines takes. `cargo xtask bench parser` runs it.

#![expect(clippy::print_stdout, reason = "a measurement tells its result")]

use std::time::{Duration, Instant};

use dockerfile_parser::Dockerfile;

/// What a file of [`LINES`] lines may take.
const LIMIT: Duration = Duration::from_millis(20);

const LINES: usize = 10_000;

/// How often it is read. The fastest counts: what is slower was disturbed.
const ROUNDS: usize = 50;

/// Every kind of instruction, with continuations, here-documents and comments.
const BLOCK: &str = r#"# the stage of a tool
FROM --platform=$BUILDPLATFORM example.com/base:1.2.3 AS stage
ARG version=1.2.3 flags="-O2 -g"
ENV PATH=/opt/tool/bin:$PATH \
    LANG=C.UTF-8 \
    # a comment between
    TOOL_VERSION="${version:-none}"
WORKDIR /src
COPY --chown=1000:1000 --link package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.cache,sharing=locked \
    --mount=type=secret,id=token,required=true \
    set -eux; \
    apt-get update; \
    apt-get install --yes --no-install-recommends \
        build-essential ca-certificates curl git; \
    rm -rf /var/lib/apt/lists/*
COPY <<settings /etc/tool/settings
name = "$version"
level = 3
settings
RUN <<script
set -e
echo "built ${version}" > /version
script
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.com/file /file
LABEL org.opencontainers.image.title="tool" org.opencontainers.image.version="$version"
EXPOSE 80/tcp 8080-8090
USER tool
VOLUME ["/data", "/cache"]
HEALTHCHECK --interval=30s --timeout=3s CMD curl --fail http://localhost/ || exit 1
ENTRYPOINT ["/opt/tool/bin/tool", "--config", "/etc/tool/settings"]
CMD ["serve"]
"#;

fn main() -> std::process::ExitCode {
    let text: String = BLOCK.split_inclusive('\n').cycle().take(LINES).collect();
    // The last block may end within a here-document.
    let text = format!("{text}settings\nscript\n");
    let text = text.rsplit_once("\nFROM ").map_or(text.as_str(), |(before, _)| before);
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let result = Dockerfile::parse("Dockerfile", std::hint::black_box(text.as_bytes()));
        fastest = fastest.min(start.elapsed());
        match result {
            Ok(file) if !file.stages.is_empty() => {}
            Ok(_) => return failed("the file has no stages"),
            Err(errors) => return failed(&errors.to_string()),
        }
    }
    let lines = text.lines().count();
    let rate = text.len() as u128 * 1_000 / fastest.as_nanos().max(1);
    println!("parser: {lines} lines, {} bytes in {fastest:.2?} ({rate} MB/s)", text.len());
    if fastest > LIMIT {
        return failed(&format!("the limit is {LIMIT:?}"));
    }
    std::process::ExitCode::SUCCESS
}

fn failed(message: &str) -> std::process::ExitCode {
    println!("parser: {message}");
    std::process::ExitCode::FAILURE
}
