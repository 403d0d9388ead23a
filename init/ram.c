#include "ram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "caps.h"
#include "dir.h"
#include "log.h"
#include "mount.h"
#include "wire.h"

enum {
    MAGIC_TMPFS = 0x01021994,
    RAM_SIZE = 64 * 1024 * 1024,
    RAM_INODES = 131072, /* twice the entries a vault may hold */
    NUMBERS = 1000, /* of .stale-N and .wiping-N */
    RENAME_EXCLUSIVE = 1, /* RENAME_NOREPLACE */
};
#define MAGIC_RAMFS 0x858458f6u

#define SECRETS "secrets"
#define STAGING ".staging"
#define LOCKING ".locking"
#define STALE ".stale-"
#define WIPING ".wiping-"
#define PROBE ".probe"
#define PROBE_MOVED ".probe-moved"
#define BUSY ".busy-"

/* --- checking the place --- */

static const char *fs_name(const struct statfs *fs)
{
    switch ((unsigned long)fs->f_type) {
    case 0x794c7630: return "overlay";
    case 0xef53: return "ext4";
    case 0x58465342: return "xfs";
    case 0x9123683e: return "btrfs";
    default: return "a disk";
    }
}

static void refuse(struct ram *r, const char *word, const char *why, const char *what)
{
    char text[WIRE_TEXT_MAX];
    size_t n = 0;
    const char *parts[] = {r->path, " ", why, what,
                           ": add --tmpfs /run/tazpod:size=64m,mode=0700,uid=1000,gid=1000 (with the "
                           "pod's own uid) to the run command"};

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t len = strlen(parts[i]);

        if (len > sizeof text - 1 - n)
            len = sizeof text - 1 - n;
        memcpy(text + n, parts[i], len);
        n += len;
    }
    text[n] = '\0';
    r->usable = false;
    wire_error_set(&r->problem, EX_TP_UNAVAILABLE, word, text);
}

static int join(char *out, const char *dir, const char *name)
{
    size_t n = strlen(dir), m = strlen(name);

    if (n + 1 + m >= WIRE_PATH_MAX)
        return -1;
    memcpy(out, dir, n);
    out[n] = '/';
    memcpy(out + n + 1, name, m + 1);
    return 0;
}

static void because(struct ram *r, const char *why, const char *what)
{
    size_t n = strlen(why), m = strlen(what);

    if (n > sizeof r->why - 1)
        n = sizeof r->why - 1;
    if (m > sizeof r->why - 1 - n)
        m = sizeof r->why - 1 - n;
    memcpy(r->why, why, n);
    memcpy(r->why + n, what, m);
    r->why[n + m] = '\0';
}

/* The AppArmor profile this process runs under, "docker-default (enforce)", or "". */
static void profile(char *out, size_t size)
{
    int fd = open("/proc/self/attr/current", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);

    if (fd >= 0)
        close(fd);
    if (n < 0)
        n = 0;
    while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == '\0'))
        n--;
    out[n] = '\0';
}

/* Makes a small tmpfs, moves it into place and takes it away: the only way to know, since a
 * security module decides at the move. */
static bool can_mount(struct ram *r)
{
    struct mount_options o = {1 << 20, 16, r->owner, r->group};
    char name[64];
    bool ok = false;
    int fd, saved;

    if (!caps_may_mount()) {
        because(r, caps_missing(), "");
        return false;
    }
    if ((mkdirat(r->dir, PROBE, 0700) < 0 && errno != EEXIST) ||
        (mkdirat(r->dir, PROBE_MOVED, 0700) < 0 && errno != EEXIST)) {
        because(r, "nothing can be made in the run directory", "");
        return false;
    }
    fd = mount_make(&o, &r->noswap);
    ok = fd >= 0 && mount_put(fd, r->dir, PROBE) == 0;
    saved = errno;
    if (fd >= 0)
        close(fd); /* it would keep the mount busy */
    if (ok && mount_move(r->dir, PROBE, PROBE_MOVED) < 0) { /* as a lock does it */
        saved = errno;
        ok = false;
        (void)mount_remove(r->dir, PROBE);
    } else if (ok && mount_remove(r->dir, PROBE_MOVED) < 0) {
        saved = errno;
        ok = false;
    }
    (void)unlinkat(r->dir, PROBE, AT_REMOVEDIR);
    (void)unlinkat(r->dir, PROBE_MOVED, AT_REMOVEDIR);
    if (ok)
        return true;
    profile(name, sizeof name);
    if (saved == EACCES && name[0])
        because(r, "mounts are denied (--security-opt apparmor=unconfined allows them) by the AppArmor profile ",
                name);
    else
        because(r,
                saved == EACCES   ? "a security module denies mounts"
                : saved == EINVAL ? "mounts can't be moved below the run directory (its own mount is shared)"
                                  : "the kernel or the engine's filter denies mounts",
                "");
    return false;
}

