# Everything that builds and checks runner. CI calls these targets and nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# ---- pinned tools: installed into the checkout, never on the machine ----
GOLANGCI_LINT_VERSION := v2.12.2
TOOLS := $(CURDIR)/.tools/bin
GOLANGCI_LINT := $(TOOLS)/golangci-lint
ACTIONLINT_VERSION := v1.7.12
ACTIONLINT := $(TOOLS)/actionlint

# ---- settings that the command line may change ----
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)
FUZZTIME ?= 60s
BENCH ?= .
PKGS ?= ./...

# Packages are tested two at a time, in this order: whoever takes longest must not
# be last, when the other core has nothing left to do.
SLOWEST := $(if $(filter ./...,$(PKGS)),./runner ./internal/faults ./internal/emulator)

# The race detector needs cgo, and with it a C compiler. Go says itself whether it has one.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## write the static binary bin/runner, with its version in it
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/runner ./cmd/runner

# go test hides what a package says that passes. The clients that could not be
# tested here, for want of node, a library or a port, are named at the end.
.PHONY: test
test: ## vet, build and run every test, with the race detector
	go vet $(PKGS)
	go build $(PKGS)
	@$(if $(RACE),:,echo "make: no C compiler, so the tests run WITHOUT the race detector" >&2)
	@echo 'go test $(RACE) -shuffle=on $(SLOWEST) $(PKGS)'
	@notes=$$(mktemp); trap 'cat "$$notes" >&2; rm -f "$$notes"' EXIT; \
	RUNNER_TEST_NOTES="$$notes" go test $(RACE) -shuffle=on $(SLOWEST) $(PKGS)

# These write nothing. A build tag or a system call that one of the systems does
# not have is found here, without the system.
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

.PHONY: platforms
platforms: ## vet the code and its tests, and build runner, for every system that it is for
	@for p in $(PLATFORMS); do \
	  echo "GOOS=$${p%/*} GOARCH=$${p#*/} go vet $(PKGS)"; \
	  GOOS=$${p%/*} GOARCH=$${p#*/} go vet $(PKGS); \
	  CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build -o /dev/null ./cmd/runner; \
	done

# Made twice from one commit, the archives are the same byte for byte.
.PHONY: release
release: ## write the archives of VERSION into dist, with checksums and a bill of materials
	go run ./internal/release -version '$(VERSION)' -out dist

# A virtual environment below .tools, with what internal/emulator/sdktest/python
# pins. The list that is put there last says that all of it is in.
PYTHON_SDKS := .tools/python/requirements.txt

.PHONY: python-sdks
python-sdks: $(PYTHON_SDKS) ## install Microsoft's Python SDKs into .tools, for the tests that drive them

$(PYTHON_SDKS): internal/emulator/sdktest/python/requirements.txt
	@echo "make: installing Microsoft's Python SDKs into .tools" >&2
	@rm -rf .tools/python
	python3 -m venv .tools/python
	.tools/python/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $<
	@cp $< $@

# A repository of Maven's below .tools, with what internal/emulator/sdktest/java
# pins, and the class path that it makes.
JAVA_SDKS := .tools/java/pom.xml

.PHONY: java-sdks
java-sdks: $(JAVA_SDKS) ## fetch Microsoft's Java SDKs into .tools, for the tests that drive them

$(JAVA_SDKS): internal/emulator/sdktest/java/pom.xml
	@echo "make: fetching Microsoft's Java SDKs into .tools" >&2
	@mkdir -p .tools/java
	mvn -q -B -C -f $< -Dmaven.repo.local=$(CURDIR)/.tools/java/repository dependency:build-classpath -Dmdep.outputFile=$(CURDIR)/.tools/java/classpath
	@cp $< $@

# The browser that opens the HTML report in a test; npm brings what drives it, as
# internal/render/browser pins it.
.PHONY: browser
browser: ## install Chromium from Debian, as root, for the tests of the HTML report
	@if command -v chromium >/dev/null; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 \
	  || echo "make: apt-get cannot install chromium" >&2; \
	else echo "make: chromium needs apt-get and root" >&2; fi

# golangci-lint remembers findings with the paths of the checkout where it made
# them, so each checkout has a memory of its own.
.PHONY: lint
lint: tools ## check the code and the architecture
	GOLANGCI_LINT_CACHE=$(CURDIR)/.tools/lint-cache $(GOLANGCI_LINT) run $(PKGS)
	$(ACTIONLINT) -shellcheck= -pyflakes= examples/ci/github-actions.yml

.PHONY: fmt
fmt: tools ## format the code
	$(GOLANGCI_LINT) fmt

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (60s)
	@for pkg in $$(go list $(PKGS)); do \
	  listed=$$(go test -list '^Fuzz' $$pkg); \
	  for target in $$(grep '^Fuzz' <<<"$$listed" || true); do \
	    echo "== $$pkg $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$pkg; \
	  done; \
	done

.PHONY: bench
bench: build ## measure runner against a bare loop, then the benchmarks that match BENCH
	go run ./internal/bench -runner bin/runner
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(PKGS)

# The large fleet is not for the race detector: it would take an hour.
.PHONY: long
long: ## the tests of make test with large fleets; kill and resume 60 runs; 3000 over broken connections; one over a million devices
	go test $(RACE) -timeout 30m -run 'TestWholeFleet|TestPreviewOf' ./cmd/runner -long
	go test $(RACE) -timeout 10m -run TestMarkdownIsBounded ./internal/render -large
	go test $(RACE) -timeout 30m -run TestKill -v ./internal/faults -kills 60
	go test -timeout 30m -run TestChaos ./internal/faults -chaos 3000
	go test -timeout 30m -run TestShards -v ./internal/faults -shardfleet 100000
	go test -timeout 60m -run TestLargeFleet -v ./internal/faults -fleet 1000000

.PHONY: clean
clean: ## remove what was built; the tools stay
	rm -rf bin dist

# Asks the binary itself for its version, so that neither an old one nor one
# put there by hand is taken for the pinned one.
.PHONY: tools
tools: ## install the pinned tools into .tools, if they are not there
	@go version -m $(GOLANGCI_LINT) 2>/dev/null \
	  | grep -qE '^\s+mod\s+github.com/golangci/golangci-lint/v2\s+$(GOLANGCI_LINT_VERSION)\s' \
	|| { echo "make: installing golangci-lint $(GOLANGCI_LINT_VERSION) into .tools (once, some minutes)" >&2; \
	     GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION); }
	@go version -m $(ACTIONLINT) 2>/dev/null \
	  | grep -qE '^\s+mod\s+github.com/rhysd/actionlint\s+$(ACTIONLINT_VERSION)\s' \
	|| { echo "make: installing actionlint $(ACTIONLINT_VERSION) into .tools" >&2; \
	     GOBIN=$(TOOLS) go install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT_VERSION); }
