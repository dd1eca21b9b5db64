#!/bin/bash
# The package as a file: builds it twice, in another folder and as another user the second time, and looks at what came out.
# One line for each expectation: its number in packaging/README.md, what is expected, ok or FAIL.
#
#     packaging/test/deb.sh      needs what packaging/README.md lists, and lintian; two release builds
#
# CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 make the builds short, for work on the packaging.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
work=$top/target/deb-test
rm -rf "$work"
mkdir -p "$work"
# shellcheck source=packaging/test/rows.sh
. packaging/test/rows.sh

# What is built the second time is what is there now, whoever edits it meanwhile.
copy=$work/somewhere/else
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar --directory="$copy" --extract

builds() {
    packaging/build-deb.sh
    ls target/deb/bowline_*.deb target/deb/bowline-dbgsym_*.deb target/deb/bowline_*.changes target/deb/bowline_*.buildinfo
}

# As a user who owns nothing here, in a folder of another name; without root, as oneself.
builds_the_same() {
    if ((EUID == 0)); then
        chown -R nobody: "$work/somewhere"
        # Where root's toolchain is, others may not look: it is shown to them elsewhere, in a view of their own.
        mkdir -p "$work/cargo" "$work/rustup"
        # shellcheck disable=SC2016
        unshare --mount bash -euc '
            mount --bind "${CARGO_HOME:-$HOME/.cargo}" "$1/cargo"
            mount --bind "${RUSTUP_HOME:-$HOME/.rustup}" "$1/rustup"
            cd "$1/somewhere/else"
            exec setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME="$1/somewhere" \
                CARGO_HOME="$1/cargo" RUSTUP_HOME="$1/rustup" CARGO_NET_OFFLINE=true PATH="$1/cargo/bin:$PATH" \
                packaging/build-deb.sh' - "$work"
    else
        "$copy/packaging/build-deb.sh"
    fi
    sha256sum target/deb/*.deb "$copy"/target/deb/*.deb
    local deb
    for deb in target/deb/*.deb; do
        cmp "$deb" "$copy/target/deb/$(basename "$deb")"
    done
    echo "note: $(sha256sum "$deb" | cut -c1-16)…"
}

lintian_is_clean() {
    lintian --allow-root --pedantic --display-info --tag-display-limit 0 \
        --fail-on error,warning,info,pedantic target/deb/*.changes
}

versions_agree() {
    local version
    version=$(sed -n '0,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    [[ $(dpkg-deb --field "$deb" Version) == "$version" ]]
    [[ $("$binary" -v) == *" $version"* ]]
    grep -q "^bowline ($version)" packaging/debian/changelog
}

elf_is_hardened() {
    readelf --wide --dynamic "$binary" | grep -E 'FLAGS_1.*NOW.*PIE'
    readelf --wide --segments "$binary" | grep -E 'GNU_RELRO'
    readelf --wide --segments "$binary" | grep -E 'GNU_STACK .* RW '
    nm --dynamic "$binary" | grep __stack_chk_fail
    nm --dynamic "$binary" | grep -E '__(memcpy|fprintf|vsnprintf|snprintf|read)_chk'
    # The symbols are in the other package.
    readelf --wide --sections "$binary" | not grep -E '\.debug_(info|line)|\.symtab'
}

no_build_paths() {
    strings --all "$binary" >"$work/strings"
    not grep -F -e "$top" -e "${CARGO_HOME:-$HOME/.cargo}" -e "${RUSTUP_HOME:-$HOME/.rustup}" -e "$HOME/" "$work/strings"
    grep -m1 /usr/src/cargo "$work/strings"
}

depends_on_little() {
    local depends
    depends=$(dpkg-deb --field "$deb" Depends)
    echo "note: $depends"
    [[ -z $(tr ',|' '\n\n' <<<"$depends" | sed 's/(.*//; s/ //g' | grep -v -x -e libc6 -e libgcc-s1 -e 'systemd.*') ]]
}

manual_pages() {
    local page
    for page in man8/bowline.8 man5/bowline.cfg.5 man1/bowline-ctl.1 man8/bowline-hitch.8; do
        LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 \
            man --warnings -E UTF-8 -Tutf8 -Z -l "$unpacked/usr/share/man/$page.gz" 2>&1 >/dev/null | tee "$work/warnings"
        [[ ! -s $work/warnings ]]
    done
}

