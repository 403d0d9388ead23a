#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "caps.h"

/* From linux/mount.h, which musl does not bring; numbers are the same on every architecture. */
enum {
    NR_OPEN_TREE = 428,
    NR_MOVE_MOUNT = 429,
    NR_FSOPEN = 430,
    NR_FSCONFIG = 431,
    NR_FSMOUNT = 432,

    FSOPEN_CLOSES = 1,  /* FSOPEN_CLOEXEC */
    FSMOUNT_CLOSES = 1, /* FSMOUNT_CLOEXEC */
    SET_FLAG = 0,       /* FSCONFIG_SET_FLAG */
    SET_STRING = 1,     /* FSCONFIG_SET_STRING */
    CREATE = 6,         /* FSCONFIG_CMD_CREATE */
    ATTR_NOSUID = 2,
    ATTR_NODEV = 4,
    FROM_EMPTY_PATH = 4, /* MOVE_MOUNT_F_EMPTY_PATH */
};

static const char *decimal(uint64_t v, char buf[24])
{
    char *p = buf + 23;

    *p = '\0';
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    return p;
}

static int set_number(int fs, const char *key, uint64_t v)
{
    char buf[24];

    return (int)syscall(NR_FSCONFIG, fs, SET_STRING, key, decimal(v, buf), 0);
}

static int make(const struct mount_options *o, bool noswap)
{
    int fd = -1, saved, fs = (int)syscall(NR_FSOPEN, "tmpfs", FSOPEN_CLOSES);

    if (fs < 0)
        return -1;
    if (set_number(fs, "size", o->size) == 0 && set_number(fs, "nr_inodes", o->inodes) == 0 &&
        syscall(NR_FSCONFIG, fs, SET_STRING, "mode", "0700", 0) == 0 &&
        set_number(fs, "uid", o->owner) == 0 && set_number(fs, "gid", o->group) == 0 &&
        (!noswap || syscall(NR_FSCONFIG, fs, SET_FLAG, "noswap", NULL, 0) == 0) &&
        syscall(NR_FSCONFIG, fs, CREATE, NULL, NULL, 0) == 0)
        fd = (int)syscall(NR_FSMOUNT, fs, FSMOUNT_CLOSES, ATTR_NOSUID | ATTR_NODEV);
    saved = errno;
    close(fs);
    errno = saved;
    return fd;
}

int mount_make(const struct mount_options *o, bool *noswap)
{
    int fd;

    caps_raise();
    *noswap = true;
    fd = make(o, true);
    if (fd < 0 && (errno == EINVAL || errno == EPERM)) { /* an older kernel, or a user namespace */
        *noswap = false;
        fd = make(o, false);
    }
    caps_lower();
    return fd;
}

int mount_put(int fd, int at, const char *name)
{
    int rc;

    caps_raise();
    rc = (int)syscall(NR_MOVE_MOUNT, fd, "", at, name, FROM_EMPTY_PATH);
    caps_lower();
    return rc;
}

/* The new call alone: without a flag that asks for it, it follows no link at the end of either name.
 * mount(2) would. */
int mount_move(int at, const char *from, const char *to)
{
    int rc;

    caps_raise();
    rc = (int)syscall(NR_MOVE_MOUNT, at, from, at, to, 0);
    caps_lower();
    return rc;
}

/* There is no unmount that takes a descriptor, so the directory is entered for it. */
int mount_remove(int at, const char *name)
{
    int rc, saved;

    if (fchdir(at) < 0)
        return -1;
    caps_raise();
    rc = umount2(name, UMOUNT_NOFOLLOW);
    caps_lower();
    saved = errno;
    if (chdir("/") < 0) /* else it would hold the directory; it can't fail for who got there */
        return -1;
    errno = saved;
    return rc;
}
