#include "holders.h"

#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/io.h"

enum {
    SOCKETS = 256,
    PATH = 4096,
    THREADS = 64, /* of one process, looked at: nearly all share their leader's files */
    DEPTH = 200,  /* of directories: fewer than a worker may have descriptors */
};

/* What a process can be found to be. */
enum { UNSEEN = -1, FREE = 0, HELD = 1 };

struct look {
    struct holders *h;
    int tree;
    dev_t dev;
    int whole;
    char path[PATH]; /* of the tree, as /proc shows it */
    size_t path_len;
    struct {
        uint32_t number, file; /* inodes: of the socket, and of its name */
    } sockets[SOCKETS]; /* bound in its file system */
    size_t nsockets;
};

/* --- bound sockets --- */

/* The kernel's own number of a device, as sock_diag tells it. */
static uint32_t kernel_dev(dev_t dev)
{
    return (uint32_t)(major(dev) << 20 | minor(dev));
}

static void take_socket(struct look *l, const struct nlmsghdr *m)
{
    const struct unix_diag_msg *d = NLMSG_DATA(m);
    size_t left = m->nlmsg_len - NLMSG_LENGTH(sizeof *d);
    const struct nlattr *a = (const struct nlattr *)(const void *)(d + 1);

    for (; left >= sizeof *a && a->nla_len >= sizeof *a && a->nla_len <= left;
         left -= NLMSG_ALIGN(a->nla_len) < left ? NLMSG_ALIGN(a->nla_len) : left,
         a = (const struct nlattr *)(const void *)((const char *)a + NLMSG_ALIGN(a->nla_len))) {
        struct unix_diag_vfs vfs;

        if (a->nla_type != UNIX_DIAG_VFS || a->nla_len < sizeof *a + sizeof vfs)
            continue;
        memcpy(&vfs, a + 1, sizeof vfs);
        if (vfs.udiag_vfs_dev == kernel_dev(l->dev) && l->nsockets < SOCKETS) {
            l->sockets[l->nsockets].number = d->udiag_ino;
            l->sockets[l->nsockets++].file = vfs.udiag_vfs_ino;
        }
    }
}

/* Where the kernel does not answer, sockets are not seen; their files are deleted like any other. */
static void find_sockets(struct look *l)
{
    static _Alignas(struct nlmsghdr) char buf[16384];
    struct {
        struct nlmsghdr head;
        struct unix_diag_req body;
    } ask = {
        {.nlmsg_len = sizeof ask, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        {.sdiag_family = AF_UNIX, .udiag_states = ~0u, .udiag_show = UDIAG_SHOW_VFS},
    };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    ssize_t n;

    if (fd < 0)
        return;
    if (send(fd, &ask, sizeof ask, 0) != (ssize_t)sizeof ask)
        goto out;
    while ((n = recv(fd, buf, sizeof buf, 0)) > 0) {
        size_t left = (size_t)n;

        for (const struct nlmsghdr *m = (const struct nlmsghdr *)(void *)buf; NLMSG_OK(m, left);
             m = NLMSG_NEXT(m, left)) {
            if (m->nlmsg_type != SOCK_DIAG_BY_FAMILY)
                goto out; /* the end, or an error */
            if (m->nlmsg_len >= NLMSG_LENGTH(sizeof(struct unix_diag_msg)))
                take_socket(l, m);
        }
    }
out:
    close(fd);
}

/* Is the name of a bound socket below the directory? What can't be opened is not looked into: a socket
 * has no content that could be lost. */
static int has_socket(int at, const char *name, uint32_t file, int depth)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), found = 0;
    struct dirent *d;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (!dir) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    while (!found && (d = readdir(dir))) {
        if (d->d_type == DT_SOCK)
            found = (uint32_t)d->d_ino == file; /* sock_diag tells no more of it */
        else if (d->d_type == DT_DIR && depth > 0 && strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            found = has_socket(fd, d->d_name, file, depth - 1);
    }
    closedir(dir);
    return found;
}

