#!/usr/bin/env bash
# The paper's figures and tables on real models and speech, into examples/results/paper/.
#
#   examples/paper.sh DATA [NAME...]        NAME: language, gender, tables; all without one
#
# DATA holds librispeech/ and prompts/ with a manifest.csv each; work/base and work/tiny are float
# models made by `mqtool export`. Everything goes on where it stopped when it is run again. One
# thread, so that other work goes on beside it: hours, most of them for the language matrix.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${1:?usage: examples/paper.sh DATA [language] [gender] [tables]}
shift
wanted=${*:-language gender tables}
python=${PYTHON:-.venv/bin/python}
mqtool=("$python" -m mqtool.cli)
results=examples/results/paper
mkdir -p "$results" work/cache

for name in $wanted; do
    case $name in
    language)
        # Figure 4. Some Spanish transcripts lack accents and some Italian ones hold broken letters.
        "${mqtool[@]}" matrix work/base --manifest "$data/prompts/manifest.csv" --by language \
            --bits 4,5 --test-clips "${TEST_CLIPS:-40}" --remove-diacritics --threads 1 \
            --cache work/cache/base -o "$results/language-whisper-base"
        ;;
    gender)
        # Figures 3 and S3 to S5.
        "${mqtool[@]}" sweep work/tiny --manifest "$data/librispeech/manifest.csv" \
            --methods uniform,myqasr,shuffled,reversed,myqasr-cosine --bits 3.5,4,4.5,5,5.5,6,7,8 \
            --threads 1 --cache work/cache/tiny -o "$results/gender-whisper-tiny.en"
        ;;
    tables)
        # Tables 1 to 5. Table 4 up to the 32 clips there are of each gender.
        "${mqtool[@]}" ablate work/tiny --manifest "$data/librispeech/manifest.csv" --bits 4.5 \
            --clip-counts 4,8,16,32 --threads 1 --cache work/cache/tiny \
            -o "$results/tables-whisper-tiny.en"
        ;;
    *)
        echo "$name: not one of language, gender, tables" >&2
        exit 2
        ;;
    esac
done
