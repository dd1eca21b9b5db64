# shellcheck shell=bash disable=SC2154
# Crashes, hangs, logs, metrics. Sourced by nspawn.sh.

rows_trouble() {
    service_row 29 "a killed master is back within 2 seconds, even while an old worker drains" master_killed
    service_row 56 "a killed worker is replaced, and nobody is refused" worker_killed
    service_row 57 "master or worker killed in the middle of an upgrade: the service serves" killed_in_upgrade
    service_row 30 "a master that hangs is restarted by the watchdog" master_hangs
    service_row 58 "a worker that hangs is replaced" worker_hangs
    service_row 38 "priorities in the journal are right" priorities
    service_row 39 "a line and an audit record for each connection: good, no certificate, wrong, expired, too slow" lines
    service_row 40 "each line of a burst is in the journal, each audit record in its file, or counted as dropped" burst
    service_row 41 "logrotate: files of 'log' and 'audit' are opened again, and no line is lost" log_rotation
    service_row 42 "metrics are valid" metrics
    service_row 60 "certbot's hook hands over a renewed certificate" certbot_hook
    service_row 59 "bowline ctl and socat talk to the control sockets" control
}

master_killed() {
    inside systemctl reset-failed bowline 2>/dev/null || true
    client long long "$port"
    inside systemctl kill --signal=USR2 --kill-whom=main bowline
    sleep 1
    local before start
    before=$(property NRestarts)
    start=$EPOCHREALTIME
    inside kill -9 "$(property MainPID)"
    within 10 serves
    echo "note: served again after $(bc <<<"$EPOCHREALTIME - $start") s"
    (($(bc <<<"$EPOCHREALTIME - $start < 2")))
    (($(property NRestarts) == before + 1))
    finish long
}

worker_killed() {
    local before
    before=$(worker)
    client load load "$port" --clients 4 --pause 0.05
    sleep 1
    inside kill -9 "$before"
    within 10 serves
    [[ $(worker) != "$before" ]]
    sleep 1
    local result
    result=$(finish load)
    echo "note: $result"
    # Those that were inside are gone, one for each client at most; nobody is turned away.
    [[ $result == *'"refused": 0,'* && $result == *'"failed": '[0-4],* ]]
}

killed_in_upgrade() {
    local victim delay
    for delay in 0.00 0.01 0.02 0.03 0.05 0.07 0.10 0.20 0.30 0.50; do
        for victim in master worker; do
            inside systemctl reset-failed bowline 2>/dev/null || true
            inside systemctl kill --signal=USR2 --kill-whom=main bowline
            sleep $delay
            case $victim in
            master) inside kill -9 "$(property MainPID)" ;;
            worker) inside kill -9 "$(worker)" ;;
            esac
            within 10 serves || { echo "no service after the $victim was killed $delay s into an upgrade"; return 1; }
        done
    done
    [[ $(inside systemctl is-active bowline) == active ]]
}

quick_watchdog() {
    drop_in watchdog <<'END'
[Service]
WatchdogSec=3s
END
    inside systemctl restart bowline
    serves
}

restarted() {
    (($(property NRestarts) > 0))
}

master_hangs() {
    quick_watchdog
    inside systemctl reset-failed bowline 2>/dev/null || true
    local since
    since=$(inside date '+%F %T')
    inside kill -STOP "$(property MainPID)"
    within 20 restarted
    within 20 serves
    inside journalctl -u bowline --since "$since" -o cat | tee "$work/journal"
    grep -q "Failed with result 'watchdog'" "$work/journal"
    restore
}

worker_hangs() {
    quick_watchdog
    local before
    before=$(worker)
    inside kill -STOP "$before"
    within 45 worker_is_not "$before"
    within 20 serves
    restore
}