/* RAM that was given holds more than the tree, the control socket to begin with: there a socket is looked
 * for by its name. */
static int holds_socket(const struct look *l, ino_t number)
{
    for (size_t i = 0; i < l->nsockets; i++)
        if (l->sockets[i].number == (uint32_t)number)
            return l->whole || has_socket(l->tree, ".", l->sockets[i].file, DEPTH);
    return 0;
}

/* --- one process --- */

static int is_inside(const struct look *l, const char *path, size_t len)
{
    return l->whole || (len >= l->path_len && memcmp(path, l->path, l->path_len) == 0 &&
                        (len == l->path_len || path[l->path_len] == '/' || path[l->path_len] == ' '));
}

static int hidden(void)
{
    return errno == EACCES || errno == EPERM ? UNSEEN : FREE; /* else it has ended */
}

/* What the magic link `name` of /proc stands for. The directory of links may open for who may not follow
 * them: that takes all ids of the process, not its uid alone. */
static int holds_link(const struct look *l, int dir, const char *name)
{
    char path[PATH];
    struct stat sb;
    ssize_t n;

    if (fstatat(dir, name, &sb, 0) < 0) /* or its file system lets nobody else in, and is not ours then */
        return readlinkat(dir, name, path, sizeof path) < 0 ? hidden() : FREE;
    if (S_ISSOCK(sb.st_mode) && holds_socket(l, sb.st_ino))
        return HELD;
    if (sb.st_dev != l->dev)
        return FREE;
    n = readlinkat(dir, name, path, sizeof path);
    if (n < 0 && errno == ENAMETOOLONG) /* deeper than a path can say */
        return HELD;
    return n > 0 && is_inside(l, path, (size_t)n) ? HELD : FREE;
}

