# What people type. Anything with an `if` in it belongs in crates/xtask.
default:
    @just --list

# the binary builds its own image and a hello image, into target/demo
demo:
    cargo xtask demo

# everything CI runs, in the order that fails fastest
check *ARGS:
    cargo xtask test {{ARGS}}

fmt:
    cargo fmt --all --check

lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# dependency table, code map, stray statics, README commands
tidy:
    cargo xtask tidy

# the tests that need no root
test *ARGS:
    cargo nextest run --workspace -E 'not test(/privileged_/)' {{ARGS}}

# pods and registries; needs root
test-privileged *ARGS:
    cargo nextest run --workspace -E 'test(/privileged_/)' {{ARGS}}

# nextest does not run the examples in the documentation
test-doc:
    cargo test --workspace --doc

doc:
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items

# rewrite golden files; read the diff before committing
bless:
    cargo xtask bless

# the executor image alone
image:
    cargo xtask image

# licences, sources, duplicates, and advisories where a database is present
deny:
    cargo xtask deny
