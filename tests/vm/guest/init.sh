#!/bin/sh
# init - process 1 of the guest: a Docker engine as on a user's machine, then one script.
#
# It talks to the host over the second serial line, in lines that begin with "@@"; everything
# else there is the script's output. Up to "@@ready" it has run once, when the machine was
# built; every run goes on from the saved state right behind it.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=/root
LC_ALL=C
export PATH HOME LC_ALL

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t securityfs securityfs /sys/kernel/security

# Held open: a line that nobody holds forgets its settings.
exec 3<>/dev/ttyS1
stty raw -echo <&3
say() { printf '@@%s\n' "$*" >&3; }
# Process 1 must not end before the power is off: that would be a panic.
power_off() {
    echo o >/proc/sysrq-trigger
    while :; do sleep 60; done
}
die() {
    tail -n 20 /var/log/dockerd.log >&3
    say "fault: $*"
    power_off
}
say booted

# The engine gets a cgroup below the root, as systemd would give it one: the root has no limits
# of its own, and from that the engine would conclude that swap can't be limited.
groups=/sys/fs/cgroup
mount -t cgroup2 cgroup2 "$groups"
read -r controllers <"$groups/cgroup.controllers"
for controller in $controllers; do
    echo "+$controller" >"$groups/cgroup.subtree_control"
done
mkdir "$groups/engine"

hostname vm
ip link set lo up
swapon /dev/vdc
modprobe overlay

# No bridge: no story is about networks, and each container would cost a pair of devices.
(
    read -r self _ </proc/self/stat
    echo "$self" >"$groups/engine/cgroup.procs"
    exec dockerd --storage-driver overlay2 --bridge none --iptables=false --ip6tables=false >/var/log/dockerd.log 2>&1 3>&-
) &

# The engine tells nobody when it is up.
tries=600
until docker version >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ "$tries" != 0 ] || die 'the engine does not answer'
    sleep 0.2
done
say engine

# The first container is the slow one: programs and modules come from the disk.
tar -C /srv/pod -c . | docker import - warm >/dev/null
docker run --rm warm /bin/true || die 'the first container did not run'
docker image rm warm >/dev/null
sync
# What the kernel says from here on is about the script.
dmesg --clear
say ready

# A byte may get lost while the saved state is loaded, so other lines may come before this one.
go=
while [ "$go" != go ]; do
    read -r go now script <&3
done

# Past the page cache: it may hold what was on this disk before.
mkdir /test
dd if=/dev/vdb bs=1M iflag=direct 2>/dev/null | tar -C /test -xf - 2>/dev/null
date -s "@$now" >/dev/null
cd /test || die 'no folder'
say begin
"./$script" </dev/null >&3 2>&1 3>&-
say "exit $?"
power_off
