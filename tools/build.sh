#!/usr/bin/env bash
# Configures (when needed) and builds one folder:  tools/build.sh BUILDDIR [meson options]
#
# ninja alone does not see a source file that was added or removed, since meson.build lists folders: the listing is kept
# beside the build and the folder is configured anew when it differs. CC in the environment chooses the compiler, at the
# first configuration only. BUILD_JOBS limits the parallel compilations, BUILD_TARGETS names what to build.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$1
shift
case $build in /*) ;; *) build=$PWD/$build ;; esac

listing=$(cd "$root" && python3 tools/sources.py src test/unit test/fuzz)
for optional in "$root"/doc/pgcrane*.1 "$root"/packaging/pgcrane.bash-completion "$root"/src/common/banned.h \
    "$root"/test/support/fake_pq.wrap; do
    [ ! -e "$optional" ] || listing+=$'\n'${optional#"$root"/}
done
listing+=$'\n'"options: $*"

mkdir -p "$build"
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" "$root" "$@" >"$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
elif [ "$listing" != "$(cat "$build/sources.list" 2>/dev/null)" ]; then
    meson setup --reconfigure "$build" "$root" "$@" >"$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
fi
rm -f "$build.log"
printf '%s\n' "$listing" >"$build/sources.list"
# shellcheck disable=SC2086 # targets are separate words
ninja -C "$build" --quiet ${BUILD_JOBS:+-j "$BUILD_JOBS"} ${BUILD_TARGETS:-}
