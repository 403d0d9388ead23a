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

enum { SOCKETS = 256, PATH = 4096 };

struct look {
    struct holders *h;
    dev_t dev;
    int whole;
    char path[PATH]; /* of the tree, as /proc shows it */
    size_t path_len;
    ino_t sockets[SOCKETS]; /* bound in its file system */
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
        if (vfs.udiag_vfs_dev == kernel_dev(l->dev) && l->nsockets < SOCKETS)
            l->sockets[l->nsockets++] = d->udiag_ino;
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

/* --- one process --- */

static int is_inside(const struct look *l, const char *path, size_t len)
{
    return l->whole || (len >= l->path_len && memcmp(path, l->path, l->path_len) == 0 &&
                        (len == l->path_len || path[l->path_len] == '/' || path[l->path_len] == ' '));
}

/* What the magic link `name` of /proc stands for. */
static int holds_link(const struct look *l, int dir, const char *name)
{
    char path[PATH];
    struct stat sb;
    ssize_t n;

    if (fstatat(dir, name, &sb, 0) < 0)
        return 0;
    if (S_ISSOCK(sb.st_mode)) {
        for (size_t i = 0; i < l->nsockets; i++)
            if (l->sockets[i] == (ino_t)(uint32_t)sb.st_ino)
                return 1;
    }
    if (sb.st_dev != l->dev)
        return 0;
    n = readlinkat(dir, name, path, sizeof path);
    return n > 0 && is_inside(l, path, (size_t)n);
}

/* -1: it may not be looked at. */
static int holds_descriptor(const struct look *l, int dir)
{
    int fd = openat(dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = 0;
    struct dirent *d;
    DIR *fds;

    if (fd < 0)
        return errno == EACCES || errno == EPERM ? -1 : 0;
    fds = fdopendir(fd);
    if (!fds) {
        close(fd);
        return 0;
    }
    while (!found && (d = readdir(fds)))
        found = d->d_name[0] != '.' && holds_link(l, fd, d->d_name);
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

static int holds_map(const struct look *l, int dir)
{
    static char line[PATH];
    int fd = openat(dir, "maps", O_RDONLY | O_CLOEXEC), found = 0;
    FILE *f = fd < 0 ? NULL : fdopen(fd, "re");

    if (!f) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    while (!found && fgets(line, sizeof line, f))
        found = maps_line(l, line);
    (void)fclose(f);
    return found;
}

static void name_of(int dir, char name[16])
{
    int fd = openat(dir, "comm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : io_read(fd, name, 15);

    if (fd >= 0)
        close(fd);
    name[n > 0 ? n : 0] = '\0';
    for (char *p = name; *p; p++) {
        if (*p == '\n')
            *p = '\0';
        else if (*p < 32 || *p > 126)
            *p = '?';
    }
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

static void look_at(struct look *l, int proc, const char *name, pid_t pid)
{
    int dir = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), held;

    if (dir < 0)
        return; /* it has ended */
    held = holds_descriptor(l, dir);
    if (held < 0)
        l->h->unseen++;
    else if (held || holds_link(l, dir, "cwd") || holds_link(l, dir, "root") || holds_link(l, dir, "exe") ||
             holds_map(l, dir))
        add(l->h, pid, dir);
    close(dir);
}

int holders_find(int tree, int whole, pid_t spared, struct holders *h, struct err *e)
{
    static struct look l;
    DIR *proc = opendir("/proc");
    char link[40];
    struct stat sb;
    struct dirent *d;
    ssize_t n;

    memset(h, 0, sizeof *h);
    memset(&l, 0, sizeof l);
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", tree);
    n = readlink(link, l.path, sizeof l.path - 1);
    if (!proc || n < 0 || fstat(tree, &sb) < 0) {
        err_sys(e, "look at who holds the vault open");
        if (proc)
            closedir(proc);
        return -1;
    }
    l.h = h;
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
