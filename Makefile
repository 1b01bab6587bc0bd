# Needs: Go, and on anything but Debian or Ubuntu as root also RabbitMQ and Redis,
# or Docker. `make help` lists what there is.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION   := v1.8.0

# Tools are kept here across `make clean`: building the linter takes minutes.
TOOLS         := .cache/bin
DEVSTACK      := $(TOOLS)/devstack
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)

# What `make test`, `make fuzz` and `make microbench` look at, and for how long.
PKG      ?= ./...
COUNT    ?= 1
FUZZTIME ?= 10s

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(DEVSTACK) ## Start everything, run a first task, serve until Ctrl-C
	@$(DEVSTACK) run

.PHONY: up
up: $(DEVSTACK) ## Start everything in the background; addresses go to .run/env
	@$(DEVSTACK) up

.PHONY: down
down: $(DEVSTACK) ## Stop what `make up` started; the state stays
	@$(DEVSTACK) down

.PHONY: clean
clean: $(DEVSTACK) ## Stop everything and remove its state and the programs
	@$(DEVSTACK) clean

COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)

.PHONY: build
build: ## Build bin/gateway, bin/worker and bin/lovage
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags=grpcnotrace -ldflags='-X github.com/lovage-mq/lovage/internal/version.commit=$(COMMIT)' \
		-o bin/ ./services/gateway ./services/worker ./cmd/lovage

.PHONY: release
release: ## Build the archives of VERSION for every platform, twice, with checksums, into dist
	go run ./internal/release --check --version=$(or $(VERSION),$(error VERSION=1.2.3 names the release))

.PHONY: release-check
release-check: ## Check that a release builds, twice the same and small enough, for one platform
	go run ./internal/release --check --version=0.0.0-check --platforms=linux/amd64 --out=$(shell mktemp -d)

.PHONY: test
test: $(DEVSTACK) ## Install what the tests need and run them all
	@$(DEVSTACK) deps --test
	@$(DEVSTACK) test -- go test -race -shuffle=on -count=$(COUNT) -timeout=20m $(PKG)

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run golangci-lint
	$(GOLANGCI_LINT) run ./...

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the code
	$(GOLANGCI_LINT) fmt ./...

.PHONY: fuzz
fuzz: $(DEVSTACK) ## Run every fuzz test for FUZZTIME (10s)
	@$(DEVSTACK) fuzz --time=$(FUZZTIME) $(PKG)

# All that takes part, and what `make bench` and `make bench-quick` measure.
PEERS       := --peers=celery,asynq,river
BENCH_FULL  := --measures=submit,batch,kinds,pickup,growth,open,delayed,run,workers,latency,outage --clients=1,16,64,256 --rounds=5 \
	--length=2s --drain=3s --kinds=noop,sleep,cpu,payload,retry --rates=10,100,300,1000 --waiting=1000,60000,1000000 --within=55m
BENCH_QUICK := --measures=submit,batch,kinds,pickup,run --clients=1,64 --rounds=2 --length=500ms --warm-up=200ms \
	--channels=4 --items=5000 --trial=200 --drain=1s --rates=100
BENCH_SMOKE := --measures=submit,batch,kinds,pickup,open,delayed,run,workers,latency,outage --rounds=1 --length=300ms \
	--warm-up=100ms --clients=64 --channels=4 --items=1000 --trial=0 --rates=300 --loads=50 --waiters=16 --workers=2 \
	--faults=freeze --outage=500ms --peers=asynq,river,celery --one-peer

.PHONY: bench
bench: $(DEVSTACK) ## Compare with other task systems and with the least one would write by hand (an hour)
	@$(DEVSTACK) deps --bench
	cd bench && go run . $(PEERS) $(BENCH_FULL) $(BENCHFLAGS)

.PHONY: bench-quick
bench-quick: $(DEVSTACK) ## A look at the same in three minutes
	@$(DEVSTACK) deps --bench
	cd bench && go run . $(PEERS) $(BENCH_QUICK) $(BENCHFLAGS)

