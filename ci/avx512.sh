#!/usr/bin/env bash
# The tests with AVX-512 on a machine that lacks it. QEMU has none either, but Bochs emulates it, as
# a whole computer: Debian's kernel boots there from an image that holds nothing but the test
# binaries of this machine, their libraries and a shell (ci/avx512/init). Tables of cases are
# thinned, for emulation is slow. The processor is a Skylake-X: AVX-512 F, CD, BW, DQ and VL and no
# later extension, so that one too many is a fault. Installs what it needs, as root, and works in
# target/avx512.
#
# Usage: ci/avx512.sh [TEST...]; without names, all that run kernels of f32. By hand: `int8
# softmax_int`, of integers, and `vnni`, products of bytes on an Ice Lake, which has VNNI besides.
set -euo pipefail
cd "$(dirname "$0")/.."
source_dir=$PWD
work=$PWD/target/avx512
[ $# -ne 0 ] || set -- golden guard exp product softmax mask attention
# The first prints what the machine has.
tests=(dispatch "$@")

machine_has_avx512() {
    local feature
    for feature in avx512f avx512bw avx512dq avx512vl; do
        grep -qw "$feature" /proc/cpuinfo || return 1
    done
}

install_tools() {
    ci/apt-install.sh bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso cpio busybox-static binutils
}

# The kernel is unpacked, not installed.
fetch_kernel() {
    if compgen -G "$work/kernel/boot/vmlinuz-*" >/dev/null; then
        return
    fi
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p')
    (cd "$work" && apt-get -o APT::Sandbox::User=root download "$package")
    dpkg-deb -x "$work/$package"_*.deb "$work/kernel"
}

# Builds the tests as `cargo test --workspace` does, which has built them where all checks run, and
# prints where they are.
build_tests() {
    cargo test --workspace "${@/#/--test=}" --no-run --message-format=json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}

# The root of the emulated machine, with `binaries` and all that they load.
make_root() {
    local root=$1 binary library
    shift
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,proc,tests}
    cp ci/avx512/init "$root/init"
    cp /bin/busybox "$root/bin/"
    for binary in "$@"; do
        strip -o "$root/tests/$(basename "${binary%-*}")" "$binary"
        for library in $(ldd "$binary" | grep -o '/[^ ]*'); do
            install -D "$library" "$root$library"
        done
    done
    # The path was fixed when the tests were compiled.
    mkdir -p "$root$source_dir/tests"
    cp -r tests/data "$root$source_dir/tests/"
}

make_image() {
    local image=$work/image
    rm -rf "$image"
    mkdir -p "$image"
    cp "$work"/kernel/boot/vmlinuz-* "$image/linux"
    (cd "$work/root" && find . | cpio --quiet -o -H newc) >"$image/initrd"
    cp ci/avx512/isolinux.cfg /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$image/"
    xorriso -as mkisofs -quiet -o "$work/boot.iso" -b isolinux.bin -c boot.cat \
        -no-emul-boot -boot-load-size 4 -boot-info-table "$image"
}

# Runs a machine of this processor to its end, at most an hour, and shows what it writes meanwhile.
# Bochs ends with the same status whatever happened.
emulate() {
    cd "$work"
    # Debian's Bochs waits in its debugger until told to continue.
    echo continue >debugger
    : >serial.txt
    timeout 3600 bochs-bin -q -f "$source_dir/ci/avx512/bochsrc" -rc debugger \
        "cpu: model=$1, ips=20000000" </dev/null >bochs.out 2>&1 &
    tail -n +1 -s 0.5 -f --pid=$! serial.txt
    wait $! || true
    cd "$source_dir"
}

# Each of these tests must have run to its end without a failure, and what the first argument says
# must be in what they wrote.
judge() {
    local name failed=() shown=$1
    shift
    if ! grep -q "$shown" "$work/serial.txt"; then
        echo "the emulated machine does not show $shown" >&2
        return 1
    fi
    for name in "$@"; do
        grep -qx "== $name: exit 0" "$work/serial.txt" || failed+=("$name")
    done
    if [ ${#failed[@]} -ne 0 ]; then
        echo "failed, or did not end, with AVX-512: ${failed[*]}" >&2
        return 1
    fi
    echo "passed with AVX-512, emulated: $* ($shown)"
}

if machine_has_avx512; then
    echo "this processor has AVX-512: cargo test covers it, nothing to emulate"
    exit 0
fi
mkdir -p "$work"
install_tools
fetch_kernel
# On a processor of this model, builds and runs the tests behind what they must show.
check() {
    local model=$1 shown=$2 binaries
    shift 2
    binaries=$(build_tests "$@")
    # shellcheck disable=SC2086 # a list of paths that cargo wrote
    make_root "$work/root" $binaries
    make_image
    emulate "$model"
    judge "$shown" "$@"
}
if [ "$1" = vnni ]; then
    check corei7_icelake_u '(avx512, avx512vnni)' dispatch int8
else
    check corei7_skylake_x 'available: .*"avx512"' "${tests[@]}"
fi
