#!/bin/sh
# The same with a mount of process 1's own, which leaves 48 MiB of the limit to others: it is full
# before memory is.
. ./fill.sh

plan 10
make_image
make_stream
fill own --memory-swap 112m -m 112m --cap-add SYS_ADMIN --security-opt apparmor=unconfined
