#!/usr/bin/env bash
# Formats every C file, or with --check only says which ones are not formatted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v clang-format >/dev/null; then
    echo "clang-format is not installed: formatting is not checked"
    exit 0
fi
mapfile -d '' files < <(find src test bench -name '*.[ch]' -print0)
[ ${#files[@]} -gt 0 ] || exit 0
case ${1:-} in
    --check) clang-format --dry-run -Werror "${files[@]}" ;;
    *) clang-format -i "${files[@]}" ;;
esac