priorities() {
    inside journalctl -u bowline -p err -o cat SYSLOG_IDENTIFIER=bowline | sort | uniq -c | sort -rn | head -20
    # Nothing of everyday life is an error, and what was refused above is ...
    inside journalctl -u bowline -p err -o cat SYSLOG_IDENTIFIER=bowline >"$work/errors"
    grep -q "unknown keyword 'nonsense'" "$work/errors"
    not grep -e 'adopted generation' -e 'listening on' -e reloading -e 'app/local' -e 'SSL handshake' "$work/errors"
    # ... and connections are at the level of information.
    inside journalctl -u bowline -o json SYSLOG_IDENTIFIER=bowline PRIORITY=6 -n 1 | grep -q '"SYSLOG_IDENTIFIER":"bowline"'
    inside journalctl -u bowline -o cat SYSLOG_IDENTIFIER=bowline PRIORITY=6 >"$work/information"
    grep -q ' echo~ app/local ' "$work/information"
    not grep -q '^<[0-9]>' <(inside journalctl -u bowline -o cat -n 1000)
}

authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$1" \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$work/$1.key" -out "$work/$1.crt" 2>/dev/null
}

# issue AUTHORITY NAME [ARGUMENT...]: a client's certificate.
issue() {
    local authority=$1 name=$2
    shift 2
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$work/$name.key" \
        -out "$work/$name.csr" 2>/dev/null
    openssl x509 -req -in "$work/$name.csr" -CA "$work/$authority.crt" -CAkey "$work/$authority.key" -CAcreateserial "$@" \
        -extfile <(echo extendedKeyUsage=clientAuth) -out "$work/$name.crt" 2>/dev/null
}

# tls_client [ARGUMENT...]: one connection with OpenSSL, whatever comes of it.
tls_client() {
    (echo hello; sleep 1) | timeout 5 "${network[@]}" \
        openssl s_client -connect "127.0.0.1:$port" -servername bowline.test "$@" >/dev/null 2>&1 || true
}

lines() {
    authority right
    authority wrong
    issue right good -days 2
    issue wrong stranger -days 2
    issue right expired -days 1
    end_long_ago right expired
    inside mkdir -p /etc/bowline/ca
    cp "$work/right.crt" "$root/etc/bowline/ca/clients.pem"
    sed -i "s|ssl crt site.pem|ssl crt site.pem ca-file /etc/bowline/ca/clients.pem verify required|; s|client-hs 10s|client-hs 2s|" \
        "$root/etc/bowline/bowline.cfg"
    audit_to records.log
    inside systemctl reload bowline
    local since
    since=$(inside date '+%F %T')
    tls_client -cert "$work/good.crt" -key "$work/good.key"
    tls_client
    tls_client -cert "$work/stranger.crt" -key "$work/stranger.key"
    tls_client -cert "$work/expired.crt" -key "$work/expired.key"
    "${network[@]}" timeout 4 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port; cat <&3" || true
    sleep 1
    inside journalctl -u bowline --since "$since" -o cat SYSLOG_IDENTIFIER=bowline | tee "$work/journal"
    grep -q ' echo~ app/local .* -- ' "$work/journal"
    grep -q 'sent no certificate' "$work/journal"
    grep -q 'CN=stranger' "$work/journal"
    grep -q 'expired.*CN=expired' "$work/journal"
    grep -q 'Timeout during SSL handshake' "$work/journal"
    audited records
    rm "$root/var/log/bowline/records.log"
    write_configuration
    inside systemctl reload bowline
}

# audit_to NAME: every frontend, into a file of its own.
audit_to() {
    sed -i "s|^    log global|&\n    audit file@/var/log/bowline/$1|" "$root/etc/bowline/bowline.cfg"
}

# fits FILTER: exactly one of the records does, and says of it all that each must.
fits() {
    local count
    count=$(inside jq -s "map(select(.event != \"reload\" and ($1))) | map(select(
        .time and .conn_id and .client_ip and .client_port and .local_port and .frontend and .listener and
        .duration_s and .termination and .pid and .generation)) | length" /var/log/bowline/records.log)
    ((count == 1)) || { echo "$count records with $1"; return 1; }
}

audited() {
    inside cat /var/log/bowline/records.log
    local certificate='.client_cert | .subject and .issuer and .serial and .not_before and .not_after'
    fits ".event == \"close\" and .client_cert.verify == \"ok\" and .client_cert.sha256 == \"$(fingerprint good)\" and .sni and
        .tls_version and .cipher and .server_cert.sha256 and .backend and .server_addr and .bytes_in > 0 and ($certificate)"
    fits '.event == "handshake_failed" and .client_cert.verify == "none" and .tls_alert == "certificate_required"'
    fits ".client_cert.reason == \"unknown_ca\" and .client_cert.sha256 == \"$(fingerprint stranger)\" and ($certificate)"
    fits ".client_cert.reason == \"expired\" and .client_cert.sha256 == \"$(fingerprint expired)\" and ($certificate)"
    fits '.event == "handshake_failed" and .termination == "cR" and .error and .duration_s >= 2'
}

