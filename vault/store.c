#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"

enum { NAME_MAX_BESIDE = STORE_NAME_MAX + 48, CONFLICTS = 1000 };

static void beside(const struct store *s, const char *ending, char out[NAME_MAX_BESIDE])
{
    (void)snprintf(out, NAME_MAX_BESIDE, "%s.%s", s->name, ending);
}

int store_open(struct store *s, const char *path, int make, struct err *e)
{
    const char *slash = strrchr(path, '/');
    char dir[4096];
    size_t n = slash ? (size_t)(slash - path) : 0;

    memset(s, 0, sizeof *s);
    s->dir = s->lock = -1;
    if (!slash || slash[1] == '\0' || strlen(slash + 1) >= STORE_NAME_MAX || n >= sizeof dir)
        return err_set(e, ERR_NO_VAULT, "no-vault", "%.200s can't name a vault file", path);
    memcpy(s->name, slash + 1, strlen(slash + 1) + 1);
    memcpy(dir, path, n);
    dir[n] = '\0';
    if (n == 0)
        memcpy(dir, "/", 2);
    if (make && mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_set(e, ERR_CANT_CREATE, "cant-create", "can't make the directory %.200s: %s", dir,
                       strerror(errno));
    s->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0 && errno == ENOENT)
        return err_set(e, ERR_NO_VAULT, "no-vault", "there is no vault at %.200s: make one with --create",
                       path);
    if (s->dir < 0)
        return err_sys(e, "open %.200s", dir);
    return 0;
}

void store_close(struct store *s)
{
    if (s->lock >= 0)
        close(s->lock);
    if (s->dir >= 0)
        close(s->dir);
    s->dir = s->lock = -1;
}

int store_exists(struct store *s, struct err *e)
{
    struct stat sb;

    if (fstatat(s->dir, s->name, &sb, AT_SYMLINK_NOFOLLOW) == 0)
        return 1;
    return errno == ENOENT ? 0 : err_sys(e, "look for %s", s->name);
}

int store_read(struct store *s, uint64_t *size, struct err *e)
{
    struct stat sb;
    int fd = openat(s->dir, s->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        return err_set(e, ERR_NO_VAULT, "no-vault", "there is no vault %s: make one with --create", s->name);
    if (fd < 0 && errno == ELOOP)
        return err_set(e, ERR_DAMAGED, "not-a-vault", "%s is a symbolic link, not a vault", s->name);
    if (fd < 0)
        return err_sys(e, "open %s", s->name);
    if (fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode)) {
        close(fd);
        return err_set(e, ERR_DAMAGED, "not-a-vault", "%s is not a regular file", s->name);
    }
    *size = (uint64_t)sb.st_size;
    return fd;
}

/* Temporary files of saves that were killed. Only under the lock, so none is anybody's. */
static void sweep(struct store *s)
{
    char prefix[NAME_MAX_BESIDE];
    struct dirent *d;
    int fd = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (!dir) {
        if (fd >= 0)
            close(fd);
        return; /* litter is no reason not to save */
    }
    beside(s, "tmp-", prefix);
    while ((d = readdir(dir)))
        if (strncmp(d->d_name, prefix, strlen(prefix)) == 0)
            (void)unlinkat(s->dir, d->d_name, 0);
    closedir(dir);
}

