#!/bin/sh
# recipe - finishes the guest's root file system, from inside it (mmdebstrap runs this there).
#
# Leaves /boot/vmlinuz, /boot/initrd and /srv/pod, the content of the image that the pods of the
# stories run, but for the programs under test: those change, this does not.
set -eu

# --- the kernel ---

# Unpacked and not installed: its scripts would want a boot loader and make a large initrd. Not
# into the root at once: /lib is a link there, and a directory in the package.
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
mkdir /tmp/kernel
cd /tmp/kernel
apt-get -q download "$package"
dpkg-deb -x ./*.deb .
mv "$(find . -path '*lib/modules')" /lib/
mv boot/vmlinuz-* /boot/vmlinuz
cd /
rm -rf /tmp/kernel
version=$(ls /lib/modules)
depmod "$version"

# --- the initrd: just what it takes to find the disk ---

initrd=/tmp/initrd
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/modules" "$initrd/root"
cp /bin/busybox "$initrd/bin/"
{
    printf '#!/bin/busybox sh\n'
    printf '/bin/busybox mount -t devtmpfs dev /dev\n'
    for module in virtio_pci virtio_blk ext4; do
        modprobe --set-version "$version" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
        name=$(basename "$file" .xz)
        case $file in
            *.xz) busybox unxz -c "$file" >"$initrd/modules/$name" ;;
            *) cp "$file" "$initrd/modules/$name" ;;
        esac
        printf '/bin/busybox insmod /modules/%s\n' "$name"
    done
    # Process 1 comes on the second disk, so that a change in it does not make all this anew.
    cat <<'INIT'
/bin/busybox mount -t ext4 -o noatime /dev/vda /root
/bin/busybox tar -xf /dev/vdb -C /root/sbin ./init.sh
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /sbin/init.sh
INIT
} >"$initrd/init"
chmod 0755 "$initrd/init"
(cd "$initrd" && find . | busybox cpio -o -H newc >/boot/initrd)
rm -rf "$initrd"

# --- what is in a pod ---

pod=/srv/pod
mkdir -p "$pod/bin" "$pod/sbin" "$pod/usr/local/bin" "$pod/etc" "$pod/home" "$pod/proc" "$pod/sys" "$pod/dev"
install -d -m 1777 "$pod/tmp"
cp /bin/busybox "$pod/bin/"
for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$pod/bin/$applet"
done
# Debian's own beside busybox's: the shell that users have, and a dd of the usual size, which
# matters to the OOM killer.
for file in /bin/bash $(ldd /bin/bash /bin/dd | grep -o '/lib[^ :]*' | sort -u); do
    install -D "$file" "$pod$file"
done
install -D /bin/dd "$pod/usr/bin/dd"
printf 'root:x:0:0::/:/bin/sh\ntazpod:x:1000:1000::/home/tazpod:/bin/bash\n' >"$pod/etc/passwd"
printf 'root:x:0:\ntazpod:x:1000:\n' >"$pod/etc/group"
install -d -m 0700 -o 1000 -g 1000 "$pod/home/tazpod"
install -d -m 0755 -o 1000 -g 1000 "$pod/workspace"
install -d -m 0755 "$pod/run"
install -d -m 0700 -o 1000 -g 1000 "$pod/run/tazpod"
ln -s /run/tazpod/secrets/ "$pod/home/tazpod/secrets"
chown -h 1000:1000 "$pod/home/tazpod/secrets"

# The image of the disk is made before mmdebstrap would clean up.
apt-get clean
rm -rf /var/lib/apt/lists/*
