#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "../init/wire.h"
#include "command.h"

static int no_init(struct wire_error *e, const char *why)
{
    char text[WIRE_TEXT_MAX];

    (void)snprintf(text, sizeof text,
                   "no tazpod-init answers in %s (%s): is it the container's entry point, and is that "
                   "directory RAM (--tmpfs /run/tazpod:size=64m,mode=0700,uid=1000,gid=1000)?",
                   run_dir(), why);
    wire_error_set(e, EX_TP_UNAVAILABLE, "no-init", text);
    return -1;
}

static int not_entered(struct wire_error *e)
{
    char text[WIRE_TEXT_MAX];
    struct stat sb = {0};

    (void)stat(run_dir(), &sb);
    if (geteuid() == 0)
        (void)snprintf(text, sizeof text,
                       "root may not enter %s: run the pod with --user 1000, or with --cap-add DAC_OVERRIDE", run_dir());
    else
        (void)snprintf(text, sizeof text,
                       "%s is uid %u's, and this is uid %u: run the command as the pod's user (docker exec --user), or "
                       "give the pod RAM of its own (--tmpfs /run/tazpod:size=64m,mode=0700,uid=1000,gid=1000)",
                       run_dir(), sb.st_uid, geteuid());
    wire_error_set(e, EX_TP_UNAVAILABLE, "no-init", text);
    return -1;
}

/* Somebody else could have bound the name in a directory that others may write. Process 1 is
 * nobody else, whatever its uid. */
static int trusted(int fd, uid_t dir_owner)
{
    struct ucred peer;
    socklen_t len = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return 0;
    return peer.uid == 0 || peer.pid == 1 || peer.uid == geteuid() || (geteuid() == 0 && peer.uid == dir_owner);
}

int client_connect_within(const struct timeval *time, struct wire_error *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat sb;
    int dir = open(run_dir(), O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;

    if (dir < 0 && errno == EACCES)
        return not_entered(e);
    if (dir < 0)
        return no_init(e, strerror(errno));
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    /* Through the descriptor: the path may be longer than a socket address holds. */
    (void)snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/control.sock", dir);
    if (fd >= 0 && time) { /* for connect, which waits for a place in the queue, and for answers */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, time, sizeof *time);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time, sizeof *time);
    }
    if (fd < 0 || fstat(dir, &sb) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        (void)(errno == EACCES ? not_entered(e) : no_init(e, strerror(errno)));
        goto failed;
    }
    if (!trusted(fd, sb.st_uid)) {
        no_init(e, "the socket there is somebody else's");
        goto failed;
    }
    close(dir);
    return fd;
failed:
    close(dir);
    if (fd >= 0)
        close(fd);
    return -1;
}

int client_connect(struct wire_error *e)
{
    return client_connect_within(NULL, e);
}

int client_ask(int fd, struct request r, int pass, struct reply *reply, struct wire_error *e)
{
    struct message out = {&r, sizeof r, NULL, 0}, in = {reply, sizeof *reply, NULL, 0};
    int passed;
    ssize_t n;

    r.magic = WIRE_MAGIC;
    r.version = WIRE_VERSION;
    if (wire_send(fd, &out, pass, 0) < 0) {
        no_init(e, strerror(errno));
        return CLIENT_NOT_ASKED;
    }
    n = wire_recv(fd, &in, &passed, 0);
    if (passed >= 0)
        close(passed);
    if (n != (ssize_t)sizeof *reply || reply->magic != WIRE_MAGIC || reply->version != WIRE_VERSION ||
        reply->type != r.type)
        return no_init(e, n == 0  ? "it ended the connection: it stops, or asks for another user"
                          : n < 0 ? strerror(errno)
                                  : "it speaks another version");
    wire_error_close(&reply->error);
    wire_error_close(&reply->status.problem);
    reply->status.why[WIRE_WHY_MAX - 1] = '\0';
    reply->status.vault[WIRE_PATH_MAX - 1] = '\0';
    reply->status.secrets[WIRE_PATH_MAX - 1] = '\0';
    return 0;
}

int client_is_parent(void)
{
    struct wire_error e;
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    int fd = client_connect(&e);

    if (fd < 0)
        return 0;
    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
    close(fd);
    return peer.pid == getppid();
}

void client_request(enum request_type type, uint32_t flags, struct reply *reply)
{
    int rc = CLIENT_NOT_ASKED;

    memset(reply, 0, sizeof *reply);
    /* A client that was held up so long that its connection was closed as an idle one asks again. */
    for (int i = 0; i < 2 && rc == CLIENT_NOT_ASKED; i++) {
        struct wire_error e = {0};
        int fd = client_connect(&e);

        rc = fd < 0 ? -1 : client_ask(fd, (struct request){.type = (uint16_t)type, .flags = flags}, -1, reply, &e);
        reply->error = rc < 0 ? e : reply->error;
        if (fd >= 0)
            close(fd);
    }
}
