# shellcheck shell=bash disable=SC2154
# The running service: who it is, what it may do, readiness, reload. Sourced by nspawn.sh.

port=443
tls=$root/etc/bowline/tls

traffic() {
    local -
    set +x
    "${network[@]}" "$top/packaging/test/traffic.py" "$@"
}

property() {
    local -
    set +x
    inside systemctl show bowline --property="$1" --value
}

# A new key and certificate where the service reads it, never half written.
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=bowline.test" \
        -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
    cat "$work/cert.pem" "$work/key.pem" >"$tls/.new"
    chown "0:$(awk -F: '$1 == "bowline" { print $3 }' "$root/etc/group")" "$tls/.new"
    chmod 640 "$tls/.new"
    mv "$tls/.new" "$tls/site.pem"
}

new_fingerprint() {
    openssl x509 -in "$tls/site.pem" -outform DER | sha256sum | cut -d' ' -f1
}

# Clients get the certificate that was made last.
serves() {
    [[ $(served_fingerprint) == $(new_fingerprint) ]]
}

served_fingerprint() {
    traffic fingerprint "$port" | sed 's/.*"sha256": "\([0-9a-f]*\)".*/\1/'
}

write_configuration() {
    cat >"$root/etc/bowline/bowline.cfg" <<END
global
    log stderr format short daemon
    crt-base /etc/bowline/tls
    hard-stop-after ${hard_stop_after:-5s}
    stats socket /run/bowline/admin.sock mode 660 level admin
    metrics socket 127.0.0.1:9101
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 5s
    timeout client  1m
    timeout server  1m
    timeout client-hs 10s
frontend echo
    bind 127.0.0.1:$port ssl crt site.pem
    default_backend app
backend app
    server local 127.0.0.1:7
END
}

configure() {
    certificate
    write_configuration
    inside systemctl reload bowline
    client backend backend 7
    within 20 serves
}

# client NAME COMMAND...: traffic that goes on until 'finish NAME', which prints what came of it.
client() {
    local name=$1
    shift
    # An earlier row may have left what this one is to wait for.
    rm -f "$work/$name.json"
    "${network[@]}" "$top/packaging/test/traffic.py" "$@" >"$work/$name.json" 2>&1 &
    echo $! >"$work/$name.pid"
    case $1 in
    long) within 20 grep -qs up "$work/$name.json" ;;
    esac
}

gone() {
    ! kill -0 "$1" 2>/dev/null
}

finish() {
    kill "$(cat "$work/$1.pid")" 2>/dev/null || true
    # Not a child of this shell, if another row started it.
    within 40 gone "$(cat "$work/$1.pid")"
    rm "$work/$1.pid"
    tail -1 "$work/$1.json"
}

stop_clients() {
    local file
    for file in "$work"/*.pid; do
        [[ ! -e $file ]] || finish "$(basename "$file" .pid)" >/dev/null
    done
}

# unharmed JSON: no connection failed, and there were some.
unharmed() {
    echo "note: $1"
    [[ $1 == *'"failed": 0,'* || $1 == *'"broken": null'* ]]
    [[ $1 != *'"ok": 0,'* ]]
}

# After a row that failed, or that changed the unit: the service as 'configure' left it.
restore() {
    stop_clients
    rm -rf "$root"/etc/systemd/system/bowline.service.d "$root"/etc/systemd/system/{,*/}bowline-https.socket
    inside pkill -CONT -x bowline || true
    inside systemctl daemon-reload
    write_configuration
    certificate
    inside systemctl reset-failed bowline || true
    inside systemctl stop bowline-https.socket 2>/dev/null || true
    inside systemctl reset-failed bowline-https.socket 2>/dev/null || true
    inside systemctl restart bowline
    client backend backend 7
    serves
}

drop_in() {
    local name=$1
    mkdir -p "$root/etc/systemd/system/bowline.service.d"
    cat >"$root/etc/systemd/system/bowline.service.d/$name.conf"
    inside systemctl daemon-reload
}

# The worker's process id: the master's only child that serves.
worker() {
    inside pgrep --parent "$(property MainPID)" --newest
}

status_of() {
    inside sed -n "s/^$2:\s*//p" "/proc/$1/status"
}

# A row; if it fails, what it left behind is not for the next.
service_row() {
    row "$@"
    # Not 'row || ...': on the left of '||' nothing heeds 'set -e'.
    if (($? != 0)); then
        (set -ex; restore) >"$work/restore.log" 2>&1
        (($? == 0)) || { echo "cannot restore the service:"; tail -20 "$work/restore.log"; }
    fi
}

