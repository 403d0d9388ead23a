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

enum {
    NAME_MAX_BESIDE = STORE_NAME_MAX + 48,
    CONFLICTS = 1000,
    SALT_AT = 48, /* the file salt in a header: docs/vault-format.md */
    ALIKE = 112,  /* bytes of a header, salt included, that no two saves have in common */
};

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
    s->keep = STORE_GENERATIONS;
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
        return err_set(e, ERR_DAMAGED, "not-a-vault", "%s is a symbolic link, not a vault" ERR_SEE_HISTORY, s->name);
    if (fd < 0)
        return err_sys(e, "open %s", s->name);
    if (fstat(fd, &sb) < 0) {
        err_sys(e, "look at %s", s->name);
        close(fd);
        return -1;
    }
    if (!S_ISREG(sb.st_mode)) {
        close(fd);
        return err_set(e, ERR_DAMAGED, "not-a-vault", "%s is not a regular file" ERR_SEE_HISTORY, s->name);
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

/* The first bytes of a file beside the vault: how many, 0 also for what can't be read. */
static size_t first_bytes(struct store *s, const char *name, uint8_t *bytes, size_t size)
{
    int fd = openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : io_read_at(fd, bytes, size, 0);

    if (fd >= 0)
        close(fd);
    return n < 0 ? 0 : (size_t)n;
}

/* Written since the unlock, by this pod, or not; what can't be read, or is no vault, is neither. */
enum mark { MARK_UNKNOWN, MARK_THERE, MARK_OTHER };

static enum mark mark_of(struct store *s, const char *name)
{
    uint8_t bytes[SALT_AT + STORE_MARK];

    if (!s->has_mark || first_bytes(s, name, bytes, sizeof bytes) != sizeof bytes)
        return MARK_UNKNOWN;
    return memcmp(bytes + SALT_AT, s->mark, STORE_MARK) == 0 ? MARK_THERE : MARK_OTHER;
}

static int is_marked(struct store *s, const char *name)
{
    return mark_of(s, name) == MARK_THERE;
}

static void generation(const struct store *s, unsigned n, char out[NAME_MAX_BESIDE])
{
    char ending[12];

    (void)snprintf(ending, sizeof ending, "%u", n);
    beside(s, ending, out);
}

static int is_there(struct store *s, const char *name)
{
    struct stat sb;

    return fstatat(s->dir, name, &sb, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

void store_history(struct store *s, unsigned keep, const uint8_t *mark)
{
    char name[NAME_MAX_BESIDE];

    s->keep = keep == 0 ? STORE_GENERATIONS : keep > STORE_PLACES ? STORE_PLACES : keep;
    for (unsigned more = keep == 0; more && s->keep < STORE_PLACES; s->keep += more) {
        generation(s, s->keep + 1, name);
        more = is_there(s, name) != 0;
    }
    s->has_mark = mark != NULL;
    if (mark)
        memcpy(s->mark, mark, STORE_MARK);
}

size_t store_newest_kept(struct store *s, uint8_t *bytes, size_t size)
{
    char name[NAME_MAX_BESIDE];

    generation(s, 1, name);
    return first_bytes(s, name, bytes, size);
}

/* The vault in place stands as .1 already, linked or copied: an earlier save was cut between that and
 * its rename. */
static int is_kept(struct store *s, const char *first)
{
    uint8_t x[ALIKE], y[ALIKE];
    struct stat a, b;
    size_t n;

    if (fstatat(s->dir, s->name, &a, AT_SYMLINK_NOFOLLOW) < 0 || fstatat(s->dir, first, &b, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (a.st_ino == b.st_ino && a.st_dev == b.st_dev)
        return 1;
    n = a.st_size == b.st_size ? first_bytes(s, s->name, x, sizeof x) : 0;
    return n > 0 && first_bytes(s, first, y, sizeof y) == n && memcmp(x, y, n) == 0;
}

/* The place that the others move up to: the first gap, since nothing is pushed out without need, else
 * the last. What was found at the unlock stays until the next lock: when it has come to the last place,
 * and all others are later saves, the oldest of these goes. 0: there is no other place. */
static unsigned free_place(struct store *s)
{
    char name[NAME_MAX_BESIDE];
    unsigned n;

    for (n = 1; n < s->keep; n++) {
        generation(s, n, name);
        if (!is_there(s, name))
            return n;
    }
    generation(s, s->keep, name);
    if (mark_of(s, name) != MARK_OTHER || mark_of(s, s->name) == MARK_OTHER)
        return s->keep;
    for (n = 1; n < s->keep; n++) {
        generation(s, n, name);
        if (mark_of(s, name) == MARK_OTHER)
            return s->keep;
    }
    return s->keep - 1;
}

/* .4 becomes .5 and so on, then the vault in place becomes .1. */
static int rotate(struct store *s, struct err *e)
{
    char from[NAME_MAX_BESIDE], to[NAME_MAX_BESIDE];
    unsigned last;

    generation(s, 1, to);
    if (is_kept(s, to))
        return 0;
    last = free_place(s);
    if (last == 0)
        return 0;
    for (unsigned i = last; i > 1; i--) {
        generation(s, i - 1, from);
        generation(s, i, to);
        if (renameat(s->dir, from, s->dir, to) < 0 && errno != ENOENT)
            return err_sys(e, "move %s on", from);
    }
    generation(s, 1, to);
    /* A place freed by a rename, or the last's own when a save was cut between the two. */
    if (unlinkat(s->dir, to, 0) < 0 && errno != ENOENT)
        return err_sys(e, "make room for %s", to);
    if (linkat(s->dir, s->name, s->dir, to, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK)
        return err_sys(e, "keep the earlier generation as %s", to);
    s->links_refused = errno != EMLINK;
    return copy_to(s, to, e);
}

/* After a rename. Some can't be asked to. */
static int sync_directory(struct store *s, struct err *e)
{
    if (fsync(s->dir) < 0 && errno != EINVAL && errno != EOPNOTSUPP)
        return err_sys(e, "sync the vault's directory");
    return 0;
}

/* The temporary file gets a name that nobody has; -1 with errno, EEXIST if somebody has it. */
static int name_new(struct store *s, const char *name)
{
    int fd;

    if (syscall(SYS_renameat2, s->dir, s->tmp, s->dir, name, 1u /* RENAME_NOREPLACE */) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    /* A file system that knows no such rename: the name is taken first. */
    fd = openat(s->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    close(fd);
    return renameat(s->dir, s->tmp, s->dir, name);
}

static int commit_fresh(struct store *s, struct err *e)
{
    if (linkat(s->dir, s->tmp, s->dir, s->name, 0) == 0)
        return unlinkat(s->dir, s->tmp, 0) < 0 ? err_sys(e, "remove %s", s->tmp) : 0;
    if (errno != EEXIST && name_new(s, s->name) == 0) { /* no links on this file system */
        s->links_refused = 1;
        return 0;
    }
    if (errno == EEXIST)
        return err_set(e, ERR_CANT_CREATE, "exists", "a vault is there already: %s", s->name);
    return err_sys(e, "name the new vault %s", s->name);
}

static int commit_over(struct store *s, int how, struct err *e)
{
    if (!((how & STORE_REPLACE) && is_marked(s, s->name)) && rotate(s, e) < 0)
        return -1;
    /* The other name may be all that is left of the earlier generation: it is durable first. */
    if (s->links_refused && sync_directory(s, e) < 0)
        return -1;
    return renameat(s->dir, s->tmp, s->dir, s->name) < 0 ? err_sys(e, "put the new vault in place") : 0;
}

int store_commit(struct store *s, int how, struct err *e)
{
    s->links_refused = 0;
    if ((how & STORE_FRESH ? commit_fresh(s, e) : commit_over(s, how, e)) < 0)
        return -1;
    s->tmp[0] = '\0';
    return sync_directory(s, e);
}

int store_conflict(struct store *s, uint64_t gen, struct err *e)
{
    char ending[48], name[NAME_MAX_BESIDE];
    int rc = -1;

    /* An earlier conflict of the same generation is somebody's only copy too, unless it is an earlier
     * copy of this one. */
    for (int i = 0; rc < 0 && i < CONFLICTS; i++) {
        (void)snprintf(ending, sizeof ending, i ? "conflict-%llu-%d" : "conflict-%llu", (unsigned long long)gen, i);
        beside(s, ending, name);
        rc = is_marked(s, name) ? renameat(s->dir, s->tmp, s->dir, name) : name_new(s, name);
        if (rc < 0 && errno != EEXIST)
            break;
    }
    if (rc < 0)
        return err_sys(e, "keep this vault as %s", name);
    s->tmp[0] = '\0';
    if (sync_directory(s, e) < 0)
        return -1;
    return err_set(e, ERR_BUSY, "conflict",
                   "%s was changed by somebody else since this pod read it; what is in RAM was kept as %s "
                   "(see CONFLICTS in tazpod(1))",
                   s->name, name);
}

size_t store_get(struct store *s, const char *ending, void *bytes, size_t size)
{
    char name[NAME_MAX_BESIDE];

    beside(s, ending, name);
    return first_bytes(s, name, bytes, size);
}

void store_put(struct store *s, const char *ending, const void *bytes, size_t len)
{
    char name[NAME_MAX_BESIDE], tmp[NAME_MAX_BESIDE];
    struct err ignored;
    int fd, rc;

    beside(s, ending, name);
    if (temporary_name(s, tmp, &ignored) < 0)
        return;
    fd = openat(s->dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    rc = io_write(fd, bytes, len);
    close(fd);
    if (rc < 0 || renameat(s->dir, tmp, s->dir, name) < 0)
        (void)unlinkat(s->dir, tmp, 0);
}

int store_overwrite(struct store *s, const char *ending, const void *bytes, size_t len)
{
    char name[NAME_MAX_BESIDE];
    struct stat sb;
    int fd, rc = -1;

    beside(s, ending, name);
    fd = openat(s->dir, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -1;
    /* With another name it is somebody's backup too. */
    if (fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) && sb.st_nlink == 1 && sb.st_size == (off_t)len)
        rc = io_write(fd, bytes, len);
    close(fd);
    return rc;
}

void store_append(struct store *s, const char *ending, const void *bytes, size_t len)
{
    char name[NAME_MAX_BESIDE];
    int fd;

    beside(s, ending, name);
    fd = openat(s->dir, name, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)io_write(fd, bytes, len);
    close(fd);
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
