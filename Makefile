# One target for each thing that a person does. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
NODES ?= 1000
PAIRS ?= 30
GIB ?= 0,1,4
FUZZ_SECONDS ?= 60
export CARGO_TERM_COLOR ?= auto

.PHONY: help setup build images demo demo-vm test test-driver test-node test-vm fmt generate mutants bench-blackout bench-fleet deny fuzz

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing (but Rust and Go) and build the lab's control plane into the cache
	@scripts/setup.sh
	@lab/tools/build.sh >/dev/null
	@lab/helm/build.sh >/dev/null

build: ## Build all binaries
	@cargo build --workspace --bins --locked

images: ## Make the product's images, and a bill of materials for each binary (CHECK=1 makes them twice and compares)
	@scripts/images.sh $(if $(CHECK),--check)

demo: ## Show a fleet of 20 simulated nodes being updated in canary steps (KEEP=1 leaves it up)
	@scripts/demo.sh

demo-vm: ## Show three QEMU guests with real kernels being live-updated (the first time it builds the kernels)
	@scripts/demo-vm.sh

test: ## Format, lints, documentation, all tests, also those on real kernels in QEMU guests
	@scripts/test.sh

test-driver: ## Try the kernel driver on a kernel that watches it, with style and lints (builds that kernel: half an hour, once)
	@scripts/test-driver.sh

test-node: ## Run the tests on a real node of Kubernetes in a QEMU guest alone (makes images, builds a kubelet)
	@scripts/test-node.sh

test-vm: ## Run the tests on real kernels in QEMU guests alone (a part of test)
	@scripts/test-vm.sh

fmt: ## Format the code
	@cargo fmt --all

generate: ## Write the generated files anew: CRD YAML, parts of the chart, and the pages of docs/ that are made from code
	@cargo run --quiet -p liveupdate-crds --bin crdgen -- crds/yaml
	@scripts/generate-chart.sh
	@cargo run --quiet -p kubectl-liveupdate --example docgen -- docs
	@LIVEUPDATE_REFRESH_GOLDENS=1 cargo test --quiet -p liveupdate-controller --lib metrics::tests::the_page >/dev/null

mutants: ## Break the code in known ways and see that the tests notice each
	@scripts/mutants.sh

bench-blackout: ## Measure the blackout in QEMU guests against a bare kexec: PAIRS (30) for each size of GIB (0,1,4)
	@scripts/bench-blackout.sh $(PAIRS) $(GIB)

bench-fleet: ## Measure a rollout over NODES simulated nodes on the real control plane
	@scripts/bench-fleet.sh $(NODES)

fuzz: ## Look for inputs that break a reader of foreign bytes, FUZZ_SECONDS (60) for each (a short run is part of test)
	@scripts/fuzz.sh $(FUZZ_SECONDS)

deny: ## Check licenses, sources and bans of all dependencies (installs cargo-deny when missing)
	@scripts/deny.sh
