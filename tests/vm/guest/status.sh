#!/bin/sh
# States, words and exit codes under the engine's AppArmor profile and seccomp filter.
. ./pods.sh

plan 38
make_image
new_workspace here
printf 'another passphrase\n' >/workspaces/here/wrong
pod pod here --tmpfs "$ram" >/dev/null
inside pod <<'POD'
    # refuses STATUS WORD COMMAND...
    refuses() {
        code=$1 word=$2
        shift 2
        ends "$*: exit $code" "$code" "$@"
        has "and the word is $word" "[$word]" "$printed"
    }
    state() { is "$1: the state is $2" "$2" "$(tazpod status | sed -n 's/^state *//p')"; }
    create='tazpod unlock --create --kdf-memory 8M --kdf-time 1 --passphrase-file'

    has 'AppArmor confines this' 'docker-default (enforce)' "$(cat /proc/self/attr/current)"
    is 'and seccomp' 2 "$(sed -n 's/^Seccomp:\t//p' /proc/self/status)"
    state 'at first' locked
    refuses 66 no-vault tazpod unlock --passphrase-file /run/passphrase
    refuses 3 locked tazpod save
    refuses 4 needs-terminal tazpod unlock
    ends 'an unknown verb: exit 64' 64 tazpod frobnicate
    refuses 77 empty-passphrase $create /dev/null
    ends 'create' 0 $create /run/passphrase
    state 'after it' open
    ends 'save' 0 tazpod save
    ends 'lock' 0 tazpod lock
    state 'after it' locked
    fails_to 'no clear text after the lock' test -e /run/tazpod/secrets
    refuses 73 exists $create /run/passphrase
    refuses 77 wrong-passphrase tazpod unlock --passphrase-file /workspace/wrong
    cp .tazpod/vault.tpv whole
    size=$(stat -c %s whole)
    # 16 bytes of end mark, and before it the last chunk's tag.
    printf '\377\377\377\377' | dd of=.tazpod/vault.tpv bs=1 seek=$((size - 20)) conv=notrunc 2>/dev/null
    refuses 65 damaged-body tazpod unlock --passphrase-file /run/passphrase
    head -c $((size - 20)) whole >.tazpod/vault.tpv
    refuses 65 truncated tazpod unlock --passphrase-file /run/passphrase
    cat whole >.tazpod/vault.tpv
    ends 'the whole file opens' 0 tazpod unlock --passphrase-file /run/passphrase
POD

ends 'outside a pod: exit 69' 69 docker run --rm --entrypoint tazpod "$image" status
has 'and the word is no-init' '[no-init]' "$printed"

# main STATUS COMMAND...
main() {
    code=$1
    shift
    ends "a pod ends as its command does: $code" "$code" docker run --rm --cap-drop ALL -e TAZPOD_VAULT=none "$image" "$@"
}
main 7 sh -c 'exit 7'
main 137 sh -c 'kill -KILL $$'
main 126 /etc/passwd
main 127 no-such-command


# The signal that stops a pod reaches its command, whose status is the pod's; the vault is saved.
new_workspace main
docker run -d --name main --cap-drop ALL --tmpfs "$ram" -v /workspaces/main:/workspace \
    -v /test/tap.sh:/run/tap.sh:ro -v /test/passphrase:/run/passphrase:ro "$image" \
    sh -c 'trap "exit 41" TERM; while :; do sleep 1 & wait; done' >/dev/null
inside main <<'POD'
    ends 'a vault beside a command' 0 tazpod unlock --create --kdf-memory 8M --kdf-time 1 --passphrase-file /run/passphrase
    echo token >/run/tazpod/secrets/token
POD
ends 'docker stop' 0 docker stop main
is 'the pod ended as its command did' 'false 41' "$(exit_status main)"
docker start main >/dev/null
inside main <<'POD'
    ends 'unlock' 0 tazpod unlock --passphrase-file /run/passphrase
    is 'the token is back' token "$(cat /run/tazpod/secrets/token)"
POD
