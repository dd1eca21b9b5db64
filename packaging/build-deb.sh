#!/bin/sh
# Builds the Debian package: target/deb/bowline_VERSION_ARCH.deb, with its debug symbols, .changes and .buildinfo.
#
# dpkg-buildpackage wants debian/ at the top of a tree of its own: a copy is made below target/deb. Needs no root;
# arguments go to dpkg-buildpackage. packaging/README.md says what has to be installed.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
version=$(dpkg-parsechangelog -l packaging/debian/changelog -S Version)
out=$top/target/deb
source=$out/bowline-$version
rm -rf "$out"
mkdir -p "$source"
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    # What was deleted and not yet committed is still in the index.
    git ls-files -z --cached --others --exclude-standard |
        tar --null --files-from=- --ignore-failed-read --create --file=- 2>/dev/null
else
    tar --exclude=./target --exclude=./.git --create --file=- .
fi | tar --directory="$source" --extract --file=-
cp -a packaging/debian "$source/debian"
cd "$source"
# Compiled crates are kept from one build to the next.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$top/target/debian-build}
export CARGO_TARGET_DIR
dpkg-buildpackage --build=binary --no-sign "$@"
ls -l "$out"/*.deb
