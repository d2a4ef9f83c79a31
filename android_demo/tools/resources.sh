#!/usr/bin/env bash
# Compile and link the app's resources: what Android's Gradle plugin does with aapt2.
#
#     resources.sh FRAMEWORK OUTPUT MIN_SDK TARGET_SDK VERSION [aapt2 link options]
#
# FRAMEWORK is a folder with AndroidManifest.xml and resources.arsc of Android itself. Writes
# OUTPUT/app.ap_ (manifest and resources), OUTPUT/AndroidManifest.xml and
# OUTPUT/java/mqtool/demo/R.java.
set -euo pipefail
framework=$1 output=$2 min_sdk=$3 target_sdk=$4 version=$5
shift 5
app=$(cd "$(dirname "$0")/../app" && pwd)

command -v aapt2 >/dev/null || { echo "aapt2 is needed; on Debian: apt-get install aapt" >&2; exit 1; }

mkdir -p "$output/java"
# As the manifest merger: the package comes from the build, and removed permissions go.
sed -e '/tools:node="remove"/d' -e 's/<manifest /<manifest package="mqtool.demo" /' \
    "$app/src/main/AndroidManifest.xml" > "$output/AndroidManifest.xml"
jar cMf0 "$output/framework.apk" -C "$framework" AndroidManifest.xml -C "$framework" resources.arsc
aapt2 compile --dir "$app/src/main/res" -o "$output/res.zip"
aapt2 link -o "$output/app.ap_" -I "$output/framework.apk" --manifest "$output/AndroidManifest.xml" \
    --min-sdk-version "$min_sdk" --target-sdk-version "$target_sdk" \
    --version-code 1 --version-name "$version" --java "$output/java" "$@" "$output/res.zip"
