# Zastava by hand: `make` lists what there is. Root, Rust and Go are needed; the rest is installed or built.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Everything that is built or kept lies here.
export ZASTAVA_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/zastava
export CARGO_TARGET_DIR ?= $(ZASTAVA_CACHE)/target
NODES ?= 2

harness := tests/e2e/harness.sh

.PHONY: help prerequisites build images cluster-up cluster-down kubeconfig cluster-bin install demo demo-down test check unit test-vm e2e fuzz bench-admission bench-observer

help: ## List these
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 24
	@printf '\nZASTAVA_CLUSTER names the cluster (%s), NODES its size (%s), ZASTAVA_CACHE the cache (%s).\n' \
	  '$(or $(ZASTAVA_CLUSTER),zastava)' '$(NODES)' '$(ZASTAVA_CACHE)'
	@printf 'ZASTAVA_PROFILE=release builds optimised images (some 10 minutes more), as one would deploy.\n'
	@printf 'With KUBECONFIG set, demo and e2e use that cluster and the registry ZASTAVA_REGISTRY (tests/e2e/README.md).\n'

prerequisites: # Debian packages; quick when all are there
	@tests/e2e/prerequisites.sh

build: prerequisites ## Build Zastava's programs
	@cargo build --workspace --bins

cluster-up: prerequisites ## Start a Kubernetes cluster on this machine, or repair it
	@$(harness) up --nodes $(NODES)

cluster-down: ## Take it down; its logs stay
	@$(harness) down

kubeconfig: ## Print the path of its kubeconfig (make -s kubeconfig)
	@$(harness) kubeconfig

cluster-bin: ## Print the folder of its tools: kubectl, helm, cosign, crane (make -s cluster-bin)
	@$(harness) bin

images: prerequisites ## Build Zastava's images and push them to the cluster's registry
	@$(harness) images

install: prerequisites ## Install Zastava of this tree on the cluster
	@$(harness) install

demo: prerequisites ## Show Zastava at work: cluster, install, policy, refusal, drift, finding, scan
	@$(harness) demo --nodes $(NODES)

demo-down: cluster-down ## Remove what the demo left

test: check unit test-vm e2e ## Everything

check: prerequisites ## Lints, licences, charts, stale generated files
	@tests/check.sh

unit: prerequisites ## Tests that need no cluster
	@cargo test --workspace --lib --bins --test engine --test validation --no-fail-fast

test-vm: prerequisites ## Kernel tests on Debian's own kernel with cgroup v2, in an emulated machine (VM_FILTER=name picks some)
	@tests/vm/run.sh $(VM_FILTER)

fuzz: prerequisites ## Hostile input for every parser, for longer than the unit tests do (ROUNDS=100000)
	@ZASTAVA_FUZZ_ROUNDS=$(or $(ROUNDS),100000) cargo test --workspace --lib --test engine -- fuzz

bench-admission: prerequisites ## Measure what admission costs, with release images (ROUNDS=5 SOAK=2 minutes)
	@ZASTAVA_PROFILE=release ZASTAVA_CLUSTER=$(or $(ZASTAVA_CLUSTER),zastava-bench) $(harness) bench-admission --rounds $(or $(ROUNDS),5) --soak $(or $(SOAK),2)

bench-observer: prerequisites ## Measure what it costs to be observed, with release images (ROUNDS=30)
	@ZASTAVA_PROFILE=release ZASTAVA_CLUSTER=$(or $(ZASTAVA_CLUSTER),zastava-bench) $(harness) bench-observer --rounds $(or $(ROUNDS),30)

e2e: prerequisites ## Scenarios on a real cluster (FILTER=name picks some, KEEP=1 leaves it up)
	@tests/e2e/scenarios.sh $(FILTER)