static int holds_descriptor(const struct look *l, int dir)
{
    int fd = openat(dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = FREE;
    struct dirent *d;
    DIR *fds;

    if (fd < 0)
        return hidden();
    fds = fdopendir(fd);
    if (!fds) {
        close(fd);
        return FREE;
    }
    while (found == FREE && (d = readdir(fds)))
        if (d->d_name[0] != '.')
            found = holds_link(l, fd, d->d_name);
    closedir(fds);
    return found;
}

/* BEGIN-END PERMS OFFSET MAJOR:MINOR INODE PATH, a line each; a PATH that is cut is longer than ours. */
static int maps_line(const struct look *l, const char *line)
{
    unsigned ma, mi;
    int path = 0;

    if (sscanf(line, "%*s %*s %*s %x:%x %*u %n", &ma, &mi, &path) != 2 || path == 0)
        return 0;
    return makedev(ma, mi) == l->dev && is_inside(l, line + path, strcspn(line + path, "\n"));
}

/* *mapped: there was a map. Only who has ended has none. */
static int holds_map(const struct look *l, int dir, int *mapped)
{
    static char line[PATH];
    int fd = openat(dir, "maps", O_RDONLY | O_CLOEXEC), found = FREE;
    FILE *f = fd < 0 ? NULL : fdopen(fd, "re");

    if (!f) {
        if (fd >= 0)
            close(fd);
        return FREE;
    }
    while (found == FREE && fgets(line, sizeof line, f)) {
        found = maps_line(l, line);
        *mapped = 1;
    }
    (void)fclose(f);
    return found;
}

/* dir: /proc/PID/task/TID. *mapped: a thread's maps have been read, and all have the same. */
static int thread_holds(const struct look *l, int dir, int *mapped)
{
    static const char *const LINKS[] = {"cwd", "root", "exe"};
    int found = FREE;

    for (size_t i = 0; found == FREE && i < sizeof LINKS / sizeof *LINKS; i++)
        found = holds_link(l, dir, LINKS[i]);
    if (found == FREE)
        found = holds_descriptor(l, dir);
    return found == FREE && !*mapped ? holds_map(l, dir, mapped) : found;
}

/* What is left of it until it is collected may be shown to nobody, and holds nothing. */
static int has_ended(int dir)
{
    char buf[512], *at;
    int fd = openat(dir, "stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : io_read(fd, buf, sizeof buf - 1);

    if (fd >= 0)
        close(fd);
    buf[n > 0 ? n : 0] = '\0';
    at = strrchr(buf, ')'); /* PID (COMM) STATE ...; COMM may hold anything */
    return at && at[1] == ' ' && (at[2] == 'Z' || at[2] == 'X');
}

/* Threads may have files and a directory of their own, and outlive the one that is the process's first. */
static int holds(const struct look *l, int dir)
{
    int fd = openat(dir, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = FREE, mapped = 0, thread;
    struct dirent *d;
    DIR *tasks;

    if (fd < 0)
        return hidden();
    tasks = fdopendir(fd);
    if (!tasks) {
        close(fd);
        return FREE;
    }
    for (int n = 0; found == FREE && n < THREADS && (d = readdir(tasks));) {
        if (d->d_name[0] == '.')
            continue;
        n++;
        thread = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (thread < 0)
            continue; /* it has ended */
        found = thread_holds(l, thread, &mapped);
        if (found == UNSEEN && has_ended(thread))
            found = FREE;
        close(thread);
    }
    closedir(tasks);
    return found;
}

static void name_of(int dir, char name[16])
{
    int fd = openat(dir, "comm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : io_read(fd, name, 15);

    if (fd >= 0)
        close(fd);
    n -= n > 0 && name[n - 1] == '\n'; /* its end; any other is in the name */
    name[n > 0 ? n : 0] = '\0';
    for (char *p = name; *p; p++)
        if (*p < 32 || *p > 126)
            *p = '?';
}

static void add(struct holders *h, pid_t pid, int dir)
{
    size_t used = strlen(h->names), room = sizeof h->names - used;
    char name[16];

    if (h->n < HOLDERS_MAX)
        h->pids[h->n] = pid;
    h->n++;
    name_of(dir, name);
    if (room < sizeof ", 4194304 (), ..." + sizeof name) { /* what does not fit any more, once */
        if (used >= 3 && strcmp(h->names + used - 3, "...") != 0)
            (void)snprintf(h->names + used, room, ", ...");
        return;
    }
    (void)snprintf(h->names + used, room, "%s%d (%s)", used ? ", " : "", (int)pid, name);
}

static void look_at(const struct look *l, int proc, const char *name, pid_t pid)
{
    int dir = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int found = dir < 0 ? hidden() : holds(l, dir);

    if (found == UNSEEN)
        l->h->unseen++;
    else if (found == HELD)
        add(l->h, pid, dir);
    if (dir >= 0)
        close(dir);
}

/* A pod whose /proc is not there, or covered, must still be lockable. */
static int find_nobody(struct holders *h, struct err *e)
{
    if (errno != ENOENT && hidden() != UNSEEN)
        return err_sys(e, "look at who holds the vault open");
    h->unseen = 1;
    return 0;
}

int holders_find(int tree, int whole, pid_t spared, struct holders *h, struct err *e)
{
    static struct look l;
    char link[40];
    struct stat sb;
    struct dirent *d;
    DIR *proc;
    ssize_t n;

    memset(h, 0, sizeof *h);
    memset(&l, 0, sizeof l);
    if (fstat(tree, &sb) < 0)
        return err_sys(e, "look at the open vault");
    proc = opendir("/proc");
    if (!proc)
        return find_nobody(h, e);
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", tree);
    n = readlink(link, l.path, sizeof l.path - 1);
    if (n < 0) {
        int rc = find_nobody(h, e);

        closedir(proc);
        return rc;
    }
    l.h = h;
    l.tree = tree;
    l.dev = sb.st_dev;
    l.whole = whole;
    l.path_len = (size_t)n;
    find_sockets(&l);
    while ((d = readdir(proc))) {
        pid_t pid = (pid_t)strtol(d->d_name, NULL, 10);

        if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && pid != getpid() && pid != spared)
            look_at(&l, dirfd(proc), d->d_name, pid);
    }
    closedir(proc);
    return 0;
}