static bool is_ram(const struct statfs *fs)
{
    return (unsigned long)fs->f_type == MAGIC_TMPFS || (unsigned long)fs->f_type == MAGIC_RAMFS;
}

/* The place is ours and closed to others, or made so. */
static bool is_private(struct ram *r, const struct stat *sb)
{
    if (sb->st_uid == 0 && r->owner != 0 && (sb->st_mode & S_ISVTX) && (sb->st_mode & 0007) == 0007)
        return true;
    /* Docker brings mode=0700 back as 0755 after a restart, and a file system made by another
     * uid can be put right by root alone. */
    return (sb->st_uid == r->owner || fchown(r->dir, r->owner, r->group) == 0) &&
           ((sb->st_mode & 07777) == 0700 || fchmod(r->dir, 0700) == 0);
}

static void choose(struct ram *r, enum ram_backend wish)
{
    struct statfs fs;

    r->wish = wish;
    r->why[0] = '\0';
    r->usable = true;
    wire_error_set(&r->problem, 0, "", "");
    r->own = wish != BACKEND_GIVEN && can_mount(r);
    if (wish == BACKEND_OWN && !r->own)
        refuse(r, "no-mount", "can't get a tmpfs of its own: ", r->why);
    else if (!r->own && (fstatfs(r->dir, &fs) < 0 || !is_ram(&fs)))
        refuse(r, "not-ram", "is not RAM but ", fs_name(&fs));
}

void ram_open(struct ram *r, const char *path, uid_t owner, gid_t group, enum ram_backend wish)
{
    struct statfs fs;
    struct stat sb;

    memset(r, 0, sizeof *r);
    r->path = path;
    r->owner = owner;
    r->group = group;
    r->made = -1;
    r->size = RAM_SIZE;
    r->dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r->dir < 0 || fstat(r->dir, &sb) < 0 ||
        join(r->secrets, path, SECRETS) < 0) {
        refuse(r, "bad-run-dir", "can't be used",
               errno == ENOENT   ? " (it does not exist)"
               : errno == EACCES ? " (it is somebody else's)"
                                 : "");
        return;
    }
    r->usable = true;
    /* A directory that can't be used in any case is not touched: it may be there by mistake. */
    if ((wish == BACKEND_GIVEN || !caps_may_mount()) && (fstatfs(r->dir, &fs) < 0 || !is_ram(&fs))) {
        choose(r, wish);
        return;
    }
    if (!is_private(r, &sb)) {
        refuse(r, "bad-run-dir", "belongs to somebody else, or others may enter it, and that can't be changed",
               "");
        return;
    }
    r->private = true;
    if (wish == BACKEND_GIVEN || !caps_may_mount())
        choose(r, wish);
    else
        r->wish = BACKEND_UNDECIDED;
}

void ram_choose(struct ram *r, enum ram_backend wish)
{
    if (r->private && wish != r->wish && !r->tree && r->made < 0)
        choose(r, wish);
}

/* --- moving trees --- */

/* out: prefix and up to ten digits. */
static void with_number(char *out, const char *prefix, unsigned n)
{
    size_t len = strlen(prefix), digits = 1;

    memcpy(out, prefix, len);
    for (unsigned rest = n; rest >= 10; rest /= 10)
        digits++;
    out[len + digits] = '\0';
    for (; digits > 0; digits--, n /= 10)
        out[len + digits - 1] = (char)('0' + n % 10);
}

static int rename_exclusive(const struct ram *r, const char *from, const char *to)
{
    return (int)syscall(SYS_renameat2, r->dir, from, r->dir, to, RENAME_EXCLUSIVE);
}

/* To the first free PREFIXn. */
static int move_aside(const struct ram *r, const char *from, const char *prefix, char *to)
{
    for (unsigned n = 0; n < NUMBERS; n++) {
        with_number(to, prefix, n);
        if (rename_exclusive(r, from, to) == 0)
            return 0;
        if (errno != EEXIST)
            return -1;
    }
    return -1;
}

