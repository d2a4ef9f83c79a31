#!/usr/bin/env bash
# Run packed models under onnxruntime for ARM64, on this x86 machine.
#
#     android_demo/arm64/run.sh [pytest options]
#
# Needs Debian 12's apt with its own sources (nothing is installed), qemu-aarch64-static (apt-get
# install qemu-user-static), pip, and the bundles of make_test_bundles.py. Everything goes to
# work/arm64. Slow: up to some hundred times slower than the machine itself.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${ARM64_ROOT:-$here/../../work/arm64}
python=${PYTHON:-python3}
onnxruntime=onnxruntime==1.28.0

mkdir -p "$root"
root=$(cd "$root" && pwd)
system=$root/system

if [[ ! -x $system/usr/bin/python3.11 ]]; then
    mkdir -p "$root"/apt/{lists/partial,cache/archives/partial} "$root/debs" "$system"
    cat > "$root/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Dir::State "$root/apt";
Dir::State::lists "$root/apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$root/apt/cache";
CONF
    export APT_CONFIG=$root/apt.conf
    apt-get update -qq
    (cd "$root/debs" && apt-get download -qq python3.11-minimal libpython3.11-minimal \
        libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 \
        liblzma5 libuuid1 libcrypt1)
    unset APT_CONFIG
    for deb in "$root"/debs/*.deb; do dpkg -x "$deb" "$system"; done
fi

if [[ ! -d $root/packages/onnxruntime ]]; then
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --dest "$root/wheels" "$onnxruntime" numpy
    for wheel in "$root"/wheels/*.whl; do unzip -q -o "$wheel" -d "$root/packages"; done
fi

# onnxruntime asks for the processor's features; this matches qemu's cortex-a76.
mkdir -p "$system/proc"
for core in 0 1; do
    printf 'processor\t: %s\nBogoMIPS\t: 100.00\n' "$core"
    printf 'Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs\n'
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n'
done > "$system/proc/cpuinfo"

export ARM64_ROOT=$root
exec "$python" -m pytest -m arm64 -p no:cacheprovider -v "$here/test_arm64.py" "$@"
