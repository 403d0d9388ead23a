#include "ram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "dir.h"
#include "log.h"
#include "wire.h"

enum {
    MAGIC_TMPFS = 0x01021994,
    NUMBERS = 1000, /* of .stale-N and .wiping-N */
    RENAME_EXCLUSIVE = 1, /* RENAME_NOREPLACE */
};
#define MAGIC_RAMFS 0x858458f6u

#define STALE ".stale-"
#define WIPING ".wiping-"

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

void ram_open(struct ram *r, const char *path, uid_t owner, gid_t group)
{
    struct statfs fs;
    struct stat sb;

    memset(r, 0, sizeof *r);
    r->path = path;
    r->owner = owner;
    r->group = group;
    r->dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r->dir < 0 || fstatfs(r->dir, &fs) < 0 || fstat(r->dir, &sb) < 0) {
        refuse(r, "bad-run-dir", "can't be used",
               errno == ENOENT   ? " (it does not exist)"
               : errno == EACCES ? " (it is somebody else's)"
                                 : "");
        return;
    }
    if ((unsigned long)fs.f_type != MAGIC_TMPFS && (unsigned long)fs.f_type != MAGIC_RAMFS) {
        refuse(r, "not-ram", "is not RAM but ", fs_name(&fs));
        return;
    }
    r->usable = true;
    if (sb.st_uid == 0 && owner != 0 && (sb.st_mode & S_ISVTX) && (sb.st_mode & 0007) == 0007)
        return;
    /* Docker brings mode=0700 back as 0755 after a restart, and a file system made by another
     * uid can be put right by root alone. */
    if ((sb.st_uid != owner && fchown(r->dir, owner, group) < 0) ||
        ((sb.st_mode & 07777) != 0700 && fchmod(r->dir, 0700) < 0))
        refuse(r, "bad-run-dir", "belongs to somebody else, or others may enter it, and that can't be changed",
               "");
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

/* Clear text that nobody unlocked: kept, but closed. */
static int set_one_aside(struct ram *r, const char *name)
{
    char to[32];
    struct line l;

    if (move_aside(r, name, STALE, to) < 0)
        return errno == ENOENT ? 0 : -1;
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
    if (set_one_aside(r, RAM_SECRETS) < 0 || set_one_aside(r, RAM_LOCKING) < 0)
        refuse(r, "bad-run-dir", "holds clear text that can't be moved aside", "");
}

void ram_sweep(struct ram *r)
{
    char to[32];

    if (!r->usable)
        return;
    (void)move_aside(r, RAM_STAGING, WIPING, to); /* none there: nothing to remove */
    while (ram_wipe_some(r, 1000) > 0)
        ;
}

int ram_stage(struct ram *r)
{
    int fd, rc = -1;
    char to[32];

    if (set_one_aside(r, RAM_SECRETS) < 0)
        return -1;
    if (move_aside(r, RAM_STAGING, WIPING, to) < 0 && errno != ENOENT)
        return -1;
    if (mkdirat(r->dir, RAM_STAGING, 0700) < 0)
        return -1;
    fd = openat(r->dir, RAM_STAGING, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    /* A Kubernetes volume hands its setgid bit on: put right with the mode. */
    if (fd >= 0 && fchmod(fd, 0700) == 0 && (r->owner == geteuid() || fchown(fd, r->owner, r->group) == 0))
        rc = 0;
    if (fd >= 0)
        close(fd);
    return rc;
}

int ram_publish(struct ram *r)
{
    struct stat sb;

    if (fstatat(r->dir, RAM_STAGING, &sb, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(sb.st_mode) ||
        rename_exclusive(r, RAM_STAGING, RAM_SECRETS) < 0)
        return -1;
    r->tree = sb.st_ino;
    return 0;
}

bool ram_is_ours(const struct ram *r)
{
    struct stat sb;

    return r->tree != 0 && fstatat(r->dir, RAM_SECRETS, &sb, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(sb.st_mode) && sb.st_ino == r->tree;
}

int ram_hide(struct ram *r)
{
    if (!ram_is_ours(r)) {
        errno = ENOENT;
        return -1;
    }
    return rename_exclusive(r, RAM_SECRETS, RAM_LOCKING);
}

int ram_unhide(struct ram *r)
{
    return rename_exclusive(r, RAM_LOCKING, RAM_SECRETS);
}

void ram_discard_staging(struct ram *r)
{
    char to[32];

    (void)move_aside(r, RAM_STAGING, WIPING, to); /* none there: nothing to discard */
}

void ram_discard_tree(struct ram *r)
{
    char to[32];

    (void)move_aside(r, RAM_LOCKING, WIPING, to);
    if (ram_is_ours(r))
        (void)move_aside(r, RAM_SECRETS, WIPING, to);
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
    if (w->sub < 0)
        return -1;
    (void)fchmod(w->sub, 0700); /* entries of a 0555 directory can't be deleted */
    rc = dir_each(w->sub, wipe_in_sub, w);
    close(w->sub);
    if (rc)
        return rc;
    return unlinkat(w->top, name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY ? -1 : 0;
}

struct wipe_all {
    const struct ram *r;
    int budget;
};

static int wipe_marked(void *ctx, const char *name)
{
    struct wipe_all *all = ctx;
    struct wipe w = {.budget = all->budget};
    int rc;

    if (strncmp(name, WIPING, sizeof WIPING - 1) != 0)
        return 0;
    if (unlinkat(all->r->dir, name, AT_REMOVEDIR) == 0 || unlinkat(all->r->dir, name, 0) == 0)
        return 0;
    w.top = open_dir(all->r->dir, name);
    if (w.top < 0)
        return -1;
    (void)fchmod(w.top, 0700);
    rc = dir_each(w.top, wipe_in_top, &w);
    close(w.top);
    all->budget = w.budget;
    if (rc)
        return rc;
    /* Directories moved up meanwhile may be left: then there is more to do. */
    if (unlinkat(all->r->dir, name, AT_REMOVEDIR) < 0)
        return errno == ENOTEMPTY && w.progress ? 1 : -1;
    return 0;
}

int ram_wipe_some(struct ram *r, int budget)
{
    struct wipe_all all = {r, budget};

    return dir_each(r->dir, wipe_marked, &all);
}
