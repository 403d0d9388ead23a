#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS_MAX = 4 }; /* room to notice, and close, more than the one that is allowed */

static unsigned parts(const struct message *m, struct iovec iov[2])
{
    iov[0].iov_base = m->head;
    iov[0].iov_len = m->head_len;
    iov[1].iov_base = m->tail;
    iov[1].iov_len = m->tail_len;
    return m->tail_len ? 2 : 1;
}

int wire_send(int fd, const struct message *m, int pass, int flags)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov[2];
    struct msghdr msg;
    ssize_t n;

    memset(&msg, 0, sizeof msg);
    memset(&control, 0, sizeof control);
    msg.msg_iov = iov;
    msg.msg_iovlen = parts(m, iov);
    if (pass >= 0) {
        struct cmsghdr *c;

        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass, sizeof pass);
    }
    do
        n = sendmsg(fd, &msg, flags | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -1 : 0;
}

/* The one descriptor that came, or -1; with more than one, all are closed and *many is set. */
static int take_descriptor(struct msghdr *msg, int *many)
{
    int found = -1;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t n;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (found >= 0 || *many) {
                *many = 1;
                close(fd);
                if (found >= 0)
                    close(found);
                found = -1;
            } else {
                found = fd;
            }
        }
    }
    if ((msg->msg_flags & MSG_CTRUNC) && found >= 0) {
        *many = 1;
        close(found);
        found = -1;
    }
    return found;
}

ssize_t wire_recv(int fd, const struct message *m, int *passed, int flags)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov[2];
    struct msghdr msg;
    int many = 0;
    ssize_t n;

    *passed = -1;
    memset(&msg, 0, sizeof msg);
    msg.msg_iov = iov;
    msg.msg_iovlen = parts(m, iov);
    msg.msg_control = control.bytes;
    msg.msg_controllen = sizeof control.bytes;
    do
        n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET)); /* the latter, once, when the other side
        ended with something unread: its last message may still be waiting behind that */
    if (n < 0)
        return -1;
    *passed = take_descriptor(&msg, &many);
    if (many || (msg.msg_flags & MSG_TRUNC)) {
        if (*passed >= 0)
            close(*passed);
        *passed = -1;
        errno = many ? EBADMSG : EMSGSIZE;
        return -1;
    }
    return n;
}

static void copy(char *to, size_t size, const char *from)
{
    size_t n = strlen(from);

    if (n >= size)
        n = size - 1;
    memset(to, 0, size);
    memcpy(to, from, n);
}

void wire_error_set(struct wire_error *e, int code, const char *word, const char *text)
{
    e->code = code;
    copy(e->word, sizeof e->word, word);
    copy(e->text, sizeof e->text, text ? text : "");
}

/* A name inside the vault may hold what a terminal obeys: control bytes, and U+0080 to U+009F. */
static void tame(char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < 32 || c == 127)
            *text = '?';
        else if (c == 0xc2 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] < 0xa0)
            text[0] = text[1] = '?';
    }
}

void wire_error_close(struct wire_error *e)
{
    e->word[sizeof e->word - 1] = '\0';
    e->text[sizeof e->text - 1] = '\0';
    tame(e->word);
    tame(e->text);
}
