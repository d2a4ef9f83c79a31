#!/usr/bin/env bash
# Speak the sentences of manifest.csv into the FLAC files beside it.
#
# Voice: slt of flite (Carnegie Mellon University's small synthesizer; its licence leaves recordings
# free). Of flite's 16 kHz voices it is the one whisper-tiny.en understands best.
# Needs: apt-get install flite flac
set -euo pipefail
cd "$(dirname "$0")"

spoken=$(mktemp --suffix .wav)
trap 'rm -f "$spoken"' EXIT

tail -n +2 manifest.csv | while IFS=, read -r path _ transcript; do
    flite -voice slt -t "$transcript" -o "$spoken"
    flac --silent --force --best --no-seektable --no-padding -o "$path" "$spoken"
done
