#!/usr/bin/env bash
# Build a signed APK without the Android SDK, and check it: a smoke build, not the app to install.
#
#     android_demo/tools/smoke_apk.sh [BUNDLE.mqz]
#
# Needs what `mvn verify` needs, its test bundles (make_test_bundles.py), npm, python3, and
# on Debian: apt-get install aapt apksigner dexdump enjarify
#
# ONNX Runtime's Android libraries come from an npm package (a Unity plugin that carries
# Microsoft's AAR as it is); the version there that holds no telemetry code is 1.26.0. The
# classes are those of the JVM build of the same version, as Java 8 class files, which dx reads.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
demo=$(dirname "$tools")
bundle=${1:-}
bundles=${TEST_BUNDLES:-$demo/../work/android}
out=$demo/target/smoke
natives_package=com.github.asus4.onnxruntime@0.4.8
natives_version=1.26.0
repository=${MAVEN_REPOSITORY:-$HOME/.m2/repository}
largest_mb=64

property() { sed -n "s:.*<$1>\(.*\)</$1>.*:\1:p" "$demo/pom.xml"; }
say() { printf '\n== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
artifact() { # group:name:version
    IFS=: read -r group name version <<< "$1"
    local jar=$repository/${group//./\/}/$name/$version/$name-$version.jar
    [[ -f $jar ]] || mvn -q -B dependency:get -Dartifact="$1" -Dtransitive=false >&2
    echo "$jar"
}

proguard_jars() { # ProGuard and what it needs
    local list=$out/proguard.classpath
    [[ -f $list ]] || mvn -q -B -f "$tools/proguard.xml" dependency:build-classpath \
        -Dmdep.outputFile="$list" >&2
    cat "$list"
}

mkdir -p "$out"
say "Maven: classes and resources"
[[ -n ${SKIP_MAVEN:-} ]] || mvn -q -B -f "$demo/pom.xml" package -DskipTests
mkdir -p "$out"

say "Native libraries of onnxruntime $natives_version for Android"
if [[ ! -f $out/natives/jni/arm64-v8a/libonnxruntime.so ]]; then
    (cd "$out" && npm pack --silent "$natives_package" >/dev/null)
    mkdir -p "$out/natives"
    tar xzf "$out"/com.github.asus4.onnxruntime-*.tgz -C "$out" package/Plugins/Android/onnxruntime.aar
    unzip -q -o "$out/package/Plugins/Android/onnxruntime.aar" -d "$out/natives"
    rm -r "$out"/com.github.asus4.onnxruntime-*.tgz "$out/package"
fi
library=$out/natives/jni/arm64-v8a/libonnxruntime.so
grep -qa "$natives_version" "$library" || fail "the library is not $natives_version"
! grep -qaE 'HttpClient|TelemetryLogger|1DS' "$library" || fail "the library holds telemetry code"

say "ProGuard and dx: one classes.dex"
rm -rf "$out/classes" && mkdir "$out/classes"
onnxruntime=$(artifact com.microsoft.onnxruntime:onnxruntime:$natives_version)
stdlib=$(artifact org.jetbrains.kotlin:kotlin-stdlib:"$(property kotlin.version)")
java_base=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")/jmods/java.base.jmod
android=$(artifact org.robolectric:android-all:"$(property android-all.version)")
for jar in "$stdlib" "$(artifact com.google.code.gson:gson:"$(property gson.version)")" "$onnxruntime"; do
    (cd "$out/classes" && jar xf "$jar")
done
rm -rf "$out/classes/META-INF" "$out/classes/module-info.class" "$out/classes/ai/onnxruntime/native"
cp -r "$demo/core/target/classes/." "$demo/app/target/classes/." "$out/classes/"
java -Xmx2g -cp "$(proguard_jars)" proguard.ProGuard "@$tools/smoke.pro" -injars "$out/classes" \
    -outjars "$out/classes.jar" -libraryjars "$java_base(!**.jar;!module-info.class)" \
    -libraryjars "$android(!**.arsc;!META-INF/**)" > "$out/proguard.txt" 2>&1 ||
    fail "ProGuard: $(tail -3 "$out/proguard.txt")"
java -Xmx2g -cp "$(artifact com.jakewharton.android.repackaged:dalvik-dx:16.0.1)" \
    com.android.dx.command.Main --dex --min-sdk-version="$(property min.sdk)" \
    --output="$out/classes.dex" "$out/classes.jar"

say "aapt2, zip, apksigner"
files=("classes.dex=$out/classes.dex")
for abi in arm64-v8a x86_64; do
    for name in onnxruntime onnxruntime4j_jni; do
        files+=("lib/$abi/lib$name.so=$out/natives/jni/$abi/lib$name.so")
    done
done
[[ -z $bundle ]] || files+=("assets/$(basename "$bundle")=$bundle")
python3 "$tools/apk_zip.py" write "$out/unsigned.apk" "$demo/app/target/resources/app.ap_" "${files[@]}"
[[ -f $out/smoke.keystore ]] || keytool -genkeypair -keystore "$out/smoke.keystore" -storepass smoke-build \
    -alias smoke -keyalg RSA -keysize 2048 -validity 10000 -dname "CN=smoke build" 2>/dev/null
apksigner sign --ks "$out/smoke.keystore" --ks-pass pass:smoke-build --v1-signing-enabled false \
    --min-sdk-version "$(property min.sdk)" --out "$out/smoke.apk" "$out/unsigned.apk"

say "Check: signature"
verified=$(apksigner verify --verbose --min-sdk-version "$(property min.sdk)" "$out/smoke.apk")
grep -E 'v[23] scheme .*: true' <<< "$verified"
[[ $(grep -cE 'v[23] scheme .*: true' <<< "$verified") == 2 ]] || fail "v2 and v3 signatures: $verified"

say "Check: native libraries are stored and aligned to 16 KB"
python3 "$tools/apk_zip.py" check "$out/smoke.apk" || fail "alignment"

say "Check: manifest"
badging=$(aapt2 dump badging "$out/smoke.apk" 2>/dev/null)
grep -E "^(package|sdkVersion|targetSdkVersion|uses-permission|launchable-activity|native-code)" <<< "$badging"
permissions=$(grep '^uses-permission' <<< "$badging")
[[ $permissions == "uses-permission: name='android.permission.RECORD_AUDIO'" ]] || fail "permissions: $permissions"
tree=$(aapt2 dump xmltree --file AndroidManifest.xml "$out/smoke.apk")
! grep -qE 'E: (provider|service|receiver)' <<< "$tree" || fail "the manifest has a provider, service or receiver"
grep -qE 'allowBackup\(.*=false' <<< "$tree" || fail "backups are on"

say "Check: dex"
dexdump -f "$out/smoke.apk" > "$out/dexdump.txt" 2>&1 || fail "dexdump: $(head -1 "$out/dexdump.txt")"
for class in mqtool/demo/MainActivity mqtool/demo/DemoApplication mqruntime/Recognizer ai/onnxruntime/OrtSession; do
    grep -q "L$class;" "$out/dexdump.txt" || fail "no class $class"
done
grep -E '^(method_ids_size|class_defs_size)' "$out/dexdump.txt"
! dexdump -d "$out/classes.dex" | grep -q invoke-custom || fail "a lambda that Android cannot make"
! grep -qE 'L[^;]*(Telemetry|HttpClient)[^;]*;' "$out/dexdump.txt" || fail "a telemetry class"

say "Check: size"
size=$(stat -c %s "$out/smoke.apk")
echo "$size bytes"
(( size < largest_mb * 1000000 )) || [[ -n $bundle ]] || fail "over $largest_mb MB"

say "Check: the dex, turned back to class files, hears what Python hears"
PATH=/usr/bin:$PATH enjarify -f -o "$out/dex.jar" "$out/classes.dex" > "$out/enjarify.txt" 2>&1
tail -1 "$out/enjarify.txt"
# It does not know invoke-polymorphic, which one class of ONNX Runtime has for 16-bit floats.
untranslated=$(comm -13 <(jar tf "$out/dex.jar" | sort) <(jar tf "$out/classes.jar" | grep 'class$' | sort))
[[ $untranslated == ai/onnxruntime/platform/Fp16Conversions.class ]] || fail "enjarify: $untranslated"
# The app's, ONNX Runtime's and Gson's classes come from the dex; of the JVM build only the libraries
# for this machine. Kotlin's library comes from its jar, since the tests use more of it than the app.
rm -rf "$out/jvm" && mkdir "$out/jvm" && (cd "$out/jvm" && jar xf "$onnxruntime" ai/onnxruntime/native/linux-x64 "$untranslated")
java -Dmqtool.test.bundles="$bundles" \
    -jar "$(artifact org.junit.platform:junit-platform-console-standalone:1.13.4)" execute \
    --class-path "$stdlib:$out/dex.jar:$out/jvm:$demo/core/target/test-classes" \
    --select-method 'mqruntime.RecognizerTest#hearsWhatPythonHears(java.lang.String)' \
    --select-method 'mqruntime.RecognizerTest#passesItsSelftest(java.lang.String)' \
    --select-class mqruntime.BundleTest --select-class mqruntime.WavTest \
    --select-class mqruntime.DecodingTest --select-class mqruntime.TranscriptionTest \
    --details summary --fail-if-no-tests --disable-banner
say "The smoke build is $out/smoke.apk: $(sha256sum < "$out/smoke.apk" | cut -d' ' -f1)"
