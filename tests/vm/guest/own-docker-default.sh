#!/bin/sh
# SYS_ADMIN under AppArmor's docker-default, which refuses mount(2). Linux 6.1 and older let the
# new mount calls through, 6.12 does not: then process 1 goes on with the RAM it is given, and
# says what stood in its way.
. ./own.sh

# The line was not looked for between these two; Debian has no kernel there.
if linux_is_at_least 6 12; then
    plan 19
    make_image
    first_light given --tmpfs "$ram"
    has 'status names the profile' docker-default "$(docker exec pod tazpod status)"
else
    plan 20
    make_image
    first_light own --tmpfs "$ram"
fi
