#!/bin/sh
# The same with a writer as small as process 1. With all that can be given back given back, the
# OOM killer compares page tables: those of process 1 must not be the larger ones.
. ./fill.sh

plan 10
make_image
make_stream
writer='busybox dd'
fill small-writer --memory-swap 64m --tmpfs "$ram"
