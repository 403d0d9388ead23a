#!/bin/sh
# SYS_ADMIN and no AppArmor profile: every kernel lets process 1 mount. No RAM is given, so that
# nothing but `own` can open a vault.
. ./own.sh

plan 24
make_image
first_light own unconfined --security-opt apparmor=unconfined
