#!/bin/sh
# What of an open vault reaches the swap device when memory gets scarce.
. ./pods.sh
. ./search.sh

# squeeze KIND RAM SWAP OPTION...   Opens the vault in a pod of 64 MB and lets something else in it
# ask for more than there is. RAM and SWAP: what status says of them. Five checks; group is the pod's
# cgroup.
squeeze() {
    kind=$1 backend=$2 swap=$3
    shift 3
    vault_of "$kind"
    pod "$kind" "$kind" -m 64m -v /test/food:/run/food:ro "$@" >/dev/null
    inside "$kind" "$kind" "$backend" "$swap" <<'POD'
        ends "$1: unlock" 0 tazpod unlock --passphrase-file /run/passphrase
        is "$1: the canaries are there" 16777216 "$(stat -c %s /run/tazpod/secrets/canaries)"
        status=$(tazpod status)
        has "$1: the RAM is $2" "$2" "$(printf '%s\n' "$status" | grep '^ram ')"
        has "$1: of swap status says: $3" "$3" "$(printf '%s\n' "$status" | grep '^swap ')"
        # A buffer of 96 MB, filled: what lies idle has to go.
        dd if=/run/food of=/dev/null bs=96M count=1 2>/dev/null || :
POD
    group=$(group_of "$kind")
    printf '# %s: swap %s, process 1 %s\n' "$kind" "$(cat "${group% *}/memory.swap.current")" \
        "$(grep VmSwap "/proc/${group#* }/status")"
    group=${group% *}
    is "$kind: none of the keys is on the swap device" 0 "$(search keys)"
}

# noswap KIND OPTION...   A squeeze that reaches everything but the vault: seven checks.
noswap() {
    squeeze "$@" --memory-swap 256m
    # Not what is there now: the buffer is gone, and took its own with it.
    holds "$kind: memory was so scarce that much was swapped" test "$(cat "$group/memory.swap.peak")" -gt 16000000
    is "$kind: no canary is on the swap device" 0 "$(search canary)"
    docker kill "$kind" >/dev/null
}

if linux_is_at_least 6 4; then plan 28; else plan 14; fi
make_image
# Anything but zeros, which Linux 6.12 drops where they fill huge pages.
head -c 1000000 /dev/urandom >once
for _ in $(seq 101); do cat once; done >food
is 'nothing is on the swap device before' 0 "$(search canary)"

# The plain one last: what is once on the device stays there.
if linux_is_at_least 6 4; then
    docker volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=64m,mode=0700,uid=1000,gid=1000,noswap ram >/dev/null
    noswap volume given noswap -v ram:/run/tazpod
    # Of its own it takes the limit less 48 MiB.
    noswap own own noswap -m 80m --cap-add SYS_ADMIN --security-opt apparmor=unconfined
fi
squeeze no-swap-allowed given 'the container may use none' --memory-swap 64m --tmpfs "$ram"
is 'no-swap-allowed: nothing was swapped' 0 "$(cat "$group/memory.swap.current")"
is 'no-swap-allowed: no canary is on the swap device' 0 "$(search canary)"
docker kill no-swap-allowed >/dev/null
squeeze plain given swappable --memory-swap 256m --tmpfs "$ram"
found=$(search canary)
printf '# plain: canaries on the swap device: %s\n' "$found"
holds 'plain: the control: canaries are on the swap device' test "$found" -gt 400
