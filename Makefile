# `make help` lists the targets. Each sees to what it needs by itself, in
# git-ignored folders (.venv, .cache, bin) and, where it may, with apt-get; what
# it cannot get it names in one line.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell sed -n 's/^var Number = "\(.*\)"/\1/p' sidecar/internal/version/version.go)
IMAGE   ?= graflow-sidecar:$(VERSION)
# Further arguments of go test, such as ARGS='-run Claim -v'.
ARGS    ?=
# Further arguments of docker build, such as --build-arg GO_IMAGE=…
DOCKER_ARGS ?=

export CGO_ENABLED ?= 0

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: go ## Build bin/sidecar
	@go build -trimpath -o bin/ ./sidecar

.PHONY: demo
demo: build ## Run a few hundred tasks through example workers, on a Redis of its own (MODE=exec: a process for each)
	@bin/sidecar demo --mode '$(or $(MODE),rpc)'

.PHONY: polyglot
polyglot: go redis ## Run a workflow in Python, Go and Node on two sidecars, kill a worker, and compare (GRAFLOW=…)
	@scripts/polyglot $(or $(GRAFLOW),latest) $(ARGS)

.PHONY: test
test: go redis ## Run the Go tests, the Python package's, and a workflow with real Graflow (a minute or two)
	@$(MAKE) --keep-going -j3 --output-sync=target unit python-quick workflow

# Two go commands beside each other would each compile what both lack. The compiler
# collects its garbage a little less often than by default: it runs for seconds.
.PHONY: compiled
compiled: go
	@GOGC=400 go build ./...

.PHONY: unit
unit: compiled redis ## Run the Go tests against a real Redis, the longest of them shortened (make race has all)
	@go test -short -vet=off -p 6 -parallel 8 $(ARGS) ./...

# Two scripts that make it side by side would each remove what the other has begun.
.PHONY: graflow
graflow:
	@scripts/setup-venv $(or $(GRAFLOW),latest) > /dev/null

.PHONY: python
python: ## Run all tests of the Python worker package and its Graflow adapter
	@scripts/python-test $(or $(GRAFLOW),latest)

.PHONY: python-quick
python-quick: graflow ## Run them without the slow ones, and with the adapter's workers forked only
	@scripts/python-test --quick $(or $(GRAFLOW),latest)

.PHONY: workflow
workflow: compiled redis graflow ## Run one workflow with real Graflow
	@scripts/e2e $(or $(GRAFLOW),latest) -vet=off -run '^TestNestedGroups$$'

.PHONY: e2e
e2e: go redis ## Run the end-to-end tests with real Graflow (GRAFLOW=0.1.9 or latest)
	@scripts/e2e $(or $(GRAFLOW),latest) $(ARGS)

.PHONY: faults
faults: go redis ## Kill, freeze and cut off everything, and check that nothing was lost (minutes; FLEET=mixed: beside the last release)
	@FLEET='$(FLEET)' scripts/faults $(ARGS)

.PHONY: simulate
simulate: go ## Simulate whole sidecars in virtual time (SECONDS=120, HOURS=8 for a night, FROM=1 for a first seed, or SEED=7 to replay one)
	@SIMULATE_SEED='$(SEED)' SIMULATE_FROM='$(FROM)' SIMULATE_TIMES='$(or $(TIMES),1)' SIMULATE_SECONDS='$(or $(SECONDS),$(if $(HOURS),$(shell expr $(HOURS) \* 3600),120))' \
		go test -tags simulation -count=1 -timeout 0 -run '^TestSimulate$$' -v $(ARGS) ./sidecar/test/simulation/

.PHONY: lifecycle
lifecycle: go redis ## Start, signal and stop the real binary in every way (minutes)
	@python=$$(scripts/setup-venv $(or $(GRAFLOW),latest)) && GRAFLOW_PYTHON=$$python \
		go test -tags lifecycle -count=1 -timeout 15m $(ARGS) ./sidecar/test/lifecycle/

.PHONY: explore
explore: go ## Search every interleaving of 2 sidecars and 3 records over the real scripts (SCOPE=small: shorter)
	@GOGC=400 EXPLORE='$(or $(SCOPE),all)' go test -count=1 -timeout 40m -v -run '^TestExplore$$' $(ARGS) ./sidecar/test/explore/

.PHONY: disk
disk: go ## Make each operation of the spool's disk fail, hang and lose power, and print how many cases that were
	@go test -count=1 -v -run 'Fails$$|PowerFailure|MissingFsync|Damaged|HungDisk|FullDisk|LostTail' $(ARGS) ./sidecar/internal/pipeline/report/...

.PHONY: scale
scale: go redis ## Measure what fleets of 10, 100 and 1,000 sidecars ask of one Redis (docs/scaling.md)
	@go test -tags scale -count=1 -timeout 5m -v $(ARGS) ./sidecar/test/scale/