/* A mount that an earlier tazpod-init left, where the mount namespace outlived it. */
static int move_mount_aside(struct ram *r, const char *name, char *to)
{
    for (unsigned n = 0; n < NUMBERS; n++) {
        with_number(to, STALE, n);
        if (mkdirat(r->dir, to, 0) < 0 && errno == EEXIST)
            continue;
        if (mount_move(r->dir, name, to) < 0) {
            (void)unlinkat(r->dir, to, AT_REMOVEDIR);
            return -1;
        }
        return unlinkat(r->dir, name, AT_REMOVEDIR);
    }
    return -1;
}

/* Sets the mode of what stands there itself, whatever anybody puts in its place meanwhile: a link is
 * left alone, and so is what it points to. */
static void set_mode(int at, const char *name, mode_t mode)
{
    char path[40];
    struct stat sb;
    int fd = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return;
    with_number(path, "/proc/self/fd/", (unsigned)fd);
    if (fstat(fd, &sb) == 0 && !S_ISLNK(sb.st_mode))
        (void)chmod(path, mode);
    close(fd);
}

/* Clear text that nobody unlocked: kept, but closed. An empty directory holds none. */
static int set_one_aside(struct ram *r, const char *name)
{
    char to[32];
    struct line l;

    if (unlinkat(r->dir, name, AT_REMOVEDIR) == 0)
        return 0;
    if (move_aside(r, name, STALE, to) < 0) {
        if (errno == ENOENT)
            return 0;
        if (errno != EBUSY || move_mount_aside(r, name, to) < 0)
            return -1;
    }
    set_mode(r->dir, to, 0);
    line_start(&l, "stale");
    line_text(&l, "found", name);
    line_text(&l, "kept", to);
    line_end(&l);
    return 0;
}

static int count_stale(void *ctx, const char *name)
{
    *(uint32_t *)ctx += strncmp(name, STALE, sizeof STALE - 1) == 0;
    return 0;
}

uint32_t ram_stale(const struct ram *r)
{
    uint32_t n = 0;

    if (r->usable)
        (void)dir_each(r->dir, count_stale, &n);
    return n;
}

void ram_set_aside(struct ram *r)
{
    if (!r->usable)
        return;
    if (set_one_aside(r, SECRETS) < 0 || set_one_aside(r, LOCKING) < 0)
        refuse(r, "bad-run-dir", "holds clear text that can't be moved aside", "");
}

