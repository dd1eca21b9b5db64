#!/bin/bash
# The rows of nspawn.sh on the machine that runs this, which is to be a fresh one: qemu.sh makes it. And row 43, AppArmor.
set -uo pipefail
BOWLINE_ROWS="13 $BOWLINE_ROWS"
top=/root/bowline
# What container.sh has for a container.
root=/
work=/root/work
network=()
inside() {
    local -
    set +x
    "$@"
}
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive TERM=dumb

deb=/root/bowline.deb
mkdir -p "$work"
for part in rows rows-install rows-service rows-traffic rows-trouble rows-apparmor; do
    # shellcheck source=/dev/null
    . "$top/packaging/test/$part.sh"
done

rows_install
configure >"$work/configure.log" 2>&1 || { tail -5 "$work/configure.log"; journalctl -u bowline -o cat -n 20; exit 1; }
rows_service
rows_traffic
rows_trouble
rows_apparmor
rows_end
finish_rows
