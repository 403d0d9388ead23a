#include "rewrite.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../init/wire.h"
#include "../vault/store.h"
#include "client.h"
#include "passphrase.h"
#include "work.h"

enum { BUSY_MS = 10000, AGAIN_MS = 50 };

int order_request(const struct request *r, const struct secret *order, struct reply *reply, struct wire_error *e)
{
    int fd = -1, rc = -1, pipe = passphrase_pipe(order);

    if (pipe < 0) {
        wire_error_set(e, EX_TP_FAULT, "failed", "a pipe can't be made");
        return -1;
    }
    fd = client_connect(e);
    if (fd >= 0 && client_ask(fd, *r, pipe, reply, e) == 0) {
        *e = reply->error;
        rc = e->word[0] ? -1 : 0;
    }
    close(pipe);
    if (fd >= 0)
        close(fd);
    return rc;
}

int rewrite_request(const struct secret *order, struct reply *reply, struct wire_error *e)
{
    const struct request r = {.type = REQ_KEY};
    int rc = order_request(&r, order, reply, e);

    for (int waited = 0; rc < 0 && strcmp(e->word, "busy") == 0 && waited < BUSY_MS; waited += AGAIN_MS) {
        (void)nanosleep(&(struct timespec){0, AGAIN_MS * 1000000L}, NULL);
        rc = order_request(&r, order, reply, e);
    }
    return rc;
}

int header_of_file(const char *path, struct header *h, struct wire_error *e)
{
    uint8_t bytes[HEADER_MAX];
    struct store store = {.dir = -1, .lock = -1};
    struct err err = {0};
    uint64_t size = 0;
    size_t len;
    int fd = -1, rc = -1;

    if (store_open(&store, path, 0, &err) == 0 && (fd = store_read(&store, &size, &err)) >= 0)
        rc = work_read_header(fd, size, bytes, &len, h, &err);
    if (rc < 0)
        wire_error_set(e, err.code ? err.code : EX_TP_FAILURE, err.word, err.text);
    if (fd >= 0)
        close(fd);
    store_close(&store);
    return rc;
}
