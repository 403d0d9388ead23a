#!/bin/sh
# SYS_ADMIN under AppArmor's docker-default, which denies mount(2). Whether it denies move_mount
# too is the kernel's affair: 6.1 and older never ask, 6.12 does. Then process 1 goes on with the
# RAM it is given, and says what stood in its way and what would help.
. ./own.sh

# The line was not looked for between these two; Debian has no kernel there.
if ! linux_is_at_least 6 12; then
    plan 24
    make_image
    first_light own 'docker-default (enforce)'
    exit
fi

plan 29
make_image
first_light given 'docker-default (enforce)' --tmpfs "$ram"
for source in status log; do
    case $source in
        status) text=$(docker exec pod tazpod status | grep '^ram ') ;;
        log) text=$(docker logs pod 2>&1 | grep ' start ') ;;
    esac
    has "the $source names the profile" docker-default "$text"
    has "the $source names the option that helps" '--security-opt apparmor=unconfined' "$text"
done

new_workspace bare
# shellcheck disable=SC2086 # two words
pod bare bare $with_sys_admin >/dev/null
inside bare <<'POD'
    ends 'without RAM to fall back on there is no vault' 69 tazpod unlock --create --passphrase-file /run/passphrase
    has 'and the word is not-ram' '[not-ram]' "$printed"
    status=$(tazpod status)
    has 'status says that there is no RAM' none "$(printf '%s\n' "$status" | grep '^ram ')"
    has 'and names the profile' docker-default "$(printf '%s\n' "$status" | grep '^ram ')"
POD
