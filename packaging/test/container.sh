# shellcheck shell=bash disable=SC2154
# A Debian of its own, booted with systemd-nspawn, with a network of its own that has a loopback interface and nothing else.
# To be sourced; 'top' is the top folder of the repository. Everything is kept below target/nspawn.

base=$top/target/nspawn/base
root=$top/target/nspawn/root
work=$top/target/nspawn/work
release=bookworm
mirror=http://deb.debian.org/debian
packages=systemd,systemd-sysv,dbus,init-system-helpers,ca-certificates,openssl,curl,procps,iproute2,libcap2-bin,libgcc-s1
packages+=,bash-completion,jq,logrotate,man-db,python3,socat,ssl-cert,ufw

# The base is made once, and again when the list of packages changes.
make_root() {
    if [[ "$(cat "$base.packages" 2>/dev/null)" != "$packages" ]]; then
        rm -rf "$base"
        mkdir -p "$(dirname "$base")"
        debootstrap --variant=minbase --include="$packages" "$release" "$base" "$mirror" >"$base.log" 2>&1 ||
            { tail -5 "$base.log" >&2; return 1; }
        echo "$packages" >"$base.packages"
    fi
    rm -rf "$root" "$work"
    cp -a "$base" "$root"
    mkdir -p "$work"
}

boot() {
    # Not registered with systemd-machined, and in the cgroup of the caller: neither needs to be there.
    systemd-nspawn --quiet --register=no --keep-unit --private-network --directory="$root" --machine=bowline \
        --boot --console=read-only </dev/null >"$work/boot.log" 2>&1 &
    nspawn=$!
    until leader=$(pgrep --parent "$nspawn" --exact systemd); do
        kill -0 "$nspawn" 2>/dev/null || { tail -5 "$work/boot.log" >&2; return 1; }
        sleep 0.1
    done
    for _ in {1..600}; do
        case "$(inside systemctl is-system-running 2>/dev/null)" in
        running | degraded) break ;;
        esac
        sleep 0.1
    done
    inside systemctl is-system-running
    inside ip link set lo up
    # Of a program of this machine that is to be in the network of the container: the traffic.
    network=(nsenter --target="$leader" --net)
}

halt() {
    if [[ -n "${nspawn:-}" ]]; then
        inside systemctl poweroff --no-block >/dev/null 2>&1 || kill "$nspawn" 2>/dev/null
        wait "$nspawn" 2>/dev/null
    fi
    nspawn=
}

# Runs a command in the container.
inside() {
    local -
    set +x
    nsenter --target="$leader" --all env --ignore-environment \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive TERM=dumb "$@"
}
