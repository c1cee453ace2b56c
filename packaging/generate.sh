#!/usr/bin/env bash
# Writes the documentation that comes from pgcrane's own tables:  packaging/generate.sh BINARY [FOLDER]
#
# FOLDER (default: the repository) gets doc/*.md, doc/*.1 and packaging/pgcrane.bash-completion. They are committed, so
# that they can be read without a build; tools/check-docs.sh fails when they are not what the tables say.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -lt 1 ]; then
    echo "usage: packaging/generate.sh BINARY [FOLDER]" >&2
    exit 64
fi
binary=$1
folder=${2:-$root}

page() { # PAGE FILE: complete or not at all
    mkdir -p "$(dirname "$folder/$2")"
    "$binary" docs "$1" >"$folder/$2.new"
    mv "$folder/$2.new" "$folder/$2"
}

page options doc/options.md
page errors doc/errors.md
page exit-codes doc/exit-codes.md
page phases doc/phases.md
page job-states doc/job-states.md
page man doc/pgcrane.1
for command in $("$binary" docs man-pages); do
    page "man-$command" "doc/pgcrane-$command.1"
done
page bash-completion packaging/pgcrane.bash-completion
