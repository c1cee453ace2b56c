#!/usr/bin/env bash
# Fails when committed documentation differs from what the tables say:  tools/check-docs.sh BINARY
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
binary=${1:?usage: tools/check-docs.sh BINARY}
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

"$root/packaging/generate.sh" "$binary" "$fresh"
failed=0
while IFS= read -r file; do
    diff -u "$root/$file" "$fresh/$file" || failed=1
done < <(cd "$fresh" && find . -type f | sort)
if [ "$failed" != 0 ]; then
    echo "documentation is behind the tables: run packaging/generate.sh $binary" >&2
fi
exit "$failed"