int store_lock(struct store *s, struct err *e)
{
    char name[NAME_MAX_BESIDE];

    beside(s, "lock", name);
    s->lock = openat(s->dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (s->lock < 0)
        return err_sys(e, "open %s", name);
    if (flock(s->lock, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return err_set(e, ERR_BUSY, "busy", "another process is saving this vault: try again");
        return err_sys(e, "lock %s", name);
    }
    sweep(s);
    return 0;
}

/* A name for a new temporary file. */
static int temporary_name(struct store *s, char out[NAME_MAX_BESIDE], struct err *e)
{
    unsigned char r[8];
    char ending[32] = "tmp-";

    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        return err_sys(e, "random");
    for (size_t i = 0; i < sizeof r; i++)
        (void)snprintf(ending + 4 + 2 * i, 3, "%02x", r[i]);
    beside(s, ending, out);
    return 0;
}

int store_begin(struct store *s, struct err *e)
{
    int fd;

    if (temporary_name(s, s->tmp, e) < 0)
        return -1;
    fd = openat(s->dir, s->tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_sys(e, "make a new file beside %s", s->name);
        s->tmp[0] = '\0';
    }
    return fd;
}

/* The file in place, whole and durable under another name, where the file system has no links. */
static int copy_to(struct store *s, const char *name, struct err *e)
{
    char tmp[NAME_MAX_BESIDE], buf[65536];
    int from = -1, to = -1, rc = -1;
    ssize_t n;

    if (temporary_name(s, tmp, e) < 0)
        return -1;
    from = openat(s->dir, s->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0 && errno == ENOENT)
        return 0;
    if (from >= 0)
        to = openat(s->dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        goto failed;
    while ((n = io_read(from, buf, sizeof buf)) > 0)
        if (io_write(to, buf, (size_t)n) < 0)
            goto failed;
    if (n < 0 || fsync(to) < 0 || renameat(s->dir, tmp, s->dir, name) < 0)
        goto failed;
    rc = 0;
failed:
    if (rc < 0) {
        err_sys(e, "keep the earlier generation as %s", name);
        if (to >= 0)
            (void)unlinkat(s->dir, tmp, 0);
    }
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return rc;
}

/* The vault in place stands as .1 already: an earlier save was cut between link and rename. */
static int is_kept(struct store *s, const char *first)
{
    struct stat a, b;

    return fstatat(s->dir, s->name, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(s->dir, first, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* .4 becomes .5 and so on, up to the first gap: nothing is pushed out without need. */
static int rotate(struct store *s, struct err *e)
{
    char from[NAME_MAX_BESIDE], to[NAME_MAX_BESIDE], ending[12];
    struct stat sb;
    int last = 1;

    beside(s, "1", to);
    if (is_kept(s, to))
        return 0;

    for (; last < STORE_GENERATIONS; last++) {
        (void)snprintf(ending, sizeof ending, "%d", last);
        beside(s, ending, to);
        if (fstatat(s->dir, to, &sb, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
            break;
    }
    for (int i = last; i > 1; i--) {
        (void)snprintf(ending, sizeof ending, "%d", i - 1);
        beside(s, ending, from);
        (void)snprintf(ending, sizeof ending, "%d", i);
        beside(s, ending, to);
        if (renameat(s->dir, from, s->dir, to) < 0 && errno != ENOENT)
            return err_sys(e, "move %s on", from);
    }
    beside(s, "1", to);
    /* A place freed by a rename, or the fifth's own when a save was cut between the two. */
    if (unlinkat(s->dir, to, 0) < 0 && errno != ENOENT)
        return err_sys(e, "make room for %s", to);
    if (linkat(s->dir, s->name, s->dir, to, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS || errno == EMLINK)
        return copy_to(s, to, e);
    return err_sys(e, "keep the earlier generation as %s", to);
}

int store_commit(struct store *s, int fresh, struct err *e)
{
    if (fresh) {
        if (linkat(s->dir, s->tmp, s->dir, s->name, 0) < 0) {
            if (errno == EEXIST)
                return err_set(e, ERR_CANT_CREATE, "exists", "a vault is there already: %s", s->name);
            /* no links on this file system */
            if (syscall(SYS_renameat2, s->dir, s->tmp, s->dir, s->name, 1u /* RENAME_NOREPLACE */) < 0)
                return err_sys(e, "name the new vault %s", s->name);
        } else if (unlinkat(s->dir, s->tmp, 0) < 0) {
            return err_sys(e, "remove %s", s->tmp);
        }
    } else {
        if (rotate(s, e) < 0)
            return -1;
        if (renameat(s->dir, s->tmp, s->dir, s->name) < 0)
            return err_sys(e, "put the new vault in place");
    }
    s->tmp[0] = '\0';
    if (fsync(s->dir) < 0 && errno != EINVAL && errno != EOPNOTSUPP) /* some can't be asked to */
        return err_sys(e, "sync the vault's directory");
    return 0;
}

int store_conflict(struct store *s, uint64_t gen, struct err *e)
{
    char ending[48], name[NAME_MAX_BESIDE];
    int rc = -1;

    /* An earlier conflict of the same generation is somebody's only copy too. */
    for (int i = 0; rc < 0 && i < CONFLICTS; i++) {
        (void)snprintf(ending, sizeof ending, i ? "conflict-%llu-%d" : "conflict-%llu", (unsigned long long)gen, i);
        beside(s, ending, name);
        rc = (int)syscall(SYS_renameat2, s->dir, s->tmp, s->dir, name, 1u /* RENAME_NOREPLACE */);
        if (rc < 0 && errno != EEXIST)
            break;
    }
    if (rc < 0)
        return err_sys(e, "keep this vault as %s", name);
    s->tmp[0] = '\0';
    if (fsync(s->dir) < 0 && errno != EINVAL && errno != EOPNOTSUPP) /* some can't be asked to */
        return err_sys(e, "sync the vault's directory");
    return err_set(e, ERR_BUSY, "conflict",
                   "%s was changed by somebody else since this pod read it; what is in RAM was kept as %s",
                   s->name, name);
}

void store_abandon(struct store *s)
{
    if (s->tmp[0] != '\0')
        (void)unlinkat(s->dir, s->tmp, 0); /* the next save sweeps what this could not */
    s->tmp[0] = '\0';
}

int store_read_earlier(struct store *s, int place, uint64_t *size)
{
    char ending[12], name[NAME_MAX_BESIDE];
    struct stat sb;
    int fd;

    (void)snprintf(ending, sizeof ending, "%d", place);
    beside(s, ending, name);
    fd = openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode))) {
        close(fd);
        fd = -1;
    }
    if (fd >= 0)
        *size = (uint64_t)sb.st_size;
    return fd;
}

void store_drop_earlier(struct store *s)
{
    char ending[12], name[NAME_MAX_BESIDE];

    for (int i = 1; i <= STORE_PLACES; i++) {
        (void)snprintf(ending, sizeof ending, "%d", i);
        beside(s, ending, name);
        (void)unlinkat(s->dir, name, 0);
    }
    (void)fsync(s->dir);
}