documentation() {
    local file doc=$unpacked/usr/share/doc/bowline
    for file in copyright changelog.gz README.Debian examples/minimal.cfg examples/systemd/root-only-keys.conf; do
        [[ -s $doc/$file || -s $doc/$file.gz ]]
    done
    # Every crate that is linked is named.
    cargo tree --locked --edges normal,no-proc-macro --prefix none --format '{p}' | awk '$1 != "bowline" { print $1 "-" substr($2, 2) }' |
        sort -u >"$work/crates"
    [[ -s $work/crates ]]
    while read -r crate; do
        grep -q "^Files: vendor/$crate/\*$" "$doc/copyright"
    done <"$work/crates"
}

conffiles() {
    dpkg-deb --control "$deb" "$work/control"
    diff <(sort "$work/control/conffiles") <(cd "$unpacked" && find etc -type f -printf '/%p\n' | sort)
}

sandbox_score() {
    systemd-analyze security --offline=true --threshold=20 "$unpacked/lib/systemd/system/bowline.service" | tail -1 | tee "$work/score"
    echo "note: $(sed 's/.*: //' "$work/score")"
}

apparmor_parses() {
    apparmor_parser -QK "$unpacked/etc/apparmor.d/usr.sbin.bowline"
    dpkg-deb --ctrl-tarfile "$deb" | tar --extract --to-stdout ./postinst | grep 'apparmor_parser -r'
}

libraries_are_named() {
    "$binary" -vv | tee "$work/vv"
    grep -i rustls "$work/vv"
    grep -i aws-lc "$work/vv"
}

# cargo-audit, with the exceptions that deny.toml gives reasons for.
no_known_vulnerabilities() {
    cargo audit --version || { echo "note: there is no cargo-audit"; return 77; }
    local ignored
    mapfile -t ignored < <(grep -oE '"RUSTSEC-[0-9]+-[0-9]+"' deny.toml | tr -d '"')
    if ! cargo audit "${ignored[@]/#/--ignore=}" >"$work/audit" 2>&1; then
        cat "$work/audit"
        grep "couldn't fetch advisory database" "$work/audit" || return 1
        echo "note: its database could not be fetched"
        return 77
    fi
}

# Each option of --help is in the manual page and in the completion.
options_agree() {
    local option
    "$binary" --help | grep -oE '^  (-[-a-zA-Z]+(, )?)+' | grep -oE -e '--?[-a-zA-Z]+' | sort -u >"$work/options"
    [[ $(wc -l <"$work/options") -gt 10 ]]
    zcat "$unpacked/usr/share/man/man8/bowline.8.gz" | sed 's/\\-/-/g; s/\\f[BIR]//g' >"$work/page"
    while read -r option; do
        grep -q -e "$option" "$work/page" || { echo "$option is not in the manual page"; return 1; }
        grep -q -e "$option" "$unpacked/usr/share/bash-completion/completions/bowline" || { echo "$option is not completed"; return 1; }
    done <"$work/options"
}

row 1 "one command builds it" builds
deb=$(ls target/deb/bowline_*.deb) || exit 1
unpacked=$work/unpacked
dpkg-deb --extract "$deb" "$unpacked"
binary=$unpacked/usr/sbin/bowline
row 3 "lintian is clean at pedantic" lintian_is_clean
row 5 "the version is the same everywhere" versions_agree
row 6 "PIE, immediate binding, RELRO, stack protector, fortified" elf_is_hardened
row 7 "no path of the builder is in it" no_build_paths
row 8 "it depends on libc and libgcc" depends_on_little
row 9 "manual pages without warnings" manual_pages
row 10 "copyright of every crate, changelog, README.Debian, examples" documentation
row 11 "all of /etc is a conffile" conffiles
row 19 "systemd-analyze security is at most 2.0" sandbox_score
row 43 "the AppArmor profile is valid, and loaded on installation" apparmor_parses
row 48 "rustls and aws-lc are named with their versions" libraries_are_named
row 48 "no crate has a known vulnerability" no_known_vulnerabilities
row 49 "every option is in the manual page and in the completion" options_agree
row "2 4" "another user in another folder builds the same bytes" builds_the_same
finish_rows
