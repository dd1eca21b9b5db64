# shellcheck shell=bash disable=SC2154
# The AppArmor profile in force, on a kernel that has it. Sourced by machine.sh.

rows_apparmor() {
    service_row 43 "AppArmor confines master and worker, and had nothing to deny in all that went before" confined
    service_row 43 "a file that the profile does not name is out of reach until it does" out_of_reach
}

denied() {
    journalctl --boot --dmesg -o cat | grep 'apparmor="DENIED".*profile="bowline"'
}

confined() {
    grep -x 'bowline (enforce)' /sys/kernel/security/apparmor/profiles
    local process
    for process in $(property MainPID) $(worker); do
        [[ $(cat "/proc/$process/attr/current") == "bowline (enforce)" ]]
    done
    not denied
}

out_of_reach() {
    mkdir -p /srv/tls
    chmod 755 /srv/tls
    certificate
    install -m640 -g bowline "$tls/site.pem" /srv/tls/site.pem
    sed -i 's|crt site.pem|crt /srv/tls/site.pem|' /etc/bowline/bowline.cfg
    not systemctl reload bowline
    journalctl --sync
    journalctl -u bowline -n 30 -o cat | grep "cannot read '/srv/tls/site.pem': Permission denied"
    within 10 denied
    echo '/srv/tls/** r,' >/etc/apparmor.d/local/usr.sbin.bowline
    apparmor_parser -r /etc/apparmor.d/usr.sbin.bowline
    systemctl reload bowline
    serves
}
