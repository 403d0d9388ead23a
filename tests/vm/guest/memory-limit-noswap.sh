#!/bin/sh
# The same with RAM that can't be swapped, where the rest of the pod can: whatever process 1
# keeps in reserve must not be what is swapped out to make room for more of the tree. The volume
# is as large as the limit. From Linux 6.4 on.
. ./fill.sh

if ! linux_is_at_least 6 4; then
    plan 1
    ok 'no noswap before Linux 6.4'
    exit
fi
plan 10
make_image
make_stream
docker volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=64m,mode=0700,uid=1000,gid=1000,noswap ram >/dev/null
fill noswap --memory-swap 192m -v ram:/run/tazpod
