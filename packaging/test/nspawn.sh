#!/bin/bash
# The package in a booted Debian: installs, starts, reloads under load, upgrades under load, kills, stops, removes, purges.
# One line for each expectation: its number in packaging/README.md, what is expected, ok or FAIL.
#
#     packaging/test/nspawn.sh [FILE.deb]       needs root, debootstrap and systemd-container; about ten minutes
#
# BOWLINE_ROWS="23 26" runs only these, and the installation, which is row 13.
set -uo pipefail
BOWLINE_ROWS=${BOWLINE_ROWS:+13 $BOWLINE_ROWS}
top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=packaging/test/container.sh
. "$top/packaging/test/container.sh"

deb=${1:-$(ls "$top"/target/deb/bowline_*.deb 2>/dev/null | head -1)}
[[ -f "$deb" ]] || { echo "There is no package: packaging/build-deb.sh makes it" >&2; exit 1; }
((EUID == 0)) || { echo "Only root can start a container" >&2; exit 1; }

for part in rows rows-install rows-service rows-traffic rows-trouble; do
    # shellcheck source=/dev/null
    . "$top/packaging/test/$part.sh"
done

trap 'stop_clients 2>/dev/null; halt' EXIT
make_root || exit 1
rows_before_boot
boot || exit 1
rows_install
configure >"$work/configure.log" 2>&1 || { tail -5 "$work/configure.log"; inside journalctl -u bowline -o cat -n 20; exit 1; }
rows_service
rows_traffic
rows_trouble
rows_end
finish_rows
