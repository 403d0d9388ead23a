#!/bin/sh
# pods - pods as the README starts them, for the stories. To be sourced.
# shellcheck disable=SC2034 # what it sets is for the stories
#
# The docker command takes a second here before it does anything. So what happens inside a pod
# is one script for one `docker exec`, which prints its checks itself.
set -eu
. ./tap.sh

image=tazpod/base
ram=/run/tazpod:size=64m,mode=0700,uid=1000,gid=1000

# Behind a story that came to its end nobody reads this; behind another one it often says why.
show_logs() {
    status=$?
    set +e
    for log in /var/lib/docker/containers/*/*-json.log; do
        [ ! -e "$log" ] || sed 's/^/# log: /' "$log"
    done
    dmesg | grep -E 'audit|Killed|oom-kill:|segfault|BUG|WARNING' | sed 's/^/# kernel: /'
    exit "$status"
}
trap show_logs EXIT

# /srv/pod has all but the programs. The file capabilities are those of the project's image, and
# docker import keeps what an archive carries of them.
make_image() {
    install -m 0711 tazpod-init /srv/pod/sbin/tazpod-init
    install -m 0711 tazpod /srv/pod/usr/local/bin/tazpod
    setcap cap_sys_admin,cap_sys_chroot=p /srv/pod/sbin/tazpod-init
    tar -C /srv/pod --xattrs --xattrs-include='security.*' -c . |
        docker import --change 'USER 1000' --change 'WORKDIR /workspace' \
            --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/home/tazpod' \
            --change 'ENTRYPOINT ["/sbin/tazpod-init", "--"]' - "$image" >/dev/null
}

# new_workspace NAME   A project's folder, which belongs to the pod's user.
new_workspace() {
    mkdir -p "/workspaces/$1"
    chown 1000:1000 "/workspaces/$1"
}

# pod NAME WORKSPACE OPTION...   Without the RAM, which the options name.
pod() {
    name=$1 workspace=$2
    shift 2
    docker run -d --name "$name" --cap-drop ALL -v "/workspaces/$workspace:/workspace" \
        -v /test/tap.sh:/run/tap.sh:ro -v /test/passphrase:/run/passphrase:ro "$@" "$image"
}

# inside POD [ARG...]   A script from standard input, run in a pod by the pod's user, once
# process 1 answers.
inside() {
    name=$1
    shift
    docker exec "$name" sh -eu -c '. /run/tap.sh
        tries=100
        until tazpod status >/dev/null 2>&1 || [ "$tries" = 0 ]; do
            tries=$((tries - 1))
            sleep 0.1
        done
        '"$(cat)" sh "$@"
}

# exit_status POD
exit_status() { docker inspect --format '{{.State.Running}} {{.State.ExitCode}}' "$1"; }

# linux_is_at_least MAJOR MINOR
linux_is_at_least() {
    uname -r | {
        IFS=.- read -r major minor _
        [ "$major" -gt "$1" ] || { [ "$major" = "$1" ] && [ "$minor" -ge "$2" ]; }
    }
}
