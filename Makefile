# `make` alone lists the targets. Everything a target needs is set up by the target itself.
.PHONY: help test build lint race sim fuzz stress bench demo setup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## everything: set-up, lint, race, simulation, fuzzing, all tests
	@scripts/test.sh

build: ## compile all packages, and the pulse command into bin/, with Kafka and without debug information
	go build ./...
	go build -tags kafka -ldflags=-w -o bin/pulse ./cmd/pulse

lint: ## format, vet, staticcheck, tidy go.mod
	@scripts/test.sh lint

race: ## tests under the race detector
	@scripts/test.sh race

sim: ## random schedules of faults; PULSE_SIM_SCHEDULES sets how many
	@scripts/test.sh sim

fuzz: ## each fuzz target for FUZZTIME: executions (20000x) or a time (1m)
	@scripts/test.sh fuzz

stress: ## PostgreSQL and RabbitMQ at length: 200,000 events sequenced, twice, 5 million stored, the promises through kills
	@scripts/test.sh stress

bench: build ## measure this machine and each broker, as for README.md; with PostgreSQL installed also next to others, see BENCH
	bin/pulse bench
	cd integration && go run ./brokers
	@if command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then \
		cd integration && go run ./rivals $(BENCH); \
	else echo "PostgreSQL is not installed: nothing was measured with it"; fi

demo: build ## a small school emits and handles events before your eyes
	bin/pulse demo

setup: ## install what the tests need on a Debian machine with Go
	@scripts/setup.sh

clean: ## remove what the targets above made
	rm -rf bin
