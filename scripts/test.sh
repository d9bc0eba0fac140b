#!/usr/bin/env bash
# Runs the tests: all steps in order, or the ones named. Ends with the summary of go test.
#
#   scripts/test.sh [setup] [lint] [race] [sim] [fuzz] [tests] [stress]
#
# stress is not among all steps: it has 200,000 events sequenced in PostgreSQL, twice, a tick planned over 5 million, and the promises proved
# with PostgreSQL, with kills at each point of its writes. That takes half an hour or so.
#
# PULSE_SIM_SCHEDULES  schedules the simulation runs (5000)
# FUZZTIME             how long each fuzz target runs: executions (20000x) or a time (1m)
set -euo pipefail
cd "$(dirname "$0")/.."

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
}

# SQLite is C translated to Go, many times slower with the race detector's instructions in it: they are left out of that package, whose memory
# nobody else touches. Where it or the server of a test is used only the short tests run all the same. A process with the race detector
# sleeps for a second before it ends, which children of tests need not. The simulation has a step of its own.
step_race() {
	local all with without
	export GORACE=atexit_sleep_ms=10
	all=$(go list -f '{{.ImportPath}} {{join .Deps " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... | grep -v '^[^ ]*/simulation ')
	with=$(grep -E '/(sqlitestore|pgstore|pgtest|rabbitbroker|rabbittest)( |$)' <<<"$all" | cut -d ' ' -f 1)
	without=$(grep -vE '/(sqlitestore|pgstore|pgtest|rabbitbroker|rabbittest)( |$)' <<<"$all" | cut -d ' ' -f 1)
	# shellcheck disable=SC2086 # one argument for each package
	go test -json -race -count=1 $without | go run ./internal/testreport
	# shellcheck disable=SC2086
	go test -json -race -gcflags='modernc.org/sqlite/lib=-race=false' -short -count=1 $with | go run ./internal/testreport
	unset GORACE
}

step_sim() {
	PULSE_SIM_SCHEDULES=${PULSE_SIM_SCHEDULES:-5000} go test -count=1 -timeout 10m ./internal/simulation
}

step_fuzz() {
	local dir target
	grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | xargs -r -n1 dirname | sort -u | while read -r dir; do
		go test -list '^Fuzz' "$dir" | grep '^Fuzz' | while read -r target; do
			echo "$dir $target"
			go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-20000x}" "$dir" </dev/null
		done
	done
}

step_stress() {
	PULSE_PG_EVENTS=${PULSE_PG_EVENTS:-200000} go test -count=2 -timeout 2h -v -run '^TestSequencerMissesAndInvertsNothing$' ./pgstore
	PULSE_GUARANTEE_POSTGRES=1 go test -count=1 -timeout 1h -run '/postgres' ./internal/guarantee
	PULSE_GUARANTEE_RABBITMQ=1 go test -count=1 -timeout 1h -run '/rabbitmq' ./internal/guarantee
	PULSE_PG_ROWS=${PULSE_PG_ROWS:-5000000} go test -count=1 -timeout 1h -run '^TestATickLooksAtWhatIsNewOnly$' ./pgstore
}

# A skipped test proves nothing: here all that tests need has been set up, so a skip is a failure.
step_tests() {
	{
		failed=0
		go test -json -count=1 ./... || failed=1
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
