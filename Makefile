# Minato needs Go and make, nothing else. The other tools are pinned in
# internal/tools/go.mod and are built from the module cache on first use.

GO    ?= go
TOOL  := $(GO) tool -modfile=internal/tools/go.mod
# Packages with benchmarks of the whole way of a report.
BENCH ?= ./anonymizer ./hub ./internal/journal ./node ./internal/stix
# Folder with the data for make conformance.
DATA  ?=

# The race detector needs cgo and a C compiler.
RACE := $(shell test "$$($(GO) env CGO_ENABLED)" = 1 && command -v "$$($(GO) env CC | cut -d' ' -f1)" >/dev/null && echo -race)

.DEFAULT_GOAL := help
.PHONY: help build test check lint gofmt staticcheck proto bench demo conformance generate race-notice decisions mutants

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/minato: one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/minato ./cmd/minato

test: race-notice ## vet and test everything, with the race detector where there is a C compiler
	$(GO) vet ./...
	$(GO) test $(RACE) -timeout 20m ./...

check: test lint ## all that a change must pass

# The race detector makes these ten times slower; make test runs a sixteenth.
decisions: ## the whole domain of who gets what, and a million random decisions
	$(GO) test -count=1 -timeout 20m -run 'OverTheWholeDomain|ForAMillionDecisions' ./hub

mutants: ## seed faults into the rules of who may have what: each must turn a test red
	$(GO) run ./internal/mutants

lint: gofmt staticcheck proto ## the parts of check that are not tests

gofmt:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not formatted, run gofmt -w on:"; echo "$$files"; exit 1; fi

staticcheck:
	$(TOOL) staticcheck -tags conformance ./...

# The contract: style, format, and the committed Go is what it generates.
proto:
	$(TOOL) buf lint
	$(TOOL) buf format -d --exit-code
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(TOOL) buf generate -o "$$dir" && \
	for f in "$$dir"/proto/minato/v1/*.pb.go proto/minato/v1/*.pb.go; do \
		name=$${f##*/}; \
		cmp "$$dir/proto/minato/v1/$$name" "proto/minato/v1/$$name" || { echo "generated code is out of date, run: make generate"; exit 1; }; \
	done

generate: ## write the Go beside the protos again
	$(TOOL) buf generate

bench: ## measure submit and fan-out beside the bare engines, journal, search
	$(GO) test -run '^$$' -bench . -benchmem $(BENCH)

demo: build ## a whole port on this machine; Ctrl-C removes it
	bin/minato demo

# Runs every test of the files marked "//go:build conformance"; finding none is
# an error, so that it cannot pass by proving nothing.
conformance: race-notice ## test against outside data: make conformance DATA=FOLDER
	@if [ -z "$(DATA)" ]; then echo "make conformance needs the folder with the data: make conformance DATA=FOLDER" >&2; exit 2; fi
	@if [ ! -d "$(DATA)" ]; then echo "make conformance: no folder $(DATA)" >&2; exit 2; fi
	@files=$$(grep -rl --include='*_test.go' '^//go:build conformance' .); \
	tests=$$(test -n "$$files" && sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/\1/p' $$files | paste -sd '|' -); \
	if [ -z "$$tests" ]; then echo "make conformance: found no conformance test" >&2; exit 1; fi; \
	packages=$$(for f in $$files; do dirname "$$f"; done | sort -u); \
	echo MINATO_DATA="$(abspath $(DATA))" $(GO) test $(RACE) -count=1 -timeout 20m -tags conformance -run "'^($$tests)$$'" $$packages; \
	MINATO_DATA="$(abspath $(DATA))" $(GO) test $(RACE) -count=1 -timeout 20m -tags conformance -run "^($$tests)$$" $$packages

race-notice:
	@if [ -z "$(RACE)" ]; then echo "NOTE: no C compiler here: tests run WITHOUT the race detector"; fi
