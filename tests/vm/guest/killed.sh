#!/bin/sh
# Process 1 is killed, and the RAM outlives it, since another container holds the volume. The
# next process 1 keeps the clear text aside, and opens the vault as it was saved.
. ./pods.sh

plan 18
make_image
new_workspace here
docker volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=64m,mode=0700,uid=1000,gid=1000 ram >/dev/null
docker run -d --name holder --user 0 --entrypoint /bin/tail -v ram:/held:nocopy "$image" -f /dev/null >/dev/null
pod pod here -v ram:/run/tazpod:nocopy >/dev/null
inside pod <<'POD'
    ends 'a vault is made' 0 tazpod unlock --create --kdf-memory 8M --kdf-time 1 --passphrase-file /run/passphrase
    printf 'saved' >/run/tazpod/secrets/file
    ends 'and saved' 0 tazpod save
    printf 'never saved' >/run/tazpod/secrets/file
    printf 'nor this' >/run/tazpod/secrets/other
POD
before=$(sha256sum </workspaces/here/.tazpod/vault.tpv)

docker kill --signal KILL pod >/dev/null
is 'process 1 was killed' 137 "$(docker wait pod)"
ends 'the clear text outlives it' 0 docker exec holder cat /held/secrets/other
is 'and is what was written' 'nor this' "$printed"

docker start pod >/dev/null
is 'nothing was saved over the vault' "$before" "$(sha256sum </workspaces/here/.tazpod/vault.tpv)"
inside pod <<'POD'
    status=$(tazpod status)
    has 'the pod starts locked' 'state       locked' "$status"
    has 'and reports the tree' 'stale       1 ' "$status"
    fails_to 'which is not where secrets are' test -e /run/tazpod/secrets
    fails_to 'nor for the user to read' cat /run/tazpod/.stale-0/other
    ends 'unlock' 0 tazpod unlock --passphrase-file /run/passphrase
    has 'and says that there is one' .stale- "$printed"
    is 'the vault is as it was saved' 'saved' "$(cat /run/tazpod/secrets/file)"
    fails_to 'without what was not' test -e /run/tazpod/secrets/other
POD
ends 'docker stop' 0 docker stop pod
is 'process 1 ended with 0' 'false 0' "$(exit_status pod)"
ends 'root still finds the tree' 0 docker exec holder cat /held/.stale-0/file /held/.stale-0/other
is 'whole' 'never savednor this' "$printed"
