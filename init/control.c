#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

static const struct sockaddr_un ADDRESS = {.sun_family = AF_UNIX, .sun_path = "control.sock"};

static bool somebody_listens(void)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive;

    if (fd < 0)
        return false;
    alive = connect(fd, (const struct sockaddr *)&ADDRESS, sizeof ADDRESS) == 0 || errno == EAGAIN;
    close(fd);
    return alive;
}

/* In the run directory as current one: its path may be longer than a socket address holds. */
static int bind_here(struct control *c, uid_t owner, gid_t group)
{
    mode_t mask = umask(0177); /* 0600 from its first moment */
    int rc = bind(c->listener, (const struct sockaddr *)&ADDRESS, sizeof ADDRESS);

    if (rc < 0 && errno == EADDRINUSE && !somebody_listens()) {
        (void)unlink(ADDRESS.sun_path);
        rc = bind(c->listener, (const struct sockaddr *)&ADDRESS, sizeof ADDRESS);
    }
    (void)umask(mask);
    if (rc < 0 || (owner != geteuid() && lchown(ADDRESS.sun_path, owner, group) < 0))
        return -1;
    return listen(c->listener, CONTROL_CONNECTIONS);
}

int control_open(struct control *c, int dir, uid_t owner, gid_t group)
{
    int back, rc = -1;

    c->owner = owner;
    for (int i = 0; i < CONTROL_CONNECTIONS; i++)
        c->conns[i].fd = -1;
    c->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (c->listener >= 0 && fchdir(dir) == 0) {
        rc = bind_here(c, owner, group);
        if (back >= 0) {
            int saved = errno;
            (void)!fchdir(back); /* the main command starts where PID 1 was started */
            errno = saved;
        }
    }
    if (back >= 0)
        close(back);
    if (rc < 0 && c->listener >= 0) {
        int saved = errno;
        close(c->listener);
        c->listener = -1;
        errno = saved;
    }
    return rc;
}

/* A free place, at the cost of the longest silent client that waits for nothing. A client that has
 * just come is given the time to speak. */
static int place(struct control *c, int64_t now_ms)
{
    int oldest = -1;

    for (int i = 0; i < CONTROL_CONNECTIONS; i++) {
        struct conn *k = &c->conns[i];

        if (k->fd < 0)
            return i;
        if (!k->waits && now_ms - k->heard_ms >= CONTROL_PATIENCE_MS &&
            (oldest < 0 || k->heard_ms < c->conns[oldest].heard_ms))
            oldest = i;
    }
    if (oldest >= 0)
        control_close(c, oldest);
    return oldest;
}

int control_accept(struct control *c, int64_t now_ms)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    int i = place(c, now_ms), fd;

    if (i < 0)
        return CONTROL_NOT_NOW;
    fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return errno == EAGAIN ? CONTROL_NOBODY : errno == ECONNABORTED ? CONTROL_SENT_AWAY : CONTROL_NOT_NOW;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
        (peer.uid != 0 && peer.uid != c->owner)) {
        close(fd);
        return CONTROL_SENT_AWAY;
    }
    c->conns[i] = (struct conn){.fd = fd, .heard_ms = now_ms};
    return i;
}

static bool valid(const struct request *r, ssize_t n, int passed)
{
    bool carries = r->type == REQ_UNLOCK || r->type == REQ_CREATE || r->type == REQ_KEY;

    return n == (ssize_t)sizeof *r && r->magic == WIRE_MAGIC && r->version == WIRE_VERSION &&
           r->type >= REQ_STATUS && r->type <= REQ_KEY && (r->flags == 0 || (r->type == REQ_LOCK && r->flags == REQUEST_FORCE)) && r->reserved[0] == 0 &&
           r->reserved[1] == 0 && r->reserved[2] == 0 && carries == (passed >= 0) &&
           (r->type == REQ_CREATE || (r->kdf_ops == 0 && r->kdf_mem_kib == 0));
}

int control_read(struct control *c, int i, struct request *r, int *passed, int64_t now_ms)
{
    struct message m = {r, sizeof *r, NULL, 0};
    struct conn *k = &c->conns[i];
    ssize_t n = wire_recv(k->fd, &m, passed, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return 0;
    /* The end, an error, or a second request before the first is answered. */
    if (n > 0 && !k->waits && valid(r, n, *passed)) {
        k->heard_ms = now_ms;
        return 1;
    }
    if (*passed >= 0)
        close(*passed);
    *passed = -1;
    return -1;
}

void control_answer(struct control *c, int i, uint16_t type, const struct wire_error *e,
                    const struct wire_status *s, int64_t now_ms)
{
    static struct reply r; /* 1.2 KB that PID 1's stack need not hold */
    struct message m = {&r, sizeof r, NULL, 0};

    memset(&r, 0, sizeof r);
    r.magic = WIRE_MAGIC;
    r.version = WIRE_VERSION;
    r.type = type;
    r.error = *e;
    r.status = *s;
    c->conns[i].waits = 0;
    c->conns[i].heard_ms = now_ms;
    if (wire_send(c->conns[i].fd, &m, -1, MSG_DONTWAIT) < 0)
        control_close(c, i);
}

void control_close(struct control *c, int i)
{
    if (c->conns[i].fd >= 0)
        close(c->conns[i].fd);
    c->conns[i] = (struct conn){.fd = -1};
}

int64_t control_expire(struct control *c, int64_t now_ms)
{
    int64_t next = INT64_MAX;

    for (int i = 0; i < CONTROL_CONNECTIONS; i++) {
        struct conn *k = &c->conns[i];

        if (k->fd < 0 || k->waits)
            continue;
        if (now_ms - k->heard_ms >= CONTROL_IDLE_MS)
            control_close(c, i);
        else if (k->heard_ms + CONTROL_IDLE_MS < next)
            next = k->heard_ms + CONTROL_IDLE_MS;
    }
    return next;
}
