#!/bin/sh
# Workers hold clear text too, outside of the vault's RAM: what of it reaches the swap device when
# memory gets scarce in the middle of an unlock and of a save. From Linux 6.4 on: before that there
# is no RAM that can't be swapped.
. ./pods.sh
. ./search.sh

if ! linux_is_at_least 6 4; then
    plan 1
    ok 'no noswap before Linux 6.4'
    exit
fi
plan 10
make_image
vault_of here
docker volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=64m,mode=0700,uid=1000,gid=1000,noswap ram >/dev/null
pod pod here -v ram:/run/tazpod -v /test/witness:/run/witness:ro >/dev/null
inside pod </dev/null
group=$(group_of pod)
root=/proc/${group#* }/root
group=${group% *}

# appears NAME PATH   Waits until a file, whose name may be a pattern, is not empty: 60 s.
appears() {
    until=$(($(date +%s) + 60))
    tries=0
    while :; do
        for file in $2; do
            [ ! -s "$file" ] || { ok "$1"; return; }
        done
        # Only now and then: to ask for the time takes a process, and the file may be gone by then.
        tries=$(((tries + 1) % 1000))
        [ "$tries" != 0 ] || [ "$(date +%s)" -lt "$until" ] || { not_ok "$1" "in 60 s there was no $2"; return; }
    done
}

# in_the_middle JOB PATH COMMAND...   Freezes the pod in the middle of a command, which is when PATH
# has content, and swaps out all of it that can be swapped.
in_the_middle() {
    job=$1 path=$2
    shift 2
    docker exec pod "$@" >printed 2>&1 &
    client=$!
    appears "$job: it has begun" "$path"
    echo 1 >"$group/cgroup.freeze"
    # It answers with an error when there is no more to be had.
    for _ in 1 2 3; do echo 200M >"$group/memory.reclaim" 2>/dev/null || :; done
    while read -r pid; do
        printf '# %s: %s %s\n' "$job" "$(tr '\0' ' ' <"/proc/$pid/cmdline")" "$(grep VmSwap "/proc/$pid/status")"
    done <"$group/cgroup.procs"
    is "$job: no canary is on the swap device" 0 "$(search canary)"
    is "$job: nor a key" 0 "$(search keys)"
    echo 0 >"$group/cgroup.freeze"
    status=0
    wait "$client" || status=$?
    is "$job: it ends well" 0 "$status"
}

# The control: what a process of the pod holds does reach the device.
docker exec -d pod sh -c 'held=$(cat /run/witness); echo "${#held}" >/tmp/held; while :; do sleep 1000; done'
appears 'something else in the pod holds a witness in its memory' "$root/tmp/held"

in_the_middle unlock "$root/run/tazpod/.staging/canaries" tazpod unlock --passphrase-file /run/passphrase
holds 'the witness is on the swap device' test "$(search witness)" -gt 0
# What an unlock has left there would be taken for what the save leaves.
swapoff /dev/vdc
blkdiscard --force --zeroout /dev/vdc
mkswap /dev/vdc >/dev/null
swapon /dev/vdc
docker exec pod sh -c 'echo new >/run/tazpod/secrets/new'
in_the_middle save '/workspaces/here/.tazpod/vault.tpv.tmp-*' tazpod save