rows_service() {
    service_row 15 "the master is user bowline with one capability, the worker has none; both are filtered" privileges
    service_row 18 "it listens on port 443" listens
    service_row 32 "the status line is useful" status_line
    service_row 37 "the limit of open descriptors is applied" descriptors
    service_row 34 "EXTRAOPTS and CONFIG of /etc/default/bowline are taken" default_options
    service_row 21 "a check names file, line and reason, and fails" check_names
    service_row 17 "a key that the service cannot read: user and file are named; the old one stays; one that all can is warned of" key_modes
    service_row 22 "a reload of a broken configuration fails, and the service serves on" broken_reload
    service_row 31 "started means that clients are served, 50 times" readiness
    service_row 50 "a start with a broken configuration: 'systemctl status' shows the reason" broken_start
    service_row 51 "a port in use is named" port_in_use
    service_row 52 "a missing directory is named" missing_directory
    service_row 53 "root-only keys: master with CAP_DAC_READ_SEARCH, worker without; HUP rotates" root_only_keys
    service_row 54 "keys of the group ssl-cert" ssl_cert_group
    service_row 47 "socket activation by name" socket_activation
}

privileges() {
    local master worker uid
    master=$(property MainPID)
    worker=$(worker)
    uid=$(inside id -u bowline)
    [[ $(status_of "$master" Uid) == "$uid"$'\t'"$uid"$'\t'"$uid"$'\t'"$uid" ]]
    [[ $(status_of "$worker" Uid) == "$uid"$'\t'"$uid"$'\t'"$uid"$'\t'"$uid" ]]
    [[ $(status_of "$master" CapEff) == 0000000000000400 ]]
    [[ $(status_of "$master" CapBnd) == 0000000000000400 ]]
    local set
    for set in CapInh CapPrm CapEff CapAmb; do
        [[ $(status_of "$worker" $set) == 0000000000000000 ]]
    done
    local process
    for process in $master $worker; do
        [[ $(status_of "$process" NoNewPrivs) == 1 ]]
        [[ $(status_of "$process" Seccomp) == 2 ]]
        inside grep -E '^Max core file size +0 +0 ' "/proc/$process/limits"
    done
}

listens() {
    inside ss -Hltnp "sport = :$port" | tee "$work/ss"
    grep -q bowline "$work/ss"
}

status_line() {
    local text
    text=$(property StatusText)
    echo "note: $text"
    [[ -n $text ]]
    grep -qi connection <<<"$text"
}

descriptors() {
    local soft hard most
    # Containers may not have the right to raise it; then it is the container's own.
    most=$(inside sh -c 'ulimit -Hn')
    read -r soft hard < <(inside sed -n 's/^Max open files *\([0-9]*\) *\([0-9]*\) .*/\1 \2/p' "/proc/$(property MainPID)/limits")
    echo "note: soft $soft, hard $hard; the container's hard limit is $most"
    ((hard == (most < 1048576 ? most : 1048576)))
    ((soft >= (hard < 65536 ? hard : 65536)))
}

default_options() {
    inside sh -c 'cp /etc/default/bowline /root/default; cp /etc/bowline/bowline.cfg /etc/bowline/other.cfg'
    inside sh -c 'printf "CONFIG=/etc/bowline/other.cfg\nEXTRAOPTS=-n 1234\n" >>/etc/default/bowline'
    inside systemctl restart bowline
    inside sh -c "tr '\0' ' ' </proc/$(property MainPID)/cmdline" | tee "$work/cmdline"
    inside sh -c 'cp /root/default /etc/default/bowline; rm /etc/bowline/other.cfg'
    inside systemctl restart bowline
    grep -q -- '-f /etc/bowline/other.cfg .*-n 1234' "$work/cmdline"
}

check_names() {
    inside sh -c 'printf "frontend x\n    bind :1 nonsense\n" >/root/bad.cfg'
    not inside bowline -c -f /root/bad.cfg 2>"$work/bad"
    cat "$work/bad"
    grep -q '/root/bad.cfg:2:.*nonsense' "$work/bad"
}

key_modes() {
    local before
    before=$(served_fingerprint)
    certificate
    chown 0:0 "$tls/site.pem"
    chmod 600 "$tls/site.pem"
    not inside systemctl reload bowline
    inside journalctl -u bowline -n 30 -o cat | tee "$work/journal"
    grep -q "cannot read '/etc/bowline/tls/site.pem': Permission denied for user bowline" "$work/journal"
    [[ $(served_fingerprint) == "$before" ]]
    # Only the directory keeps others from this one.
    certificate
    chmod 644 "$tls/site.pem"
    inside bowline -c -f /etc/bowline/bowline.cfg 2>"$work/check"
    grep "warning.*W221.*everybody may read the private key in '/etc/bowline/tls/site.pem'" "$work/check"
    inside systemctl reload bowline
    inside journalctl --sync
    inside journalctl -u bowline -n 30 -o cat PRIORITY=4 | grep 'everybody may read the private key'
    serves
    chmod 640 "$tls/site.pem"
    inside bowline -c -f /etc/bowline/bowline.cfg 2>"$work/check"
    not grep W221 "$work/check"
    inside systemctl reload bowline
}

