#!/bin/bash
# Builds the package with nothing but Debian 12: its Rust 1.85, a user without rights, no network, vendored crates.
#
#     packaging/test/debian-rust.sh      needs root and debootstrap; a release build, and a gigabyte in target/
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"
root=$top/target/debian-rust
packages=build-essential,debhelper,dh-apparmor,man-db,python3,cargo-web,rustc-web
if [[ ! -e $root.packages ]]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include="$packages" bookworm "$root" http://deb.debian.org/debian
    echo "$packages" >"$root.packages"
fi
chroot "$root" rustc --version

home=$root/home/builder
rm -rf "$home"
mkdir -p "$home/bowline/.cargo"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar --directory="$home/bowline" --extract
cargo vendor --locked --versioned-dirs "$home/bowline/vendor" >"$home/bowline/.cargo/config.toml"
sed -i "s|$home|/home/builder|" "$home/bowline/.cargo/config.toml"
chown -R nobody:nogroup "$home"

# In a network without any interface: 'offline' is meant.
unshare --net chroot --userspec=nobody:nogroup "$root" env --ignore-environment HOME=/home/builder LC_ALL=C.UTF-8 \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin CARGO_NET_OFFLINE=true \
    ${CARGO_PROFILE_RELEASE_LTO:+"CARGO_PROFILE_RELEASE_LTO=$CARGO_PROFILE_RELEASE_LTO"} \
    ${CARGO_PROFILE_RELEASE_CODEGEN_UNITS:+"CARGO_PROFILE_RELEASE_CODEGEN_UNITS=$CARGO_PROFILE_RELEASE_CODEGEN_UNITS"} \
    sh -c 'cd /home/builder/bowline; packaging/build-deb.sh'
chroot "$root" dpkg-deb --info "$(cd "$root" && ls home/builder/bowline/target/deb/bowline_*.deb)"
echo "1 passed, 0 failed"
