#!/usr/bin/env bash
# Runs the tests: all steps in order, or the ones named. Ends with the summary of go test.
#
#   scripts/test.sh [setup] [lint] [race] [sim] [fuzz] [tests] [stress]
#
# stress is not among all steps: it has 200,000 events sequenced in PostgreSQL, twice, a tick planned over 5 million, and the promises proved
# in full, on PostgreSQL and RabbitMQ too, with kills at each point of their writes. That takes an hour or so.
#
# PULSE_SIM_SCHEDULES  schedules the simulation runs (5000)
# FUZZTIME             how long each fuzz target runs: executions (20000x) or a time (1m)
set -euo pipefail
cd "$(dirname "$0")/.."

# The command is tested as make build makes it.
export GOFLAGS="${GOFLAGS:-} -tags=kafka"

step_setup() { scripts/setup.sh; }

step_lint() {
	local unformatted
	unformatted=$(go tool gofumpt -l .)
	if [ -n "$unformatted" ]; then
		printf 'not formatted, run "go tool gofumpt -w .":\n%s\n' "$unformatted" >&2
		return 1
	fi
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff
	go -C integration vet ./...
	go -C integration mod tidy -diff
	go test -count=1 -run '^TestImports' .
	go test -count=1 -run '^TestHeadersAllocations$' ./cloudevents # which says less under the race detector
	go vet -tags= ./...
	go test -tags= -count=1 -run '^TestWithoutKafka$' ./internal/app
}

# Packages whose tests need a server or SQLite, or bring a broker, or measure memory, of which the race detector takes its own, and the others. The simulation has a
# step of its own.
with_servers() { packages -E; }
without_servers() { packages -vE; }
packages() {
	go list -f '{{.ImportPath}} {{join .Deps " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... | grep -v '^[^ ]*/internal/simulation ' |
		grep "$1" '/(sqlitestore|pgstore|pgtest|natsbroker|kafkabroker|rabbitbroker|rabbittest|rss)( |$)' | cut -d ' ' -f 1 | sort -r # which happens to have the longest first
}

# The short tests of the first; those of all others run under the race detector among the tests. SQLite is C translated
# to Go, many times slower with the race detector's instructions in it: they are left out of that package, whose memory nobody else touches. A
# process with the race detector sleeps for a second before it ends, which children of tests need not. Tests that
# mostly start processes are left out: these do what other packages test.
step_race() {
	# shellcheck disable=SC2046 # one argument for each package
	GOGC=400 GORACE=atexit_sleep_ms=10 go test -json -race -gcflags='modernc.org/sqlite/lib=-race=false' -short -count=1 $(with_servers | grep -vE '/(examples|internal/(bench|cli|demo))') |
		go run ./internal/testreport
}

# Each schedule makes a world and throws it away: collecting garbage less often halves the time.
step_sim() {
	GOGC=400 PULSE_SIM_SCHEDULES=${PULSE_SIM_SCHEDULES:-5000} go test -count=1 -timeout 10m ./internal/simulation
}

step_fuzz() {
	local dir target
	grep -roE '^func Fuzz[A-Z][A-Za-z]*' --include='*_test.go' . | sed -E 's|/[^/]*:func | |' | sort | while read -r dir target; do
		echo "$dir $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-20000x}" "$dir" </dev/null
	done
}

step_stress() {
	PULSE_PG_EVENTS=${PULSE_PG_EVENTS:-200000} go test -count=2 -timeout 2h -v -run '^TestSequencerMissesAndInvertsNothing$' ./pgstore
	export PULSE_GUARANTEE_FULL=1 PULSE_GUARANTEE_RABBITMQ=1
	go test -count=1 -timeout 1h ./internal/guarantee
	PULSE_GUARANTEE_POSTGRES=1 go test -count=1 -timeout 1h -run '/postgres' ./internal/guarantee
	PULSE_PG_ROWS=${PULSE_PG_ROWS:-5000000} go test -count=1 -timeout 1h -run '^TestATickLooksAtWhatIsNewOnly$' ./pgstore
}

# A skipped test proves nothing: here all that tests need has been set up, so a skip is a failure.
step_tests() {
	{
		failed=0
		# shellcheck disable=SC2046
		GOGC=400 GORACE=atexit_sleep_ms=10 go test -json -race -count=1 $(without_servers) || failed=1
		# shellcheck disable=SC2046
		go test -json -count=1 $(with_servers) || failed=1
		go -C integration test -json -count=1 ./... || failed=1
		exit "$failed"
	} | PULSE_TEST_REQUIRE=1 go run ./internal/testreport
}

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(setup lint race sim fuzz tests)
for step in "${steps[@]}"; do
	declare -F "step_$step" >/dev/null || {
		echo "test.sh: no step '$step': setup, lint, race, sim, fuzz, tests or stress" >&2
		exit 2
	}
	echo "== $step"
	start=$SECONDS
	"step_$step"
	[ "$step" = tests ] || echo "== $step took $((SECONDS - start)) s"
done
