#!/bin/sh
# RAM that can't be swapped, without any privilege: a volume. Linux takes noswap from 6.4 on;
# before that the container does not start, and the same volume without noswap is the way out.
. ./pods.sh

volume() {
    docker volume create --opt type=tmpfs --opt device=tmpfs --opt "o=size=64m,mode=0700,uid=1000,gid=1000$2" "$1" >/dev/null
}

if linux_is_at_least 6 4; then plan 9; else plan 11; fi
make_image
new_workspace here
volume noswap ,noswap
if linux_is_at_least 6 4; then
    ends 'the pod starts' 0 pod pod here -v noswap:/run/tazpod
    has 'and its RAM is noswap' noswap "$(docker exec pod grep ' /run/tazpod ' /proc/mounts)"
else
    # 125 to 127, as the engine's version has it.
    status=0
    printed=$(pod refused here -v noswap:/run/tazpod 2>&1) || status=$?
    holds 'the pod does not start' test "$status" -ge 125
    has 'and the engine says why' 'invalid argument' "$printed"
    volume plain ''
    ends 'without noswap it starts' 0 pod pod here -v plain:/run/tazpod
    has 'in RAM' 'tmpfs' "$(docker exec pod grep ' /run/tazpod ' /proc/mounts)"
fi

inside pod <<'POD'
    ends 'a vault is made' 0 tazpod unlock --create --kdf-memory 8M --kdf-time 1 --passphrase-file /run/passphrase
    printf 'a token' >/run/tazpod/secrets/token
POD
ends 'docker stop' 0 docker stop pod
is 'process 1 ended with 0' 'false 0' "$(exit_status pod)"
docker start pod >/dev/null
inside pod <<'POD'
    has 'it starts locked' 'state       locked' "$(tazpod status)"
    fails_to 'without clear text' test -e /run/tazpod/secrets
    ends 'the passphrase opens it again' 0 tazpod unlock --passphrase-file /run/passphrase
    is 'the token is back' 'a token' "$(cat /run/tazpod/secrets/token)"
POD
