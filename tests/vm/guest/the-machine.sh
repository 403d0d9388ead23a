#!/bin/sh
# Whether the guest is what the other stories take it for.
#   the-machine.sh   with the kernel's version in the file "kernel"
set -eu
. ./tap.sh

plan 8
has 'the kernel is the one that was asked for' "$(cat kernel)." "$(uname -r)"
is 'cgroup 2 and nothing else' cgroup2fs "$(stat -f -c %T /sys/fs/cgroup)"
is 'AppArmor is on' Y "$(cat /sys/module/apparmor/parameters/enabled)"
has 'and knows the profile of the engine' 'docker-default (enforce)' "$(cat /sys/kernel/security/apparmor/profiles)"
has 'swap is on' /dev/vdc "$(cat /proc/swaps)"
is 'no network but the loop' lo "$(ls /sys/class/net)"
engine=$(docker info 2>&1)
has 'the engine works with cgroup 2' 'Cgroup Version: 2' "$engine"
case $engine in
    *'No swap limit'*) not_ok 'and can limit swap' "$engine" ;;
    *) ok 'and can limit swap' ;;
esac
