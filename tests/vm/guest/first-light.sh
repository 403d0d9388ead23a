#!/bin/sh
# A container that keeps a secret across `docker stop`, with a writable and a read-only root.
. ./pods.sh

plan 32
make_image
for kind in writable read-only; do
    new_workspace "$kind"
    set -- --tmpfs "$ram"
    [ "$kind" = writable ] || set -- "$@" --read-only
    pod "$kind" "$kind" "$@" >/dev/null

    inside "$kind" "$kind" <<'POD'
        has "$1: AppArmor confines process 1" 'docker-default (enforce)' "$(cat /proc/1/attr/current)"
        is "$1: no capability is left" 0000000000000000 "$(sed -n 's/^CapBnd:\t//p' /proc/1/status)"
        case $1 in
            read-only) fails_to "$1: the root can't be written" touch /home/tazpod/file ;;
            *) holds "$1: the root can be written" touch /home/tazpod/file ;;
        esac
        fails_to "$1: no clear text before the unlock" test -e /run/tazpod/secrets
        ends "$1: a vault is made" 0 tazpod unlock --create --kdf-memory 8M --kdf-time 1 --passphrase-file /run/passphrase
        umask 077
        printf 'a token of the first pod' >/home/tazpod/secrets/token
        mkdir /run/tazpod/secrets/kube
        seq 20000 >/run/tazpod/secrets/kube/config
        ln -s kube/config /run/tazpod/secrets/current
        ends "$1: status answers" 0 tazpod status
        has "$1: and says open" 'state       open' "$printed"
POD
    ends "$kind: docker stop" 0 docker stop "$kind"
    is "$kind: process 1 ended with 0" 'false 0' "$(exit_status "$kind")"
    is "$kind: the vault is the user's alone" '1000:1000 600' "$(stat -c '%u:%g %a' "/workspaces/$kind/.tazpod/vault.tpv")"
    fails_to "$kind: the token is not on the workspace's disk" grep -qr 'a token of the first pod' "/workspaces/$kind"

    docker start "$kind" >/dev/null
    inside "$kind" "$kind" <<'POD'
        fails_to "$1: no clear text after the start" test -e /run/tazpod/secrets
        ends "$1: the passphrase opens it again" 0 tazpod unlock --passphrase-file /run/passphrase
        is "$1: the token is back" 'a token of the first pod' "$(cat /home/tazpod/secrets/token)"
        is "$1: so is the rest" "$(seq 20000 | sha256sum)" "$(sha256sum </run/tazpod/secrets/current)"
        ends "$1: lock" 0 tazpod lock
POD
done