# fingerprint NAME: of a certificate that 'issue' has made.
fingerprint() {
    openssl x509 -in "$work/$1.crt" -outform DER | sha256sum | cut -d ' ' -f 1
}

# end_long_ago AUTHORITY NAME: issues it again, over since years. 'openssl ca' is the one command of Debian 12's OpenSSL
# that takes dates.
end_long_ago() {
    local authority=$1 name=$2 folder=$work/ca
    mkdir -p "$folder"
    : >"$folder/index"
    echo 1000 >"$folder/serial"
    cat >"$folder/openssl.cnf" <<END
[ca]
default_ca = any
[any]
database = $folder/index
serial = $folder/serial
new_certs_dir = $folder
default_md = sha256
policy = name
[name]
commonName = supplied
[client]
extendedKeyUsage = clientAuth
END
    openssl ca -batch -notext -config "$folder/openssl.cnf" -extensions client -cert "$work/$authority.crt" \
        -keyfile "$work/$authority.key" -startdate 20200101000000Z -enddate 20200201000000Z -in "$work/$name.csr" -out "$work/$name.crt"
}

burst() {
    local count=${BOWLINE_BURST:-120000} since stored
    audit_to burst.log
    inside systemctl reload bowline
    since=$(inside date '+%F %T')
    inside journalctl --sync
    traffic burst "$port" --clients 16 --count "$count" | tee "$work/burst"
    local mark=0
    for _ in {1..100}; do
        inside journalctl --sync
        stored=$(inside journalctl -u bowline --since "$since" -o cat SYSLOG_IDENTIFIER=bowline | grep -c '127.0.0.1:[0-9]* \[') || true
        ((stored != mark)) || break
        mark=$stored
        sleep 1
    done
    inside journalctl -u bowline --since "$since" -o cat | grep -i 'dropped\|suppressed' | tee "$work/dropped" || true
    local counted
    counted=$(grep -oE '[0-9]+ log lines? dropped' "$work/dropped" | awk '{ sum += $1 } END { print sum + 0 }') || true
    echo "note: $count connections, $stored lines, $counted counted as dropped, $(cat "$work/burst")"
    ((stored + counted >= count))
    not grep -q Suppressed "$work/dropped"
    within 20 all_recorded "$count"
    rm "$root/var/log/bowline/burst.log"
    write_configuration
    inside systemctl reload bowline
}

# all_recorded COUNT: so many records are in the file, or counted there as dropped, and each line of it is one.
all_recorded() {
    inside jq -s -e 'map(if .conn_id then 1 else .dropped // 0 end) | add' /var/log/bowline/burst.log >"$work/recorded"
    (($(cat "$work/recorded") == $1))
}

log_lines() {
    inside cat "${@/#//var/log/bowline/}" | grep -c ' echo~ app/local '
}

has_lines() {
    (($(log_lines "$1") > 0))
}

# wrote COUNT FILE...
wrote() {
    local count=$1
    shift
    (($(log_lines "$@") == count))
}

# recorded COUNT: so many connections are in the audit files before and after the rotation, each of which has some.
recorded() {
    inside jq -s -e 'map(select(.event == "close")) | length > 0' /var/log/bowline/audit.log >/dev/null
    inside jq -s -e 'map(select(.event == "close")) | length > 0' /var/log/bowline/audit.log.1 >/dev/null
    inside sh -c 'cat /var/log/bowline/audit.log.1 /var/log/bowline/audit.log' |
        inside jq -s -e "map(select(.event == \"close\") | .conn_id) | unique | length == $1" >/dev/null
}

