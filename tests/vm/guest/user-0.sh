#!/bin/sh
# docker run --user 0 with the engine's default capabilities: process 1 is root, the vault and
# whoever works with it is the owner of /workspace.
. ./pods.sh

plan 12
make_image
new_workspace here
docker run -d --name pod --user 0 --tmpfs "$ram" -v /workspaces/here:/workspace \
    -v /test/tap.sh:/run/tap.sh:ro -v /test/passphrase:/run/passphrase:ro "$image" >/dev/null
inside pod <<'POD'
    is 'process 1 is root' 0 "$(stat -c %u /proc/1)"
    ends 'a vault is made' 0 tazpod unlock --create --kdf-memory 8M --kdf-time 1 --passphrase-file /run/passphrase
    has 'the RAM is given' given "$(tazpod status | grep '^ram ')"
    is 'the open vault is the owner'"'s" '1000 700' "$(stat -c '%u %a' /run/tazpod/secrets)"
    is 'tazpod shell ends as the owner' 1000 "$(echo 'id -u' | tazpod shell)"
    echo 'echo token >/run/tazpod/secrets/token' | tazpod shell
    is 'what it writes is the owner'"'s" 1000 "$(stat -c %u /run/tazpod/secrets/token)"
POD
ends 'docker stop' 0 docker stop pod
is 'process 1 ended with 0' 'false 0' "$(exit_status pod)"
is 'nothing in the workspace is root'"'s" '' "$(find /workspaces/here -uid 0)"
docker start pod >/dev/null
inside pod <<'POD'
    ends 'unlock after the start' 0 tazpod unlock --passphrase-file /run/passphrase
    is 'the token is back' token "$(cat /run/tazpod/secrets/token)"
    ends 'lock' 0 tazpod lock
POD
