# shellcheck shell=bash disable=SC2154
# One line for each expectation. To be sourced; 'work' is a folder for what the checks print.

passed=0 failed=0 skipped=0

# row NUMBER WHAT FUNCTION: runs it in a shell of its own, under 'set -e'; what it prints is shown if it fails. A line
# 'note: TEXT' is shown anyway. An exit code of 77 says that it cannot be checked here. To be called by itself: on the left of
# '||' or in a condition, bash heeds no 'set -e'.
row() {
    local number=$1 what=$2 check=$3
    if [[ -n "${BOWLINE_ROWS:-}" && " $BOWLINE_ROWS " != *" $number "* ]]; then
        return
    fi
    local code note start=$SECONDS
    (BASH_XTRACEFD=9; set -ex; "$check") >"$work/$check.log" 2>&1 9>&1
    code=$?
    note=$(sed -n 's/^note: //p' "$work/$check.log" | tail -1)
    case $code in
    0)
        passed=$((passed + 1))
        printf '%5s  ok    %s%s (%s s)\n' "$number" "$what" "${note:+: $note}" $((SECONDS - start))
        ;;
    77)
        skipped=$((skipped + 1))
        printf '%5s  skip  %s: %s\n' "$number" "$what" "$note"
        ;;
    *)
        failed=$((failed + 1))
        printf '%5s  FAIL  %s\n' "$number" "$what"
        tail -40 "$work/$check.log" | sed 's/^/           /'
        return 1
        ;;
    esac
}

# '!' does not count for 'set -e'.
not() {
    if "$@"; then
        echo "this should have failed: $*"
        return 1
    fi
}

# within SECONDS COMMAND...: waits until it succeeds, for so long.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS <= end)) || { echo "still not: $*"; return 1; }
        sleep 0.1
    done
}

finish_rows() {
    echo "$passed passed, $failed failed, $skipped skipped"
    ((failed == 0))
}