broken_reload() {
    client load load "$port"
    echo nonsense >>"$root/etc/bowline/bowline.cfg"
    not inside systemctl reload bowline 2>&1 | tee "$work/said"
    inside systemctl status bowline --no-pager -n 20 | tee "$work/status"
    # The reason is there for whoever looks at the status.
    grep -q 'bowline.cfg:[0-9]*:.*nonsense' "$work/status"
    [[ $(inside systemctl is-active bowline) == active ]]
    write_configuration
    certificate
    inside systemctl reload bowline
    serves
    unharmed "$(finish load)"
}

readiness() {
    for _ in {1..50}; do
        inside systemctl stop bowline
        inside systemctl reset-failed bowline 2>/dev/null || true
        inside systemctl start bowline
        serves
    done
}

state_is() {
    [[ $(property ActiveState) == "$1" ]]
}

# start_fails: stops it, and shows what 'systemctl status' says after a start that has to fail.
start_fails() {
    inside systemctl stop bowline
    inside systemctl reset-failed bowline 2>/dev/null || true
    not inside systemctl start bowline
    # systemd tries it a few times.
    within 30 state_is failed
    inside journalctl --sync
    inside systemctl status bowline --no-pager --full -n 30 >"$work/status" || true
    cat "$work/status"
}

start_again() {
    inside systemctl stop bowline
    inside systemctl reset-failed bowline 2>/dev/null || true
    write_configuration
    inside systemctl start bowline
    serves
}

broken_start() {
    echo nonsense >>"$root/etc/bowline/bowline.cfg"
    start_fails
    grep -q 'bowline.cfg:[0-9]*:.*nonsense' "$work/status"
    start_again
}

port_in_use() {
    sed -i 's/:443 /:9999 /' "$root/etc/bowline/bowline.cfg"
    client other backend 9999
    within 10 inside sh -c "ss -Hltn 'sport = :9999' | grep -q ."
    start_fails
    finish other
    grep -q ':9999.*in use' "$work/status"
    start_again
}

missing_directory() {
    sed -i 's|/run/bowline/admin.sock|/run/nowhere/admin.sock|' "$root/etc/bowline/bowline.cfg"
    start_fails
    grep -q '/run/nowhere' "$work/status"
    start_again
}

root_only_keys() {
    local archive=$root/etc/letsencrypt/archive
    mkdir -p "$archive"
    chmod 700 "$archive"
    certificate
    inside sh -c 'cp /etc/bowline/tls/site.pem /etc/letsencrypt/archive/; chmod 600 /etc/letsencrypt/archive/site.pem'
    sed -i 's|crt site.pem|crt /etc/letsencrypt/archive/site.pem|' "$root/etc/bowline/bowline.cfg"
    # Without the drop-in the key is out of reach.
    not inside systemctl reload bowline
    drop_in root-only-keys <"$top/packaging/examples/systemd/root-only-keys.conf"
    inside systemctl restart bowline
    serves
    [[ $(status_of "$(property MainPID)" CapEff) == 0000000000000404 ]]
    [[ $(status_of "$(worker)" CapPrm) == 0000000000000000 ]]
    for _ in {1..5}; do
        certificate
        inside sh -c 'umask 077; cat /etc/bowline/tls/site.pem >/etc/letsencrypt/archive/new; mv /etc/letsencrypt/archive/new /etc/letsencrypt/archive/site.pem'
        inside systemctl kill --signal=HUP --kill-whom=main bowline
        within 20 serves
    done
    [[ $(status_of "$(worker)" CapPrm) == 0000000000000000 ]]
    restore
}

ssl_cert_group() {
    certificate
    inside sh -c 'install -m640 -g ssl-cert /etc/bowline/tls/site.pem /etc/ssl/private/site.pem'
    sed -i 's|crt site.pem|crt /etc/ssl/private/site.pem|' "$root/etc/bowline/bowline.cfg"
    not inside systemctl reload bowline
    drop_in ssl-cert <"$top/packaging/examples/systemd/ssl-cert.conf"
    inside systemctl restart bowline
    serves
    restore
}

socket_activation() {
    sed -i "s|bind 127.0.0.1:$port ssl|bind fd@https ssl|" "$root/etc/bowline/bowline.cfg"
    inside systemctl stop bowline
    install -m644 "$top/packaging/examples/systemd/bowline-https.socket" "$root/etc/systemd/system/"
    inside systemctl daemon-reload
    inside systemctl enable bowline-https.socket
    inside systemctl start bowline-https.socket
    [[ $(inside systemctl is-active bowline) != active ]]
    # The first client starts it.
    serves
    [[ $(inside systemctl is-active bowline) == active ]]
    # Started by itself, and by a reload with another certificate.
    inside systemctl restart bowline
    certificate
    inside systemctl reload bowline
    serves
    inside systemctl disable bowline-https.socket
    inside systemctl stop bowline bowline-https.socket
    restore
}