.PHONY: bench-submit
bench-submit: $(DEVSTACK) ## Compare submitting with the least one would write by hand
	@$(DEVSTACK) deps
	cd bench && go run . $(BENCHFLAGS)

.PHONY: bench-drain
bench-drain: $(DEVSTACK) ## Compare working off a queue, and picking up, with loops by hand
	@$(DEVSTACK) deps
	cd bench && go run . --measures=drain,pickup $(BENCHFLAGS)

.PHONY: bench-compare
bench-compare: $(DEVSTACK) ## Compare with another revision, BASE, turn by turn
	@$(DEVSTACK) deps
	cd bench && go run . --base=$(or $(BASE),$(error BASE=... names the revision to compare with)) --measures=submit,kinds,pickup,run --rounds=8 $(BENCHFLAGS)

.PHONY: bench-check
bench-check: $(DEVSTACK) ## Check that the comparison runs; its figures mean nothing then
	@$(DEVSTACK) deps --bench
	cd bench && go vet ./... && go test -race -timeout=5m ./...
	cd bench && go run . $(BENCH_SMOKE) --out=$(shell mktemp -d)/latest.json

.PHONY: profile
profile: $(DEVSTACK) ## Leave profiles of gateway and worker under load in bench/out
	@$(DEVSTACK) deps
	cd bench && go run . --measures=profile --items=200000 $(BENCHFLAGS)

.PHONY: microbench
microbench: $(DEVSTACK) ## Run the benchmarks of single packages
	@$(DEVSTACK) deps
	@$(DEVSTACK) test -- go test -run='^$$' -bench=. -benchmem -timeout=30m $(PKG)

.PHONY: generate
generate: ## Generate what is generated
	go generate ./...

.PHONY: verify
verify: ## Check that the README's promises and the tables of docs name tests that exist
	go run ./internal/promises README.md docs/reliability.md docs/security.md

.PHONY: manifests
manifests: ## Check deploy/k8s and docker-compose.yaml against their schemas, without a cluster
	cd deploy/k8s/validate && go vet ./... && go test -count=1 ./...
	cd deploy/docker/validate && go vet ./... && go test -count=1 ./...

.PHONY: vuln
vuln: $(DEVSTACK) ## Look for known vulnerabilities in what we call
	@$(DEVSTACK) vuln $(GOVULNCHECK_VERSION)

.PHONY: outage
outage: $(DEVSTACK) ## Break RabbitMQ and Redis under load, one fault at a time (needs a quiet machine)
	@$(DEVSTACK) deps --test
	@mkdir -p .cache
	LOVAGE_OUTAGE_TABLE=$(CURDIR)/.cache/outage.md go test -tags=outage -count=1 -timeout=20m -run='^TestOutages$$' ./internal/outage
	@cat .cache/outage.md

.PHONY: overload
overload: $(DEVSTACK) ## Submit three times as much as RabbitMQ takes (needs a quiet machine)
	@$(DEVSTACK) deps --test
	go test -tags=outage -count=1 -timeout=5m -v -run='^TestOverload$$' ./internal/outage

.PHONY: ledger
ledger: $(DEVSTACK) ## Kill and freeze everything under load and close the books (LOVAGE_LEDGER_TASKS, 20,000)
	@$(DEVSTACK) deps --test
	go test -tags=outage -count=1 -timeout=10h -v -run=^TestLedger ./internal/outage

.PHONY: nightly
nightly: ## The long forms of test, fuzz and outage
	$(MAKE) test COUNT=20
	LOVAGE_NIGHTLY=true $(MAKE) test PKG=./internal/e2e
	$(MAKE) fuzz FUZZTIME=60s
	LOVAGE_NIGHTLY=true $(MAKE) outage
	$(MAKE) overload
	LOVAGE_LEDGER_TASKS=1000000 $(MAKE) ledger

# The programs under .cache.

.PHONY: FORCE
$(DEVSTACK): FORCE
	@go build -buildvcs=false -o $@ ./internal/devstack/cmd/devstack

$(GOLANGCI_LINT):
	GOBIN="$(CURDIR)/$(TOOLS)/install" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(TOOLS)/install/golangci-lint $@
