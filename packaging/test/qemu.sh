#!/bin/bash
# The package on the kernel of Debian 12, emulated: what a container cannot show, since it has the kernel of this machine.
# AppArmor enforces the profile, and the limit of descriptors is the unit's.
# One line for each expectation: its number in packaging/README.md, what is expected, ok or FAIL.
#
#     packaging/test/qemu.sh [FILE.deb]       needs root, debootstrap, e2fsprogs and qemu-system-x86; about ten minutes
#
# BOWLINE_ROWS as in nspawn.sh. Emulation is slow: rows that measure time, or count to many, are not for this.
set -uo pipefail
rows=${BOWLINE_ROWS:-15 16 17 18 20 22 25 26 33 35 36 37 41 43 45 47 53 54 55 56 59 60}
top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=packaging/test/container.sh
. "$top/packaging/test/container.sh"
base=$top/target/qemu/base
root=$top/target/qemu/root
work=$top/target/qemu/work
packages+=,apparmor,bc,initramfs-tools,linux-image-cloud-amd64

deb=${1:-$(ls "$top"/target/deb/bowline_*.deb 2>/dev/null | head -1)}
[[ -f "$deb" ]] || { echo "There is no package: packaging/build-deb.sh makes it" >&2; exit 1; }
((EUID == 0)) || { echo "Only root can make a file system of others' files" >&2; exit 1; }
# shellcheck source=packaging/test/rows-install.sh
. "$top/packaging/test/rows-install.sh"

make_root || exit 1
make_newer >"$work/make_newer.log" 2>&1 || { cat "$work/make_newer.log"; exit 1; }
cp "$deb" "$root/root/bowline.deb"
cp "$newer" "$root/root/newer.deb"
mkdir -p "$root/root/bowline"
tar --directory="$top" --create packaging | tar --directory="$root/root/bowline" --extract
# The second serial line is the result, and nothing else.
cat >"$root/etc/systemd/system/rows.service" <<END
[Unit]
After=multi-user.target
[Service]
Type=exec
Environment="BOWLINE_ROWS=$rows"
ExecStart=/root/bowline/packaging/test/machine.sh
LimitNOFILE=1024:1048576
ExecStopPost=systemctl poweroff --no-block
StandardOutput=file:/dev/ttyS1
StandardError=inherit
[Install]
WantedBy=multi-user.target
END
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../rows.service "$root/etc/systemd/system/multi-user.target.wants/"

image=$work/root.img
mke2fs -q -t ext4 -d "$root" "$image" 3G || exit 1
kernel=$(ls "$root"/boot/vmlinuz-* | tail -1)
timeout 3000 qemu-system-x86_64 -accel tcg -cpu max -m 1536 -nic none -display none -no-reboot \
    -kernel "$kernel" -initrd "${kernel/vmlinuz/initrd.img}" -append "root=/dev/vda rw console=ttyS0 quiet" \
    -drive file="$image",format=raw,if=virtio -serial file:"$work/boot.log" -serial file:"$work/result" ||
    { echo "The machine did not come to an end" >&2; tail -5 "$work/boot.log" >&2; }
tr -d '\r' <"$work/result"
rm "$image"
tr -d '\r' <"$work/result" | tail -1 | grep -q ' passed, 0 failed'
