#!/usr/bin/env bash
# Runs every fuzz program of a build from its corpus:  tools/fuzz.sh BUILDDIR [libFuzzer options]
#
# Without options the corpus of test/fuzz/corpus/NAME (for fuzz_NAME) is replayed once. With -max_total_time=N what is
# found goes into a folder of the build, never into the repository.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$1
shift
failed=0
for program in "$build"/fuzz_*; do
    if [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
    name=$(basename "$program")
    found="$build/corpus-found/$name"
    mkdir -p "$found"
    folders=()
    [ $# -eq 0 ] || folders+=("$found")
    [ ! -d "$root/test/fuzz/corpus/${name#fuzz_}" ] || folders+=("$root/test/fuzz/corpus/${name#fuzz_}")
    if [ $# -eq 0 ] && [ ${#folders[@]} -eq 0 ]; then
        echo "$name: no corpus"
        failed=1
        continue
    fi
    options=("$@")
    [ $# -gt 0 ] || options=(-runs=0)
    if "$program" "${options[@]}" -artifact_prefix="$found/" "${folders[@]}" >"$build/$name.log" 2>&1; then
        echo "$name: $(grep -E '^(Done|#[0-9]+.*(INITED|DONE))' "$build/$name.log" | tail -n 1)"
    else
        cat "$build/$name.log"
        failed=1
    fi
done
exit $failed
