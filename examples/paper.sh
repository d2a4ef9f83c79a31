#!/usr/bin/env bash
# The paper's figures and tables on real models and speech: reports into work/reports/, and of each
# what belongs in the repository into examples/results/paper/.
#
#   examples/paper.sh DATA [NAME...]        all without a NAME, the cheap ones first:
#                                           speakers, tables-ctc, tables, gender, gender-base, language
#
# DATA holds commands/, librispeech/ and prompts/ with a manifest.csv each; work/base and work/tiny
# are whisper-base and whisper-tiny.en from `mqtool export`. Everything goes on where it stopped when
# it is run again. One thread, so that other work goes on beside it: the two commands models take
# minutes, the Whispers hours, most of them the language matrix.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${1:?usage: examples/paper.sh DATA [NAME...]}
shift
wanted=${*:-speakers tables-ctc tables gender gender-base language}
python=${PYTHON:-.venv/bin/python}
mqtool=("$python" -m mqtool.cli)
reports=work/reports
mkdir -p "$reports" work/cache

keep() { # NAME PICTURE
    "$python" examples/keep_report.py "$reports/$1" "examples/results/paper/$1" --picture "$2"
}

export_commands() {
    if [[ ! -d work/$1-float ]]; then
        "${mqtool[@]}" export "examples/commands/$1" -o "work/$1-float"
    fi
    # Speech Commands holds some recordings twice, under two names.
    "$python" examples/distinct_rows.py "$data/commands/manifest.csv" work/commands.csv
}

for name in $wanted; do
    case $name in
    speakers)
        # Figure 5. Seven to ten calibration clips a speaker. At a whole number of bits Algorithm 1
        # gives every layer the same width, whatever the recordings: so half a bit between.
        export_commands keywords
        "${mqtool[@]}" matrix work/keywords-float --manifest work/commands.csv --by speaker \
            --methods myqasr,myqasr-cosine,measured --bits 3.5,4.5 --threads 1 \
            --cache work/cache/keywords -o "$reports/speakers-keywords"
        keep speakers-keywords matrix-myqasr-3.48-bits.png
        ;;
    tables-ctc)
        # Tables 1 to 5 on words spelled by the CTC model; all speakers are one group. Between whole bits,
        # where Algorithm 1 does not give every layer the same width.
        export_commands ctc
        "${mqtool[@]}" ablate work/ctc-float --manifest work/commands.csv --by language --bits 3.5 \
            --clip-counts 4,8,16,32,64 --threads 1 --cache work/cache/ctc \
            -o "$reports/tables-ctc"
        keep tables-ctc table-3.png
        ;;
    language)
        # Figure 4, at sizes between whole bits; at 4.3 the paper's methods repeat words without end.
        # Some Spanish transcripts lack accents and some Italian ones hold broken letters.
        "${mqtool[@]}" matrix work/base --manifest "$data/prompts/manifest.csv" --by language \
            --bits 4.7,5.3 --test-clips "${TEST_CLIPS:-40}" --remove-diacritics --threads 1 \
            --cache work/cache/base -o "$reports/language-whisper-base"
        keep language-whisper-base matrix-myqasr-4.70-bits.png
        ;;
    gender)
        # Figures 3 and S3 to S5, where quantization hurts but does not yet ruin: below, models repeat
        # themselves to the end of every window, which takes hours and tells nothing.
        "${mqtool[@]}" sweep work/tiny --manifest "$data/librispeech/manifest.csv" \
            --methods uniform,myqasr,shuffled,reversed,myqasr-cosine --bits 4.5,4.75,5,5.5,6,6.5,7,8 \
            --test-clips "${TEST_CLIPS:-25}" --threads 1 --cache work/cache/tiny -o "$reports/gender-whisper-tiny.en"
        keep gender-whisper-tiny.en sweep.png
        ;;
    gender-base)
        # The same on whisper-base. The search of ranges takes minutes a model: hours in all.
        "${mqtool[@]}" sweep work/base --manifest "$data/librispeech/manifest.csv" \
            --methods uniform,myqasr,shuffled,reversed,myqasr-cosine --bits 4.75,5,5.25,5.5,6,6.5,7,8 \
            --test-clips "${TEST_CLIPS:-10}" --threads 1 --cache work/cache/base -o "$reports/gender-whisper-base"
        keep gender-whisper-base sweep.png
        ;;
    tables)
        # Tables 1 to 5, at a size where words are lost but not all. Table 4 up to the 32 clips there
        # are of each gender.
        "${mqtool[@]}" ablate work/tiny --manifest "$data/librispeech/manifest.csv" --bits 4.75 \
            --clip-counts 4,8,16,32 --test-clips "${TEST_CLIPS:-15}" --threads 1 --cache work/cache/tiny \
            -o "$reports/tables-whisper-tiny.en"
        keep tables-whisper-tiny.en table-3.png
        ;;
    *)
        echo "$name: not one of speakers, tables-ctc, tables, gender, gender-base, language" >&2
        exit 2
        ;;
    esac
done
