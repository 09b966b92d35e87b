# The few commands that a person, CI and the README share.
.PHONY: test bounds

# Everything that needs Rust, Python 3 and Node; sets up what it needs by itself.
test:
	bash tests/run

# Measured limits: `make bounds`, `make bounds P="P4 P10"`, `make bounds ARGS=--json`.
bounds:
	P="$(P)" bash tests/bench/bounds $(ARGS)