.PHONY: mutate
mutate: go redis ## Change scripts and conditions one at a time, and demand that a test fails (LUA=1, GO=1, RUN=file:line, SAMPLE=number, BASE=commit)
	@go build -o .cache/mutate/mutate ./sidecar/test/mutate
	@nice -n 10 .cache/mutate/mutate $(if $(LUA),-lua) $(if $(GO),-go) $(if $(RUN),-run '$(RUN)') \
		$(if $(SAMPLE),-sample $(SAMPLE)) $(if $(SEED),-seed $(SEED)) $(if $(BASE),-base $(BASE)) $(ARGS)

.PHONY: reintroduce
reintroduce: go redis ## Bring mended faults back, one at a time, and see what finds each (ARGS='07-*'; hours for all)
	@scripts/reintroduce $(ARGS)

.PHONY: browser
browser: go redis ## Look at the page in a real Chromium (ARGS=-update takes the pictures in docs/images anew)
	@scripts/setup-chromium
	@go test -tags browser -count=1 -timeout 5m ./sidecar/test/browser/ $(ARGS)

.PHONY: seed-case
seed-case: go ## Stop Redis before the workers: Graflow's own and the sidecar, side by side
	@scripts/seed-case $(or $(GRAFLOW),latest)

.PHONY: check
check: go redis ## Run everything: linters, race detector, and all suites with both Graflows (half an hour)
	@scripts/check

.PHONY: race
race: go redis ## Run the Go tests with the race detector (needs a C compiler)
	@scripts/setup-cc
	@CGO_ENABLED=1 go test -race $(ARGS) ./...

.PHONY: lint
lint: go ## Run the linters and the checks for formatting and tidiness
	@scripts/lint

.PHONY: model
model: ## Check the model of claim, lease, report and reap, and that it finds each deliberate mistake (docs/model)
	@scripts/model $(ARGS)

.PHONY: manifests
manifests: go ## Check the manifests that `sidecar manifest` prints (Kubernetes, KEDA, compose, systemd)
	@scripts/manifests

.PHONY: chart-test
chart-test: go ## Check the Helm chart: lint, every pair of values, refused values, the packed chart (ARGS=-v)
	@scripts/chart-test $(ARGS)

.PHONY: alerts
alerts: ## Check the alert rules and the dashboard in deploy/ with promtool
	@scripts/alerts

.PHONY: incident
incident: go ## Play the incidents of docs/incident.md and write it anew (ARGS=--check compares)
	@scripts/incident $(ARGS)

.PHONY: fmt
fmt: go ## Format the Go sources
	@scripts/setup-tools
	@.cache/tools/golangci-lint fmt

.PHONY: bench
bench: go redis ## Measure the sidecar beside its limits and its peers, and write bench/RESULTS.md (minutes)
	@scripts/bench $(ARGS)

.PHONY: bench-against
bench-against: go redis ## Measure this sidecar and that of an earlier commit in turns (BASE is the commit), and compare
	@scripts/bench --against $(or $(BASE),main) $(ARGS)

.PHONY: bench-units
bench-units: go redis ## Run the Go benchmarks of single packages (BENCH is a pattern, BENCHTIME as for go test)
	@go test -run '^$$' -bench '$(or $(BENCH),.)' -benchtime '$(or $(BENCHTIME),1s)' -benchmem ./... \
		| { grep -v -e '^ok ' -e '^?' -e '^PASS' || true; }

.PHONY: bench-prefork
bench-prefork: go redis ## Measure the start and the memory of 8 Graflow workers, forked and not (docs/processes.md)
	@scripts/e2e $(or $(GRAFLOW),latest) -run '^TestForksAreCheaper$$' -v

.PHONY: image
image: ## Build the container image (IMAGE is its name)
	@scripts/image '$(IMAGE)' '$(VERSION)' $(DOCKER_ARGS)

.PHONY: dist
dist: go ## Make everything that a release consists of (OUT=dist), with checksums and provenance
	@scripts/dist '$(or $(OUT),dist)'

.PHONY: dist-test
dist-test: go ## Make it twice, in different places, compare, and look into the archives
	@scripts/dist-test

.PHONY: sbom
sbom: go ## Build the binary as the image has it, and its bill of materials (dist/sidecar, dist/sidecar.cdx.json)
	@scripts/build dist/sidecar '$(VERSION)'
	@scripts/sbom dist/sidecar dist/sidecar.cdx.json

.PHONY: reproducible
reproducible: go ## Build the binary twice, in different places, and compare (minutes)
	@scripts/reproducible

.PHONY: pods
pods: go redis ## Run patterns A and B in containers, with real Graflow; kill and stop them (needs Docker)
	@scripts/pods $(ARGS)

.PHONY: venv
venv: ## Make the virtual environments with Graflow that the end-to-end tests use
	@scripts/setup-venv latest > /dev/null
	@scripts/setup-venv 0.1.9 > /dev/null

.PHONY: clean
clean: ## Remove what was built here, virtual environments too
	@rm -rf bin dist .cache .venv coverage.out

.PHONY: go redis
go:
	@scripts/setup-go
redis:
	@scripts/setup-redis
