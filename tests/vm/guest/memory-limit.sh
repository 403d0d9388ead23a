#!/bin/sh
# The vault's RAM counts to the memory limit. What fills it up to the limit is still saved by
# `docker stop`, with swap and without.
. ./fill.sh

plan 22
make_image
make_stream
too_small=yes
fill no-swap --memory-swap 64m --tmpfs "$ram"
fill swap --memory-swap 192m --tmpfs "$ram"
