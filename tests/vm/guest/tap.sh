#!/bin/sh
# tap - checks that print TAP, for the guest and for the inside of its pods. To be sourced.
#
# A story begins with `plan N`. A check that fails does not end it: what follows often says why.

plan() { printf '1..%s\n' "$1"; }
ok() { printf 'ok - %s\n' "$1"; }
not_ok() {
    printf 'not ok - %s\n' "$1"
    shift
    printf '%s\n' "$@" | sed 's/^/#   /'
}

# is NAME WANTED FOUND
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "wanted: $2" "found: $3"; fi; }

# has NAME WANTED TEXT
has() {
    case $3 in
        *"$2"*) ok "$1" ;;
        *) not_ok "$1" "wanted in it: $2" "found: $3" ;;
    esac
}

# ends NAME STATUS COMMAND...   What it printed is in $printed.
ends() {
    name=$1 wanted=$2
    shift 2
    status=0
    printed=$("$@" 2>&1 </dev/null) || status=$?
    if [ "$status" = "$wanted" ]; then
        ok "$name"
    else
        not_ok "$name" "wanted status $wanted, found $status: $*" "$printed"
    fi
}

# holds NAME COMMAND...   fails_to NAME COMMAND...   For tests, whose output says nothing.
holds() {
    name=$1
    shift
    if "$@" >/dev/null 2>&1; then ok "$name"; else not_ok "$name" "does not hold: $*"; fi
}
fails_to() {
    name=$1
    shift
    if "$@" >/dev/null 2>&1; then not_ok "$name" "does not fail: $*"; else ok "$name"; fi
}
