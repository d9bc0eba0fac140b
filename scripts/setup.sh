#!/usr/bin/env bash
# Installs what the tests need on a Debian machine that has Go. Installs nothing when nothing is missing.
#
# Which programs the tests need is read from the tests: they look for each with exec.LookPath("name").
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}

# package_of prints the Debian package a program is in.
package_of() {
	case $1 in
	node) echo nodejs ;;
	npm) echo nodejs npm ;;
	sqlite3 | strace | curl | git | make | kcat) echo "$1" ;;
	gcc) echo gcc libc6-dev ;;
	postgres) echo postgresql ;;
	pgbouncer) echo pgbouncer ;;
	rabbitmq-server) echo rabbitmq-server ;;
	*) return 1 ;;
	esac
}

# have tells whether a program is there. Debian keeps the servers and pgbouncer beside PATH, where the tests know to look.
have() {
	command -v "$1" >/dev/null && return
	case $1 in
	postgres) compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
	pgbouncer) [ -x /usr/sbin/pgbouncer ] ;;
	rabbitmq-server) [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] ;;
	*) return 1 ;;
	esac
}

# needed prints the programs the build and the tests need, one a line.
needed() {
	echo gcc # for -race
	grep -rhoE 'exec\.LookPath\("[^"/]+"\)' --include='*test.go' . | sed -E 's/.*"(.*)".*/\1/' | grep -vx go || true
}

install_packages() {
	local as_root=() policy=/usr/sbin/policy-rc.d
	command -v apt-get >/dev/null ||
		fail "these programs are missing and this is no Debian machine with apt-get: ${missing[*]}. Install them and try again."
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || fail "missing: ${missing[*]}. Installing them needs root: run 'apt-get install $*' and try again."
		as_root=(sudo -n)
	fi
	echo "setup: installing $*"
	# Debian starts the servers it installs. The tests start their own, so theirs stay off.
	if [ ! -e "$policy" ] && printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null; then
		trap "${as_root[*]} rm -f $policy" EXIT
		"${as_root[@]}" chmod +x "$policy"
	fi
	"${as_root[@]}" apt-get update -q >/dev/null || fail "apt-get update failed, so these stay missing: ${missing[*]}. Is there a network?"
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null ||
		fail "apt-get could not install $*, so these stay missing: ${missing[*]}."
}

command -v go >/dev/null || fail "Go is missing: install the version go.mod names from https://go.dev/dl/ and put it on PATH."

missing=() packages=()
while read -r program; do
	have "$program" && continue
	found=$(package_of "$program") || fail "a test looks for '$program', and scripts/setup.sh does not know its Debian package: add it there."
	missing+=("$program")
	read -ra found <<<"$found"
	packages+=("${found[@]}")
done < <(needed | sort -u)

if [ ${#missing[@]} -gt 0 ]; then
	install_packages "${packages[@]}"
	for program in "${missing[@]}"; do
		have "$program" || fail "'$program' is still missing after installing ${packages[*]}."
	done
fi

# The compiler works, not only exists: without the headers of libc the race detector does not build.
echo 'int main(void) { return 0; }' | gcc -x c -include stdlib.h -o /dev/null - 2>/dev/null ||
	fail "gcc does not compile a program of one line: install gcc and libc6-dev for the race detector."

go mod download || fail "the modules in go.mod could not be downloaded: check the network or GOPROXY ($(go env GOPROXY))."
go -C integration mod download || fail "the modules in integration/go.mod could not be downloaded: check the network or GOPROXY ($(go env GOPROXY))."
if [ ! integration/node/node_modules/.package-lock.json -nt integration/node/package-lock.json ]; then
	(cd integration/node && npm ci --silent) || fail "npm ci failed in integration/node: check the network or npm's registry."
fi
echo "setup: $(go env GOVERSION), $(nproc) cores, nothing is missing"
