#!/bin/sh
# search - what is on the swap device. To be sourced.

# search PATTERNS   In how many places one of them is, on the whole device. What is swapped out goes
# past the page cache, so that is emptied first. Between two zeros is a place.
search() {
    blockdev --flushbufs /dev/vdc
    LC_ALL=C grep -zacFf "$1" /dev/vdc || [ $? = 1 ]
}

# vault_of NAME   A workspace with the vault that was made outside, so that its content and its keys
# are known: "canary", which stands in each of 4,096 pages, and "keys". Each file holds patterns, one
# a line.
vault_of() {
    new_workspace "$1"
    install -d -m 0700 -o 1000 -g 1000 "/workspaces/$1/.tazpod"
    install -m 0600 -o 1000 -g 1000 vault.tpv "/workspaces/$1/.tazpod/"
}

# group_of POD   Its cgroup, and the number of its process 1.
group_of() { docker inspect --format '/sys/fs/cgroup/docker/{{.Id}} {{.State.Pid}}' "$1"; }
