# What a newcomer types. The gates themselves are in xtask/src/ci.rs.

.PHONY: check test test-fs demo bench clean

# Quick look at what is being written: no tests, no release build.
check:
	scripts/install-needs.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask tidy
	cargo xtask paper-map

# Everything that must hold before a change goes in.
test:
	scripts/install-needs.sh test
	cargo xtask ci

# What others wrote to try file systems, on sealed files: more of it than `make test` has time for. As root.
test-fs:
	scripts/install-needs.sh test-fs
	cargo xtask test-fs

# From nothing to the result of a protein search on a grid of this machine.
demo:
	scripts/install-needs.sh demo
	scripts/demo.sh

# All measurements, one after the other.
bench:
	scripts/install-needs.sh bench
	cargo xtask bench | cut -d ' ' -f 1 | xargs -n 1 cargo xtask bench

clean:
	cargo clean
