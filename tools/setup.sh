#!/usr/bin/env bash
# Installs the Debian packages that a task needs, and nothing when they are there already.
#
#   tools/setup.sh build|test|demo|bench
#
# Needs nothing but bash and apt, and root or sudo. No PostgreSQL cluster is made or started by it: tests, demo and
# benchmark make their own.
set -euo pipefail

build="gcc libc6-dev meson ninja-build pkg-config libpq-dev libjansson-dev libsqlite3-dev uthash-dev libevent-dev node-llhttp
    libssl-dev libsodium-dev libcurl4-openssl-dev libyaml-dev python3"
demo="$build postgresql-15 postgresql-client-15 util-linux openssh-client"
tests="$demo make git libcmocka-dev python3-pytest python3-pytest-xdist python3-pytest-timeout python3-psycopg python3-paramiko
    clang libclang-rt-14-dev clang-format pmccabe openssl"
# Node.js for the client that Google publishes; one that is there already, from wherever, brings its own npm.
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    tests="$tests nodejs npm"
fi
bench="$tests pgcopydb postgresql-15-wal2json"

case ${1:-} in
    build) wanted=$build ;;
    test) wanted=$tests ;;
    demo) wanted=$demo ;;
    bench) wanted=$bench ;;
    *) echo "usage: tools/setup.sh build|test|demo|bench" >&2; exit 64 ;;
esac

missing=()
for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status} ' "$package" 2>/dev/null || true)
    [[ " $status" == *" installed "* ]] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup: needs root or sudo, to install: ${missing[*]}" >&2; exit 77; }
    as_root=(sudo)
fi
log=$(mktemp)
drop_in=/etc/postgresql-common/createcluster.d/pgcrane-setup.conf
# Reading from /dev/null: a package that asks must fail, not wait.
quietly() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@" >"$log" 2>&1 </dev/null; }
cleanup() {
    "${as_root[@]}" rm -f "$drop_in"
    "${as_root[@]}" rmdir /etc/postgresql-common/createcluster.d /etc/postgresql-common 2>/dev/null || true
    rm -f "$log"
}
trap cleanup EXIT

echo "setup: installing ${missing[*]}"
# The postgresql packages would make a cluster of their own and start it.
"${as_root[@]}" mkdir -p "${drop_in%/*}"
echo "create_main_cluster = false" | "${as_root[@]}" tee "$drop_in" >/dev/null
if ! quietly apt-get update; then
    cat "$log" >&2
    echo "setup: apt-get update failed: trying with the lists that are there" >&2
fi
if ! quietly apt-get install -y --no-install-recommends "${missing[@]}"; then
    cat "$log" >&2
    echo "setup: apt-get could not install: ${missing[*]}" >&2
    exit 69
fi
