#!/usr/bin/env bash
# Writes what the chart shares with the rest of the sources, so that nothing is written twice:
#
#   crds/yaml/*.yaml            -> files/crds/          the kinds
#   controller/deploy/*.yaml    -> templates/shared/    rights and admission policies
#   values.yaml                 -> README.md            the table of values
#
#   scripts/generate-chart.sh          into helm/liveupdate
#   scripts/generate-chart.sh FOLDER   into another folder, for a test to compare
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
chart=helm/liveupdate
out=${1:-$chart}
mkdir -p "$out/files/crds" "$out/templates/shared"
rm -f "$out"/files/crds/*.yaml "$out"/templates/shared/*.yaml
cp crds/yaml/*.yaml "$out/files/crds/"

# A plain manifest is a template but for three things: the namespace, the labels, and what depends on values, which
# stands in comments that begin with `helm:`. The namespace itself is made by whoever installs the chart.
for file in controller/deploy/*.yaml; do
  [ "$file" = controller/deploy/00-namespace.yaml ] && continue
  awk -v source="$file" '
    BEGIN { print "{{- /* Made of " source " by `make generate`; edit that. */ -}}" }
    {
      gsub(/liveupdate-system/, "{{ .Release.Namespace }}")
      if ($0 == "    app.kubernetes.io/name: liveupdate") {
        $0 = "    {{- include \"liveupdate.labels\" . | nindent 4 }}"
      }
      if (match($0, /^ *# helm: /)) $0 = "{{- " substr($0, RSTART + RLENGTH) " }}"
      print
    }
  ' "$file" >"$out/templates/shared/$(basename "$file")"
done

# Comments that begin with two dashes describe the value under them.
awk '
  function path(depth,   i, text) {
    for (i = 0; i <= depth; i++) text = text (i ? "." : "") keys[i]
    return text
  }
  /^ *# -- / { text = $0; sub(/^ *# -- /, "", text); next }
  /^ *#/ || /^ *$/ || /^ *- / { next }
  {
    indent = match($0, /[^ ]/) - 1
    line = substr($0, indent + 1)
    key = line; sub(/:.*/, "", key)
    value = line; sub(/^[^:]*: */, "", value)
    keys[indent / 2] = key
    if (text != "") {
      if (value == "" && key == "requests") value = ""
      rows = rows "| `" path(indent / 2) "` | " (value == "" ? "see values.yaml" : "`" value "`") " | " text " |\n"
      text = ""
    }
  }
  END { printf "%s", rows }
' "$chart/values.yaml" >"$out/.values-table"
{
  sed '/^<!-- values -->$/q' "$chart/files/README.head.md"
  printf '\n| value | default | what it does |\n|---|---|---|\n'
  cat "$out/.values-table"
} >"$out/README.md"
rm "$out/.values-table"
