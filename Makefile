# `make` alone prints the targets. Everything runs with the right Go and as the
# owner of the tree (tools/env); root is asked for only where it is needed
# (tools/as-root), and leaves nothing of its own in the tree.

.DEFAULT_GOAL := help
.PHONY: help build check test e2e test-chaos test-tutorial test-openstack test-compose demo demo-clean demo-openstack tour bench-exporter bench-engine deb fuzz check-dashboards lint fmt clean

GO      := tools/env go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X github.com/prometheus/common/version.Version=$(VERSION)

help: ## Print these targets
	@echo 'usage: make TARGET'
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build scalehook and scalehook-exporter into bin/
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

check: ## Lint and unit tests: no root, a few minutes
	@tools/test check

test: ## Everything but the long targets, on real VMs too; installs what is missing; root or sudo
	@tools/test

e2e: ## Only the end-to-end tests on real VMs; root or sudo
	@tools/test e2e

test-chaos: ## A million random histories, every kill, every mutant, on real VMs too; an hour at most; root or sudo
	@tools/test chaos

test-tutorial: ## The commands of pages for a KVM host, the tutorial's with a clock; a quarter of an hour; root or sudo
	@tools/test tutorial

test-openstack: ## Everything on a real OpenStack, which it installs, brings up and ends; long; root or sudo
	@tools/test openstack

test-compose: ## docker-compose.yml for real, in a Docker of its own that it starts and ends; root or sudo
	@tools/test compose

demo: ## Watch it scale real VMs under load, without losing a request; installs what is missing; root or sudo
	@deploy/setup/install demo
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/demo ./e2e/demo
	@tools/as-root bin/demo $(DEMO_FLAGS)

demo-clean: ## Remove what a killed demo may have left; root or sudo
	$(GO) build -o bin/demo ./e2e/demo
	@tools/as-root bin/demo --clean

demo-openstack: ## The same on a real OpenStack with real guests, which it brings up and ends; about twelve minutes; root or sudo
	@deploy/setup/install openstack
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/demo-openstack ./e2e/openstack/demo
	@tools/as-root bin/demo-openstack $(DEMO_FLAGS)

tour: build ## The real server over simulated VMs, about a minute; no root
	$(GO) build -o bin/tour ./e2e/tour
	@tools/env bin/tour $(TOUR_FLAGS)

bench-exporter: ## The exporter beside others and beside bare libvirt calls, as a table; long; root or sudo
	@deploy/setup/install bench
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/benchexporter ./e2e/benchexporter
	@tools/as-root bin/benchexporter $(BENCH_FLAGS)

bench-engine: ## 10,000 groups with 100,000 instances, and 1,000 posts a second, as a table; a few minutes; no root
	$(GO) build -o bin/benchengine ./e2e/benchengine
	@tools/env bin/benchengine $(BENCH_FLAGS)

deb: build ## Debian packages of both programs into dist/
	@tools/env tools/deb

fuzz: ## Run every fuzz test for FUZZTIME (20s) each
	@tools/fuzz $(or $(FUZZTIME),20s)

check-dashboards: ## The Grafana dashboards, against Grafana's own types too; needs node and npm
	$(GO) test -count=1 ./grafana

lint: ## Only the linters
	@tools/lint

fmt: ## Format the Go code
	@tools/env sh -c '.cache/bin/golangci-lint fmt ./... 2>/dev/null || gofmt -w $$(find . -name "*.go" -not -path "./.cache/*")'

clean: ## Remove what was built; .cache (Go, linters, images) stays
	rm -rf bin dist
