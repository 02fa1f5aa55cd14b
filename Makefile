# The two commands of the README are `make demo` and `make test`. Each installs what it needs.
SHELL := /bin/bash
CARGO ?= cargo
STEAD := target/release/stead

.PHONY: demo demo-stop test check fmt audit bench setup install

## Builds stead and runs the real Flask app with its collectors from ecosystem.yaml.example.
demo: setup
	$(CARGO) build --release
	contrib/demo/run.sh $(STEAD)

## Stops the demo's apps and forgets them; other apps stay.
demo-stop:
	$(STEAD) delete $$(sed -nE 's/.*name: ([a-z0-9-]+).*/\1/p' ecosystem.yaml.example)

## All tests: pure simulation, real processes, guests with cgroup v2. docs/testing.md tells of them.
test: setup
	contrib/scripts/test.sh

## Formatting, lints, licences.
check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install cargo-deny --locked
	$(CARGO) deny check bans licenses sources

audit:
	$(CARGO) deny check advisories

fmt:
	$(CARGO) fmt

## A virtual environment with Flask and gunicorn for the demo and the tests.
setup:
	contrib/demo/setup.sh

## Speed and memory beside PM2 and the floor; takes some minutes.
bench:
	$(CARGO) build --release
	contrib/bench/run.sh

install:
	$(CARGO) install --path . --locked
