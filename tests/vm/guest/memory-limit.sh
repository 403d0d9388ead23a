#!/bin/sh
# The vault's RAM counts to the memory limit. What fills it up to the limit is still saved by
# `docker stop`, with swap and without.
. ./fill.sh

plan 21
make_image
make_stream

new_workspace refused
pod refused refused -m 64m --tmpfs "$ram" >/dev/null
inside refused <<'POD'
    ends 'a derivation that does not fit is refused' 71 tazpod unlock --create --passphrase-file /run/passphrase
POD
docker kill refused >/dev/null

fill no-swap --memory-swap 64m --tmpfs "$ram"
fill swap --memory-swap 192m --tmpfs "$ram"
