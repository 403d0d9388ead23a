#include "procs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dir.h"
#include "number.h"

enum { NR_PIDFD_SEND_SIGNAL = 424, NR_PIDFD_OPEN = 434 }; /* the same on every architecture; musl has no names */
enum { TABLE = 16384 }; /* processes of /proc looked at; of a machine with more, the first so many */

struct proc {
    pid_t pid, parent, session;
    int terminal;
    int64_t began; /* in ticks since boot: the same number later is another process */
};

/* "/proc/PID/NAME" read into buf, zero-terminated. 0 or -1. */
static int read_proc(const char *pid, const char *name, char *buf, size_t size)
{
    char path[48] = "/proc/";
    size_t n = strlen(pid), m = strlen(name);
    ssize_t got;
    int fd;

    if (6 + n + 1 + m >= sizeof path)
        return -1;
    memcpy(path + 6, pid, n);
    path[6 + n] = '/';
    memcpy(path + 7 + n, name, m + 1);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    got = read(fd, buf, size - 1);
    close(fd);
    if (got <= 0)
        return -1;
    buf[got] = '\0';
    return 0;
}

/* Of a list with blanks; what can't be one is 0. */
static int64_t next_number(const char **at)
{
    int64_t v;

    while (**at == ' ' || **at == '-')
        (*at)++;
    v = number_read(at, INT64_MAX / 16);
    while (**at >= '0' && **at <= '9') /* too large */
        (*at)++;
    return v < 0 ? 0 : v;
}

/* PID (COMM) STATE PPID PGRP SESSION TTY ...; COMM may hold anything, so from its last bracket. */
static int look(const char *pid, struct proc *p)
{
    char buf[512], *at;

    if (read_proc(pid, "stat", buf, sizeof buf) < 0 || !(at = strrchr(buf, ')')))
        return -1;
    at += 3; /* bracket, blank, state */
    p->pid = (pid_t)next_number(&pid);
    p->parent = (pid_t)next_number((const char **)&at);
    (void)next_number((const char **)&at);
    p->session = (pid_t)next_number((const char **)&at);
    p->terminal = (int)next_number((const char **)&at);
    for (int skipped = 0; skipped < 14; skipped++) /* tpgid to itrealvalue */
        (void)next_number((const char **)&at);
    p->began = next_number((const char **)&at);
    return 0;
}

struct walk {
    void (*each)(void *ctx, const char *name, const struct proc *p);
    void *ctx;
};

static int walk_one(void *ctx, const char *name)
{
    const struct walk *w = ctx;
    struct proc p;

    if (name[0] >= '1' && name[0] <= '9' && look(name, &p) == 0 && p.pid != getpid())
        w->each(w->ctx, name, &p);
    return 0;
}

/* Calls `each` for all processes that /proc shows, itself left out. */
static void for_each_process(void (*each)(void *ctx, const char *name, const struct proc *p), void *ctx)
{
    struct walk w = {each, ctx};
    int dir = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return;
    (void)dir_each(dir, walk_one, &w);
    close(dir);
}

/* No /proc has to tell that. */
static bool has_children(void)
{
    return waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
}

/* --- descendants, where this is not process 1 --- */

struct family {
    struct proc table[TABLE];
    int n;
};

static struct family family; /* touched only there, so it costs process 1 nothing */

static void remember(void *ctx, const char *name, const struct proc *p)
{
    struct family *f = ctx;

    (void)name;
    if (f->n < TABLE)
        f->table[f->n++] = *p;
}

static bool is_descendant(const struct family *f, const struct proc *p)
{
    pid_t up = p->parent;

    for (int hops = 0; up > 1 && hops < f->n; hops++) {
        int i = 0;

        if (up == getpid())
            return true;
        while (i < f->n && f->table[i].pid != up)
            i++;
        if (i == f->n)
            return false;
        up = f->table[i].parent;
    }
    return up == getpid();
}

