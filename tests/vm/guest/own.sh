#!/bin/sh
# own - first light with a mount of process 1's own. To be sourced.
. ./pods.sh

# What gives it SYS_ADMIN: a container's capability does not reach a process that is not root.
file_capabilities='cap_sys_admin,cap_sys_chroot=p'

# first_light BACKEND OPTION...   18 checks, and two more with `own`.
first_light() {
    backend=$1
    shift
    new_workspace here
    docker run -d --name pod --cap-drop ALL --cap-add SYS_ADMIN -v /workspaces/here:/workspace \
        -v /test/tap.sh:/run/tap.sh:ro -v /test/passphrase:/run/passphrase:ro "$@" "$image" \
        sh -c 'grep ^Cap /proc/self/status >/workspace/capabilities; exec tail -f /dev/null' >/dev/null
    noswap=
    ! linux_is_at_least 6 4 || noswap=noswap
    inside pod "$backend" "$noswap" <<'POD'
        # Inheritable ones don't count: old engines set them, and no file in there takes them up.
        none() { is "$1" '' "$(grep -E '^Cap(Prm|Eff|Amb)' "$2" | grep -v '0000000000000000$')"; }
        ends 'a vault is made' 0 tazpod unlock --create --kdf-memory 8M --kdf-time 1 --passphrase-file /run/passphrase
        ends 'status answers' 0 tazpod status
        has "and says $1" "$1" "$(printf '%s\n' "$printed" | grep '^ram ')"
        mount=$(grep ' /run/tazpod/secrets tmpfs ' /proc/mounts || :)
        if [ "$1" = own ]; then
            has 'its RAM is a mount' nosuid,nodev "$mount"
            has 'with noswap where there is noswap' "$2" "$mount"
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
    ends 'docker stop' 0 docker stop pod
    docker start pod >/dev/null
    inside pod <<'POD'
        fails_to 'no clear text after the start' test -e /run/tazpod/secrets
        ends 'unlock after the start' 0 tazpod unlock --passphrase-file /run/passphrase
        is 'the last token is back' another "$(cat /home/tazpod/secrets/token)"
POD
}