log_rotation() {
    local log=/var/log/bowline/bowline.log before result count
    sed -i "s|^    log stderr .*|&\n    log file@$log daemon|" "$root/etc/bowline/bowline.cfg"
    audit_to audit.log
    inside systemctl reload bowline
    [[ $(inside stat -c '%U:%G %a' /var/log/bowline) == "bowline:bowline 750" ]]
    client load load "$port" --clients 4
    within 10 has_lines bowline.log
    before=$(inside stat -c %i $log)
    inside logrotate --force --state /root/logrotate /etc/logrotate.d/bowline
    [[ $(inside stat -c '%i %U:%G %a' $log.1) == "$before bowline:bowline 600" ]]
    [[ $(inside stat -c '%U:%G %a' $log) == "bowline:bowline 600" ]]
    within 20 has_lines bowline.log
    result=$(finish load)
    unharmed "$result"
    count=$(sed 's/.*"ok": \([0-9]*\).*/\1/' <<<"$result")
    within 10 wrote "$count" bowline.log bowline.log.1
    within 10 recorded "$count"
    [[ $(inside stat -c '%U:%G %a' /var/log/bowline/audit.log.1) == "bowline:bowline 600" ]]
    echo "note: $count connections, $(log_lines bowline.log.1) lines in the old file, $(log_lines bowline.log) in the new one"
    write_configuration
    inside systemctl reload bowline
}

certbot_hook() {
    local lineage=$root/etc/letsencrypt/live/site
    certificate
    mkdir -p "$lineage"
    cp "$work/cert.pem" "$lineage/fullchain.pem"
    cp "$work/key.pem" "$lineage/privkey.pem"
    rm "$tls/site.pem"
    inside env RENEWED_LINEAGE=/etc/letsencrypt/live/site /usr/share/doc/bowline/examples/certbot-deploy-hook
    [[ $(inside stat -c '%U:%G %a' /etc/bowline/tls/site.pem) == "root:bowline 640" ]]
    serves
    [[ -z $(inside find /etc/bowline/tls -name 'site.pem.*') ]]
}

# promtool of Debian's package prometheus, without installing a server that would run.
fetch_promtool() {
    local folder=$top/target/nspawn/prometheus
    promtool=$folder/usr/bin/promtool
    if [[ ! -x $promtool ]]; then
        mkdir -p "$folder"
        (cd "$folder" && apt-get download prometheus && dpkg-deb --extract prometheus_*.deb . && rm prometheus_*.deb)
    fi
}

metrics() {
    fetch_promtool
    inside curl --silent --fail --output /root/metrics http://127.0.0.1:9101/metrics
    "$promtool" check metrics <"$root/root/metrics" 2>&1 | tee "$work/promtool"
    [[ ! -s $work/promtool ]]
    local name
    for name in bowline_build_info bowline_connections_accepted_total bowline_tls_handshakes_total bowline_bytes_total \
        bowline_certificate_not_after_timestamp_seconds bowline_reloads_total bowline_config_last_reload_successful process_open_fds; do
        grep -q "^$name" "$root/root/metrics" || { echo "no $name"; return 1; }
    done
    inside curl --silent --fail http://127.0.0.1:9101/healthz
    "$promtool" check rules "$top/packaging/prometheus-alerts.yml"
    echo "note: $(grep -vc '^#' "$root/root/metrics") samples"
}

control() {
    inside bowline ctl -s /run/bowline/admin.sock show info | tee "$work/info"
    grep -q '^Name: Bowline' "$work/info"
    inside bowline ctl -s /run/bowline/admin.sock show stat >"$work/stat"
    grep '^# pxname,svname,' "$work/stat"
    inside sh -c 'echo "show info" | socat stdio /run/bowline/admin.sock' >"$work/info"
    grep '^CurrConns: ' "$work/info"
    client long long "$port"
    inside bowline ctl -s /run/bowline/admin.sock show sess | tee "$work/sess"
    grep -q 127.0.0.1 "$work/sess"
    finish long
    # For root and the group bowline, and nobody else.
    inside setpriv --reuid=nobody --regid=nogroup --groups=bowline bowline ctl -s /run/bowline/admin.sock show info >/dev/null
    not inside setpriv --reuid=nobody --regid=nogroup --clear-groups bowline ctl -s /run/bowline/admin.sock show info
    # A command that does not exist, and one without an end.
    not inside bowline ctl -s /run/bowline/admin.sock no such command
    inside sh -c 'head -c 1000000 /dev/zero | tr "\0" x | timeout 20 socat -t 2 stdio /run/bowline/admin.sock | head -c 300' || true
    serves
}