/* The process that was seen, and not another that has its number by now. */
static void signal_exactly(const struct proc *p, int sig)
{
    int fd = (int)syscall(NR_PIDFD_OPEN, p->pid, 0);
    char name[16], *at = name + sizeof name - 1;
    struct proc now;

    if (fd < 0) {
        if (errno == ENOSYS) /* before Linux 5.3 */
            (void)kill(p->pid, sig);
        return;
    }
    *at = '\0';
    for (pid_t rest = p->pid; rest > 0; rest /= 10)
        *--at = (char)('0' + rest % 10);
    if (look(at, &now) == 0 && now.began == p->began)
        (void)syscall(NR_PIDFD_SEND_SIGNAL, fd, sig, NULL, 0);
    close(fd);
}

/* sig 0 only counts. Returns how many there are. */
static int to_descendants(int sig)
{
    int found = 0;

    family.n = 0;
    for_each_process(remember, &family);
    if (family.n == 0)
        return has_children();
    for (int i = 0; i < family.n; i++) {
        if (!is_descendant(&family, &family.table[i]))
            continue;
        found++;
        if (sig)
            signal_exactly(&family.table[i], sig);
    }
    return found;
}

void procs_signal(int sig, pid_t main_pid)
{
    if (getpid() == 1)
        (void)kill(-1, sig); /* never itself */
    else if (to_descendants(sig) > 0 && family.n == 0 && main_pid > 0)
        (void)kill(-main_pid, sig);
}

static void find_one(void *ctx, const char *name, const struct proc *p)
{
    struct proc *wanted = ctx;

    (void)name;
    if (p->pid == wanted->pid && (getpid() == 1 || is_descendant(&family, p)))
        *wanted = *p;
}

bool procs_signal_one(pid_t pid, int sig)
{
    struct proc wanted = {.pid = pid, .began = -1};

    if (pid <= 1)
        return false;
    if (getpid() != 1)
        (void)to_descendants(0); /* fills the table */
    for_each_process(find_one, &wanted);
    if (wanted.began >= 0)
        signal_exactly(&wanted, sig);
    return wanted.began >= 0;
}

struct broadcast {
    int sig;
    pid_t spared, other;
    int seen;
};

static void signal_one(void *ctx, const char *name, const struct proc *p)
{
    struct broadcast *b = ctx;

    (void)name;
    b->seen++;
    if (p->pid != b->spared && p->pid != b->other && p->pid > 1 && (getpid() == 1 || is_descendant(&family, p)))
        signal_exactly(p, b->sig);
}

bool procs_signal_but(int sig, pid_t spared, pid_t other)
{
    struct broadcast b = {sig, spared, other, 0};

    if (getpid() != 1)
        (void)to_descendants(0); /* fills the table */
    for_each_process(signal_one, &b);
    return b.seen > 0;
}

int64_t procs_last_pid(void)
{
    char buf[128];
    const char *at;
    int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 || getpid() != 1 ? -1 : read(fd, buf, sizeof buf - 1);

    if (fd >= 0)
        close(fd);
    while (n > 0 && buf[n - 1] == '\n')
        n--;
    if (n <= 0)
        return -1;
    buf[n] = '\0';
    at = strrchr(buf, ' ');
    return at ? next_number(&at) : -1;
}

bool procs_any(void)
{
    if (getpid() == 1)
        return kill(-1, 0) == 0 || errno != ESRCH;
    return to_descendants(0) > 0;
}

/* --- terminals --- */

static bool ignores_term(const char *pid)
{
    enum { DIGIT = 15 - (SIGTERM - 1) / 4 }; /* of 16, four signals each, the last digit the first four */
    char buf[2048], c;

    if (read_proc(pid, "status", buf, sizeof buf) < 0)
        return false;
    for (char *at = buf; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, "SigIgn:\t", 8) != 0 || strlen(at + 8) < 16)
            continue;
        c = at[8 + DIGIT];
        return (c <= '9' ? c - '0' : c - 'a' + 10) >> (SIGTERM - 1) % 4 & 1;
    }
    return false;
}

static void hang_up(void *ctx, const char *name, const struct proc *p)
{
    (void)ctx;
    if (p->terminal == 0 || (getpid() != 1 && !is_descendant(&family, p)))
        return;
    if (p->session == p->pid || ignores_term(name))
        signal_exactly(p, SIGHUP);
}

void procs_hang_up(void)
{
    if (getpid() != 1)
        (void)to_descendants(0); /* fills the table that hang_up asks */
    for_each_process(hang_up, NULL);
}
