# shellcheck shell=bash disable=SC2154
# Traffic across reloads, upgrades and restarts: nothing may be lost. Sourced by nspawn.sh.

rows_traffic() {
    service_row 23 "a reload returns when the new certificate is served, 100 times under load" reload_is_synchronous
    service_row 24 "20 times HUP: no connection lost" hup
    service_row 25 "'kill -HUP \$(cat bowline.pid)' is the same" hup_by_pid_file
    service_row 26 "an upgrade of the package loses nothing, and the new program runs" upgrade
    service_row 55 "USR2 executes the program again and loses nothing" usr2
    service_row 27 "a restart refuses nobody" restart
    service_row 28 "a stop lets connections finish, for hard-stop-after at most; a second TERM is quicker" stop
}

reload_is_synchronous() {
    client load load "$port" --clients 4
    for turn in {1..100}; do
        certificate
        inside systemctl reload bowline
        serves || { echo "the old one after reload $turn"; return 1; }
    done
    unharmed "$(finish load)"
}

hup() {
    client load load "$port" --clients 4
    client long long "$port"
    for _ in {1..20}; do
        certificate
        inside systemctl kill --signal=HUP --kill-whom=main bowline
        sleep 0.2
    done
    within 20 serves
    unharmed "$(finish long)"
    unharmed "$(finish load)"
}

hup_by_pid_file() {
    client load load "$port" --clients 4
    certificate
    inside sh -c 'kill -HUP "$(cat /run/bowline/bowline.pid)"'
    within 20 serves
    unharmed "$(finish load)"
}

# The old worker lives until its connections end: longer than the row.
drain_slowly() {
    hard_stop_after=60s write_configuration
    inside systemctl reload bowline
}

upgrade() {
    local before
    drain_slowly
    before=$(property MainPID)
    client load load "$port" --clients 4
    client long long "$port"
    inside dpkg -i --force-confold /root/newer.deb
    certificate
    inside systemctl reload bowline
    serves
    sleep 1
    unharmed "$(finish long)"
    unharmed "$(finish load)"
    [[ $(property MainPID) == "$before" ]]
    local process
    for process in "$before" "$(worker)"; do
        [[ $(inside readlink "/proc/$process/exe") == /usr/sbin/bowline ]]
        inside cmp "/proc/$process/exe" /usr/sbin/bowline
    done
    inside grep -q newer /usr/sbin/bowline
    inside dpkg -i --force-confold --force-downgrade /root/bowline.deb
    write_configuration
    inside systemctl reload bowline
}

worker_is_not() {
    [[ $(worker) != "$1" ]]
}

usr2() {
    local before
    drain_slowly
    before=$(worker)
    client load load "$port" --clients 4
    client long long "$port"
    for _ in {1..5}; do
        inside systemctl kill --signal=USR2 --kill-whom=main bowline
        sleep 0.5
    done
    unharmed "$(finish long)"
    within 10 worker_is_not "$before"
    unharmed "$(finish load)"
    write_configuration
    inside systemctl reload bowline
}

restart() {
    client load load "$port" --clients 4
    for _ in {1..4}; do
        inside systemctl restart bowline
        sleep 0.5
    done
    local result
    result=$(finish load)
    [[ $result == *'"refused": 0,'* ]]
    unharmed "$result"
}

stop() {
    local start seconds result
    client long long "$port"
    start=$EPOCHREALTIME
    inside systemctl stop bowline
    seconds=$(bc <<<"$EPOCHREALTIME - $start")
    result=$(finish long)
    echo "stop took $seconds s: $result"
    # It went on for hard-stop-after, 5 seconds, and not much longer.
    (($(bc <<<"$seconds > 4 && $seconds < 9")))
    [[ $(property Result) == success ]]
    inside systemctl start bowline
    client long long "$port"
    inside systemctl stop --no-block bowline
    sleep 1
    start=$EPOCHREALTIME
    inside systemctl kill --kill-whom=main bowline
    within 20 state_is inactive
    local second
    second=$(bc <<<"$EPOCHREALTIME - $start")
    finish long
    (($(bc <<<"$second < 3")))
    # A limit that is longer than systemd's patience: it is asked for more.
    drop_in impatient <<'END'
[Service]
TimeoutStopSec=3s
END
    hard_stop_after=8s write_configuration
    inside systemctl start bowline
    client long long "$port"
    start=$EPOCHREALTIME
    inside systemctl stop bowline
    local extended
    extended=$(bc <<<"$EPOCHREALTIME - $start")
    finish long
    (($(bc <<<"$extended > 7 && $extended < 12")))
    [[ $(property Result) == success ]]
    restore
    echo "note: $seconds s with a connection open; $second s after a second TERM; $extended s where hard-stop-after is 8 s and TimeoutStopSec 3 s"
}
