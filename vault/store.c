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

enum { NAME_MAX_BESIDE = STORE_NAME_MAX + 48 };

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

int store_begin(struct store *s, struct err *e)
{
    unsigned char r[8];
    char ending[32] = "tmp-";
    int fd;

    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        return err_sys(e, "random");
    for (size_t i = 0; i < sizeof r; i++)
        (void)snprintf(ending + 4 + 2 * i, 3, "%02x", r[i]);
    beside(s, ending, s->tmp);
    fd = openat(s->dir, s->tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_sys(e, "make a new file beside %s", s->name);
        s->tmp[0] = '\0';
    }
    return fd;
}

/* .4 becomes .5 and so on, up to the first gap: nothing is pushed out without need. */
static int rotate(struct store *s, struct err *e)
{
    char from[NAME_MAX_BESIDE], to[NAME_MAX_BESIDE], ending[12];
    struct stat sb;
    int last = 1;

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
    if (linkat(s->dir, s->name, s->dir, to, 0) < 0 && errno != ENOENT)
        return err_sys(e, "keep the earlier generation as %s", to);
    return 0;
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
    if (fsync(s->dir) < 0)
        return err_sys(e, "sync the vault's directory");
    return 0;
}

int store_conflict(struct store *s, uint64_t gen, struct err *e)
{
    char ending[40], name[NAME_MAX_BESIDE];

    (void)snprintf(ending, sizeof ending, "conflict-%llu", (unsigned long long)gen);
    beside(s, ending, name);
    if (renameat(s->dir, s->tmp, s->dir, name) < 0)
        return err_sys(e, "keep this vault as %s", name);
    s->tmp[0] = '\0';
    if (fsync(s->dir) < 0)
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
