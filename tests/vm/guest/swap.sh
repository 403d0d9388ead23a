#!/bin/sh
# What of a vault reaches the swap device when memory gets scarce. The vault that is opened was
# made outside, so its content and its keys are known: "canary", which stands in each of 4,096
# pages, and "keys". Each file holds patterns, one a line.
. ./pods.sh

# search PATTERNS   How often one of them is on the whole device. Past the page cache, which may
# be older than the device; split at zeros, of which it has the most.
search() { dd if=/dev/vdc bs=1M iflag=direct 2>/dev/null | LC_ALL=C grep -zaoFf "$1" | tr -cd '\0' | wc -c; }

# squeeze KIND OPTION...   Opens the vault in a pod of 64 MB and lets something else in it ask
# for more than there is, while the vault is saved.
squeeze() {
    kind=$1
    shift
    new_workspace "$kind"
    install -d -m 0700 -o 1000 -g 1000 "/workspaces/$kind/.tazpod"
    install -m 0600 -o 1000 -g 1000 vault.tpv "/workspaces/$kind/.tazpod/"
    pod "$kind" "$kind" -m 64m "$@" >/dev/null
    inside "$kind" "$kind" <<'POD'
        ends "$1: unlock" 0 tazpod unlock --passphrase-file /run/passphrase
        is "$1: the canaries are there" 16777216 "$(stat -c %s /run/tazpod/secrets/canaries)"
        # A buffer of 96 MB, filled: what lies idle has to go.
        dd if=/dev/zero of=/dev/null bs=96M count=2 2>/dev/null &
        eater=$!
        echo new >/run/tazpod/secrets/new
        ends "$1: save while memory is scarce" 0 tazpod save
        wait "$eater" || :
POD
    id=$(docker inspect --format '{{.Id}} {{.State.Pid}}' "$kind")
    printf '# %s: swap %s, process 1 %s\n' "$kind" "$(cat "/sys/fs/cgroup/docker/${id% *}/memory.swap.current")" \
        "$(grep VmSwap "/proc/${id#* }/status")"
    is "$kind: none of the keys is on the swap device" 0 "$(search keys)"
}

if linux_is_at_least 6 4; then plan 18; else plan 12; fi
make_image
is 'nothing is on the swap device before' 0 "$(search canary)"

# The plain one last: what is once on the device stays there.
if linux_is_at_least 6 4; then
    docker volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=64m,mode=0700,uid=1000,gid=1000,noswap ram >/dev/null
    squeeze noswap --memory-swap 256m -v ram:/run/tazpod
    holds 'noswap: memory was so scarce that much was swapped' test "$(cat "/sys/fs/cgroup/docker/${id% *}/memory.swap.current")" -gt 8000000
    is 'noswap: no canary is on the swap device' 0 "$(search canary)"
    docker kill noswap >/dev/null
fi
squeeze no-swap-allowed --memory-swap 64m --tmpfs "$ram"
is 'no-swap-allowed: nothing was swapped' 0 "$(cat "/sys/fs/cgroup/docker/${id% *}/memory.swap.current")"
is 'no-swap-allowed: no canary is on the swap device' 0 "$(search canary)"
docker kill no-swap-allowed >/dev/null
squeeze plain --memory-swap 256m --tmpfs "$ram"
found=$(search canary)
printf '# plain: canaries on the swap device: %s\n' "$found"
holds 'plain: the control: canaries are on the swap device' test "$found" -gt 400
