#!/bin/sh
# own - first light with a mount of process 1's own, or with what it falls back on. To be sourced.
. ./pods.sh

# A container's capability reaches a process that is not root through the file it executes, which
# make_image sees to.
with_sys_admin='--cap-add SYS_ADMIN'

# first_light BACKEND PROFILE OPTION...   21 checks, and three more with `own`. The pod goes on.
first_light() {
    backend=$1 profile=$2
    shift 2
    new_workspace here
    # shellcheck disable=SC2086 # two words
    docker run -d --name pod --cap-drop ALL $with_sys_admin -v /workspaces/here:/workspace \
        -v /test/tap.sh:/run/tap.sh:ro -v /test/passphrase:/run/passphrase:ro "$@" "$image" \
        sh -c 'grep ^Cap /proc/self/status >/workspace/capabilities; exec tail -f /dev/null' >/dev/null
    swap=swappable
    [ "$backend" = given ] || ! linux_is_at_least 6 4 || swap=noswap
    inside pod "$backend" "$profile" "$swap" <<'POD'
        # Inheritable ones don't count: old engines set them, and no file in there takes them up.
        none() { is "$1" '' "$(grep -E '^Cap(Prm|Eff|Amb)' "$2" | grep -v '0000000000000000$')"; }
        has 'AppArmor has the profile that this is about' "$2" "$(cat /proc/1/attr/current)"
        ends 'a vault is made' 0 tazpod unlock --create --kdf-memory 8M --kdf-time 1 --passphrase-file /run/passphrase
        ends 'status answers' 0 tazpod status
        has "and says $1" "$1" "$(printf '%s\n' "$printed" | grep '^ram ')"
        has "and of swap: $3" "$3" "$(printf '%s\n' "$printed" | grep '^swap ')"
        mount=$(grep ' /run/tazpod/secrets tmpfs ' /proc/mounts || :)
        if [ "$1" = own ]; then
            has 'its RAM is a mount' nosuid,nodev "$mount"
            case $3 in
                noswap) has 'with noswap' ,noswap "$mount" ;;
                *) is 'without noswap, which this kernel does not know' '' "$(printf '%s' "$mount" | grep noswap)" ;;
            esac
            is 'the mount is the owner'"'s alone" '1000 700' "$(stat -c '%u %a' /run/tazpod/secrets)"
        else
            is 'there is no mount' '' "$mount"
        fi
        none 'the command of the pod has no capability' /workspace/capabilities
        none 'nor has what is executed in it' /proc/self/status
        printf 'a token' >/run/tazpod/secrets/token
        ends 'save' 0 tazpod save
        ends 'lock' 0 tazpod lock
        is 'no mount is left' '' "$(grep ' /run/tazpod/secrets' /proc/mounts || :)"
        fails_to 'nor a directory' test -e /run/tazpod/secrets
        fails_to 'so nothing is written there by accident' sh -c 'echo token >/home/tazpod/secrets/token'
        ends 'unlock' 0 tazpod unlock --passphrase-file /run/passphrase
        is 'the token is back' 'a token' "$(cat /home/tazpod/secrets/token)"
        printf 'another' >/run/tazpod/secrets/token
POD
    if [ "$backend" = own ]; then
        is 'outside of the pod there is no such mount' '' "$(grep /run/tazpod/secrets /proc/mounts || :)"
    fi
    ends 'docker stop' 0 docker stop pod
    # Its command has no trap: 128 and the number of TERM.
    is 'the pod ended as its command did' 'false 143' "$(exit_status pod)"
    docker start pod >/dev/null
    inside pod <<'POD'
        has 'it starts locked' 'state       locked' "$(tazpod status)"
        fails_to 'without clear text' test -e /run/tazpod/secrets
        ends 'unlock after the start' 0 tazpod unlock --passphrase-file /run/passphrase
        is 'the last token is back' another "$(cat /home/tazpod/secrets/token)"
POD
}
