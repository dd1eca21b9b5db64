# shellcheck shell=bash disable=SC2154
# Installation, upgrade of configuration files, removal. Sourced by nspawn.sh.

version=$(dpkg-deb --field "$deb" Version)
newer=$work/newer.deb

# The same program as a newer version: another file, another date, and one more line in the configuration.
make_newer() {
    local tree=$work/newer
    dpkg-deb --raw-extract "$deb" "$tree"
    sed -i "s/^Version: .*/Version: $version+1/" "$tree/DEBIAN/control"
    echo "# A line of the newer version." >>"$tree/etc/bowline/bowline.cfg"
    echo newer >"$work/section"
    objcopy --add-section .comment.newer="$work/section" "$tree/usr/sbin/bowline"
    (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Znone --build "$tree" "$newer"
}

rows_before_boot() {
    cp "$deb" "$root/root/bowline.deb"
    make_newer >"$work/make_newer.log" 2>&1 || { cat "$work/make_newer.log"; exit 1; }
    cp "$newer" "$root/root/newer.deb"
    row 12 "installs on a system where systemd does not run, and goes again" without_systemd
}

without_systemd() {
    chroot "$root" dpkg -i /root/bowline.deb
    [[ $(chroot "$root" stat -c '%U:%G %a' /etc/bowline/tls) == "root:bowline 750" ]]
    chroot "$root" dpkg -P bowline
    [[ ! -e $root/etc/bowline ]]
    chroot "$root" userdel bowline
}

rows_install() {
    row 13 "a fresh install leaves a running service, enabled, and no failed unit" fresh
    row 14 "a user of its own, without a shell or a home" own_user
    row 16 "the key directory is 0750 root:bowline; dpkg-statoverride is respected" key_directory
    row 9 "manual pages are found" manual_pages
    row 10 "README.Debian, copyright, changelog and examples are there" documentation
    row 20 "the unit and the examples of units verify" unit_verifies
    row 44 "ufw knows it; bash completes it" ufw_and_completion
}

fresh() {
    inside dpkg -i /root/bowline.deb
    [[ $(inside systemctl is-active bowline) == active ]]
    [[ $(inside systemctl is-enabled bowline) == enabled ]]
    [[ -z $(inside systemctl --failed --no-legend) ]]
    # Idle, and a reload of an idle one works.
    [[ -z $(inside ss -Hltn) ]]
    inside systemctl reload bowline
    inside /usr/sbin/bowline -c -f /etc/bowline/bowline.cfg
    [[ $(inside bowline -v) == *" ${version%%[-+~]*}"* ]]
}

own_user() {
    inside getent passwd bowline | tee "$work/passwd"
    grep -q '^bowline:x:[0-9]\{3\}:[0-9]*:[^:]*:/nonexistent:/usr/sbin/nologin$' "$work/passwd"
    [[ $(inside stat -c '%U:%G %a' /run/bowline) == "bowline:bowline 750" ]]
}

key_directory() {
    [[ $(inside stat -c '%U:%G %a' /etc/bowline/tls) == "root:bowline 750" ]]
    inside dpkg-statoverride --update --add root ssl-cert 0710 /etc/bowline/tls
    inside dpkg -i /root/bowline.deb
    [[ $(inside stat -c '%U:%G %a' /etc/bowline/tls) == "root:ssl-cert 710" ]]
    inside dpkg-statoverride --remove /etc/bowline/tls
    inside dpkg -i /root/bowline.deb
    [[ $(inside stat -c '%U:%G %a' /etc/bowline/tls) == "root:bowline 750" ]]
}

manual_pages() {
    local page
    for page in bowline bowline.cfg bowline-ctl bowline-hitch; do
        inside man -w "$page"
    done
}

documentation() {
    local file
    for file in README.Debian copyright changelog.gz CHANGELOG.md.gz examples/minimal.cfg examples/systemd/root-only-keys.conf \
        examples/certbot-deploy-hook; do
        inside test -s "/usr/share/doc/bowline/$file" || inside test -s "/usr/share/doc/bowline/$file.gz"
    done
}

unit_verifies() {
    inside systemd-analyze verify bowline.service 2>&1 | tee "$work/verify"
    [[ ! -s $work/verify ]]
    inside install -D -m644 -t /run/systemd/system /usr/share/doc/bowline/examples/systemd/bowline-https.socket
    inside systemd-analyze verify bowline-https.socket 2>&1 | tee "$work/verify"
    inside rm /run/systemd/system/bowline-https.socket
    [[ ! -s $work/verify ]]
}

ufw_and_completion() {
    inside ufw app info Bowline | tee "$work/ufw"
    grep -q 443/tcp "$work/ufw"
    inside bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader bowline; complete -p bowline'
}

rows_end() {
    row 33 "local edits of configuration files survive an upgrade; changes are asked about" conffiles
    row 45 "autopkgtest: the smoke test" smoke
    row 35 "removal stops it and keeps the configuration; purge keeps keys and user" removal
    row 36 "installs again after a purge" again
}

conffiles() {
    inside dpkg -i --force-confnew /root/bowline.deb
    inside sh -c 'echo "# mine" >>/etc/bowline/bowline.cfg; cp /etc/bowline/bowline.cfg /root/mine'
    # Nobody is there to answer: dpkg asks, and gives up.
    if inside dpkg -i /root/newer.deb </dev/null >"$work/asked" 2>&1; then
        echo "dpkg did not ask"
        return 1
    fi
    grep -q "Configuration file '/etc/bowline/bowline.cfg'" "$work/asked"
    inside dpkg -i --force-confold /root/newer.deb
    inside diff /root/mine /etc/bowline/bowline.cfg
    [[ $(inside systemctl is-active bowline) == active ]]
    inside dpkg -i --force-confnew --force-downgrade /root/bowline.deb
}

smoke() {
    install -D -m755 "$top/packaging/debian/tests/smoke" "$root/root/smoke"
    inside /root/smoke
}

removal() {
    inside sh -c 'echo key >/etc/bowline/tls/mine.pem'
    inside dpkg -r bowline
    not inside systemctl is-active bowline
    not inside pgrep -x bowline
    inside test -s /etc/bowline/bowline.cfg
    inside dpkg -P bowline
    inside test -s /etc/bowline/tls/mine.pem
    not inside test -e /etc/bowline/bowline.cfg
    inside getent passwd bowline
    inside find / -xdev -path /root -prune -o -path /var/cache/man -prune -o -name '*bowline*' -print | sort | tee "$work/left"
    # What systemd remembers, and the key.
    not grep -v -x -e /etc/bowline -e '/var/lib/systemd/.*' "$work/left"
    [[ -z $(inside systemctl --failed --no-legend) ]]
}

again() {
    inside dpkg -i /root/bowline.deb
    [[ $(inside systemctl is-active bowline) == active ]]
    inside test -s /etc/bowline/tls/mine.pem
    [[ $(inside stat -c '%U:%G %a' /etc/bowline/tls) == "root:bowline 750" ]]
}
