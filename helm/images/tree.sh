#!/usr/bin/env bash
# Lays out what the images hold: tree.sh RELEASE_FOLDER OUT "PROGRAM ..."
#
#   OUT/PROGRAM/usr/local/bin/PROGRAM   and /program, a link to it, which is every image's entry point
#   OUT/PROGRAM/usr/share/doc/attune    the list of the crates in it (SPDX)
#   OUT/state                           empty: becomes /var/lib/attune
set -euo pipefail
release=$1 out=$2
read -ra programs <<<"$3"

mkdir -p "$out/state"
for program in "${programs[@]}"; do
    root=$out/$program
    install -D "$release/$program" "$root/usr/local/bin/$program"
    ln -s "usr/local/bin/$program" "$root/program"
    mkdir -p "$root/usr/share/doc/attune" "$root/var/lib"
    cargo sbom --cargo-package "$program" --output-format spdx_json_2_3 >"$root/usr/share/doc/attune/sbom.spdx.json"
    install -m 644 LICENSE "$root/usr/share/doc/attune/LICENSE"
done
