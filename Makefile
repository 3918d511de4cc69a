# Each target works from a fresh clone on a Debian machine with a Rust toolchain.

.PHONY: demo test bench

# A real pair from nothing: plan, apply, an empty plan, a switchover, drift, status.
demo:
	@scripts/demo

# Everything that CI checks.
test:
	@scripts/test

# The figures of speed, side by side with plain shell scripts.
bench:
	@scripts/bench