static bool tree_is_there(const struct ram *r)
{
    int fd = ram_tree(r);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

bool ram_resume(struct ram *r, const char *path)
{
    r->path = path;
    r->made = -1; /* its descriptor is closed: the mount was in no namespace and went with it */
    if (!r->usable || !r->tree)
        return false;
    if (tree_is_there(r))
        return true;
    r->hidden = !r->hidden;
    if (tree_is_there(r))
        return true;
    r->hidden = false;
    return false;
}

static int remove_busy(void *ctx, const char *name)
{
    const struct ram *r = ctx;

    if (strncmp(name, BUSY, sizeof BUSY - 1) == 0) {
        (void)mount_remove(r->dir, name);           /* none there: it went with its namespace */
        (void)unlinkat(r->dir, name, AT_REMOVEDIR); /* still there: it is still held */
    }
    return 0;
}

void ram_sweep(struct ram *r)
{
    char to[32];

    if (!r->usable)
        return;
    if (r->own)
        (void)dir_each(r->dir, remove_busy, r);
    (void)move_aside(r, STAGING, WIPING, to); /* none there: nothing to remove */
    for (int n = 0; n < 200 && ram_wipe_some(r, 1000) > 0; n++) /* bounded, whoever writes there */
        ;
}

static int stage_directory(struct ram *r)
{
    char to[32];
    int fd;

    if (move_aside(r, STAGING, WIPING, to) < 0 && errno != ENOENT)
        return -1;
    if (mkdirat(r->dir, STAGING, 0700) < 0)
        return -1;
    fd = openat(r->dir, STAGING, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    /* A Kubernetes volume hands its setgid bit on: put right with the mode. */
    if (fd >= 0 && (fchmod(fd, 0700) < 0 || (r->owner != geteuid() && fchown(fd, r->owner, r->group) < 0))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

int ram_stage(struct ram *r)
{
    struct mount_options o = {r->size, RAM_INODES, r->owner, r->group};

    if (set_one_aside(r, SECRETS) < 0)
        return -1;
    if (!r->own)
        return stage_directory(r);
    ram_sweep(r);
    r->made = mount_make(&o, &r->noswap);
    return r->made < 0 ? -1 : openat(r->made, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int publish_mount(struct ram *r)
{
    int rc;

    /* Mode 0: in the moment before the mount is there nothing can be written beneath it. */
    if (mkdirat(r->dir, SECRETS, 0) < 0)
        return -1;
    rc = mount_put(r->made, r->dir, SECRETS);
    if (rc < 0) {
        int saved = errno;
        (void)unlinkat(r->dir, SECRETS, AT_REMOVEDIR);
        errno = saved;
    }
    close(r->made); /* it would keep the mount busy */
    r->made = -1;
    return rc;
}

static int publish_directory(struct ram *r)
{
    struct stat sb;

    if (fstatat(r->dir, STAGING, &sb, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    if (!S_ISDIR(sb.st_mode)) {
        errno = ENOTDIR;
        return -1;
    }
    return rename_exclusive(r, STAGING, SECRETS);
}

int ram_publish(struct ram *r)
{
    struct stat sb;

    if ((r->own ? publish_mount(r) : publish_directory(r)) < 0 ||
        fstatat(r->dir, SECRETS, &sb, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    r->tree = sb.st_ino;
    r->tree_dev = sb.st_dev;
    r->hidden = r->wipe_mount = false;
    return 0;
}

int ram_tree(const struct ram *r)
{
    int fd = openat(r->dir, r->hidden ? LOCKING : SECRETS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat sb;

    if (fd < 0)
        return -1;
    if (r->tree == 0 || fstat(fd, &sb) < 0 || sb.st_ino != r->tree || sb.st_dev != r->tree_dev) {
        close(fd);
        errno = ENOENT;
        return -1;
    }
    return fd;
}

static int move_tree(struct ram *r, const char *from, const char *to)
{
    int fd;

    if (!r->own)
        return rename_exclusive(r, from, to);
    fd = ram_tree(r); /* only ever our own mount */
    if (fd < 0)
        return -1;
    close(fd);
    if (mkdirat(r->dir, to, 0) < 0)
        return -1;
    if (mount_move(r->dir, from, to) < 0) {
        int saved = errno;
        (void)unlinkat(r->dir, to, AT_REMOVEDIR);
        errno = saved;
        return -1;
    }
    (void)unlinkat(r->dir, from, AT_REMOVEDIR); /* it has moved, whatever its old place is now */
    return 0;
}

int ram_hide(struct ram *r)
{
    int fd = ram_tree(r);

    if (fd < 0)
        return -1;
    close(fd);
    if (move_tree(r, SECRETS, LOCKING) < 0)
        return -1;
    r->hidden = true;
    return 0;
}

int ram_unhide(struct ram *r)
{
    int rc;

    if (!r->hidden)
        return -1;
    rc = move_tree(r, LOCKING, SECRETS);
    if (rc < 0 && errno == EEXIST && set_one_aside(r, SECRETS) == 0) /* somebody took the place meanwhile */
        rc = move_tree(r, LOCKING, SECRETS);
    if (rc < 0)
        return -1;
    r->hidden = false;
    return 0;
}

void ram_discard_staging(struct ram *r)
{
    char to[32];

    if (r->made >= 0)
        close(r->made); /* it was in no namespace: it goes with its last descriptor */
    r->made = -1;
    (void)move_aside(r, STAGING, WIPING, to); /* none there: nothing to discard */
}

void ram_discard_tree(struct ram *r)
{
    int fd = ram_tree(r);
    char to[32];

    if (fd < 0)
        return;
    close(fd);
    if (r->own)
        r->wipe_mount = true;
    else
        (void)move_aside(r, r->hidden ? LOCKING : SECRETS, WIPING, to);
    if (!r->own)
        r->tree = 0;
}

/* --- deleting --- */

/* A tree of any depth is deleted without recursion and with three descriptors: each directory's
 * own directories are moved up to the top before it is removed. */
struct wipe {
    int top;      /* the marked tree */
    int sub;      /* the directory in work below it */
    int budget;
    unsigned serial; /* for names that are free at the top */
    bool progress;   /* something went, so another pass makes sense */
};

static int open_dir(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 && errno == EACCES) {
        set_mode(at, name, 0700);
        fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    return fd;
}

static int wipe_in_sub(void *ctx, const char *name)
{
    struct wipe *w = ctx;
    char to[32];

    if (w->budget-- <= 0)
        return 1;
    if (unlinkat(w->sub, name, 0) == 0 || unlinkat(w->sub, name, AT_REMOVEDIR) == 0) {
        w->progress = true;
        return 0;
    }
    /* Moving a directory rewrites its "..", which needs write permission on it. */
    set_mode(w->sub, name, 0700);
    for (;;) {
        with_number(to, "d", w->serial++);
        if (syscall(SYS_renameat2, w->sub, name, w->top, to, RENAME_EXCLUSIVE) == 0)
            w->progress = true;
        else if (errno == EEXIST)
            continue;
        return 0;
    }
}

static int any_entry(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return 1;
}

static int wipe_in_top(void *ctx, const char *name)
{
    struct wipe *w = ctx;
    int rc;

    if (w->budget-- <= 0)
        return 1;
    if (unlinkat(w->top, name, 0) == 0 || unlinkat(w->top, name, AT_REMOVEDIR) == 0) {
        w->progress = true;
        return 0;
    }
    w->sub = open_dir(w->top, name);
    if (w->sub < 0) /* somebody else's: the rest goes all the same, and what stays is reported */
        return 0;
    (void)fchmod(w->sub, 0700); /* entries of a 0555 directory can't be deleted */
    rc = dir_each(w->sub, wipe_in_sub, w);
    close(w->sub);
    if (rc)
        return rc;
    return unlinkat(w->top, name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY ? -1 : 0;
}

/* One pass over a marked tree. 1: more to do, 0: it is empty, -1: something can't be deleted. */
static int wipe_pass(int top, int *budget)
{
    struct wipe w = {.top = top, .budget = *budget};
    int rc;

    (void)fchmod(top, 0700); /* entries of a 0555 directory can't be deleted */
    rc = dir_each(top, wipe_in_top, &w);
    *budget = w.budget;
    if (rc > 0 && !w.progress) /* nothing but what can't be deleted, and a budget's worth of it */
        rc = -1;
    if (rc)
        return rc;
    rc = dir_each(top, any_entry, NULL);
    /* Directories moved up meanwhile may be left: then there is more to do. */
    return rc > 0 && !w.progress ? -1 : rc;
}

struct wipe_all {
    const struct ram *r;
    int budget;
};

static int wipe_marked(void *ctx, const char *name)
{
    struct wipe_all *all = ctx;
    int top, rc;

    if (strncmp(name, WIPING, sizeof WIPING - 1) != 0)
        return 0;
    if (unlinkat(all->r->dir, name, AT_REMOVEDIR) == 0 || unlinkat(all->r->dir, name, 0) == 0)
        return 0;
    top = open_dir(all->r->dir, name);
    if (top < 0)
        return -1;
    rc = wipe_pass(top, &all->budget);
    close(top);
    return rc ? rc : unlinkat(all->r->dir, name, AT_REMOVEDIR);
}

/* An empty mount that somebody still holds, as with a directory he stands in, must not be in the way
 * of the next unlock: it is moved aside, and unmounted when he has let go. */
static int put_off(struct ram *r, const char *name)
{
    char to[32];

    for (unsigned n = 0; n < NUMBERS; n++) {
        with_number(to, BUSY, n);
        if (mkdirat(r->dir, to, 0) == 0)
            return mount_move(r->dir, name, to) < 0 ? -1 : unlinkat(r->dir, name, AT_REMOVEDIR);
    }
    return -1;
}

/* Every entry goes before the mount does: a process that unshared its mount namespace keeps a copy
 * of the mount that no unmount reaches. */
static int wipe_mount(struct ram *r, int budget)
{
    const char *name = r->hidden ? LOCKING : SECRETS;
    int top = ram_tree(r), rc;

    if (top < 0)
        return -1;
    rc = wipe_pass(top, &budget);
    close(top);
    if (rc > 0)
        return rc;
    /* What can't be deleted, being somebody else's, goes with the mount all the same. */
    r->wipe_mount = false;
    r->tree = 0;
    if (mount_remove(r->dir, name) == 0)
        return unlinkat(r->dir, name, AT_REMOVEDIR);
    if (errno != EBUSY || put_off(r, name) < 0)
        return -1;
    return rc;
}

int ram_wipe_some(struct ram *r, int budget)
{
    struct wipe_all all = {r, budget};

    if (r->wipe_mount)
        return wipe_mount(r, budget);
    return dir_each(r->dir, wipe_marked, &all);
}
