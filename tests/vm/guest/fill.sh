#!/bin/sh
# fill - a pod whose RAM is filled until nothing goes in any more, then stopped. To be sourced.
. ./pods.sh

# A fifth of it is random, so that the vault file is large, and written into a page cache that
# counts to the same limit. The rest zstd makes small: in a slow guest the sealing would be most
# of the story. 90 MB, more than any pod here takes.
make_stream() {
    head -c 50000 /dev/urandom >once
    for _ in $(seq 20); do cat once; done >twenty
    for number in $(seq 18); do
        echo "$number"
        head -c 1000000 /dev/urandom
        cat twenty twenty twenty twenty
    done >stream
}

# What writes, when nothing else is said: Debian's dd.
writer='dd'

# Set where the usual derivation does not fit into the limit.
too_small=

# fill KIND OPTION...   Ten checks, and one more where it is too small: all that was written before the
# stop is found again by a pod without a limit.
fill() {
    kind=$1
    shift
    new_workspace "$kind"
    # Time is not the subject, and the guest is slow: hence the longer stop.
    pod "$kind" "$kind" -m 64m -e TAZPOD_STOP_TIMEOUT=120s -v /test/stream:/run/stream:ro "$@" >/dev/null
    inside "$kind" "$kind" "$too_small" <<'POD'
        [ -z "$2" ] ||
            ends "$1: a derivation that does not fit is refused" 71 tazpod unlock --create --passphrase-file /run/passphrase
        ends "$1: a derivation that fits" 0 tazpod unlock --create --kdf-memory 16M --passphrase-file /run/passphrase
        echo first >/run/tazpod/secrets/first
POD
    # It is killed, or the file system is full.
    # shellcheck disable=SC2086 # one word or two
    fails_to "$kind: something holds the writer back" docker exec "$kind" $writer if=/run/stream of=/run/tazpod/secrets/big bs=64k
    # Not by docker exec: nothing can be started in there any more.
    size=$(stat -c %s "/proc/$(docker inspect --format '{{.State.Pid}}' "$kind")/root/run/tazpod/secrets/big")
    printf '# %s: %s bytes in RAM\n' "$kind" "$size"
    holds "$kind: and late" test "$size" -gt 30000000
    ends "$kind: docker stop" 0 docker stop -t 130 "$kind"
    is "$kind: process 1 ended with 0" 'false 0' "$(exit_status "$kind")"

    head -c "$size" stream >written
    pod "$kind-roomy" "$kind" --tmpfs "/run/tazpod:size=160m,mode=0700,uid=1000,gid=1000" -v /test/written:/run/written:ro >/dev/null
    inside "$kind-roomy" "$kind" "$size" <<'POD'
        ends "$1: a pod without a limit opens it" 0 tazpod unlock --passphrase-file /run/passphrase
        is "$1: the first file is back" first "$(cat /run/tazpod/secrets/first)"
        is "$1: the big one has the size it had" "$2" "$(stat -c %s /run/tazpod/secrets/big)"
        holds "$1: and is what was written" cmp -s /run/written /run/tazpod/secrets/big
        is "$1: nothing else is there" 2 "$(ls /run/tazpod/secrets | wc -l)"
POD
    docker kill "$kind-roomy" >/dev/null
}
