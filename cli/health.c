/* health - does process 1 answer? For HEALTHCHECK and probes.
 *
 * A locked vault is healthy, and so is an open one with a problem: a restart would destroy the only
 * copy of what could not be saved. Answers within its time whatever process 1 does. */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "client.h"
#include "command.h"

enum { HEALTH_TIMEOUT_MS = 2000 };

int cli_health(int argc, char **argv)
{
    struct timeval time;
    struct wire_error e;
    struct reply reply;
    struct flags f;
    int fd, rc = flags_parse(argc, argv, FLAGS_TIMEOUT, &f);

    if (rc != EX_TP_OK)
        return rc;
    if (f.timeout_ms == 0)
        f.timeout_ms = HEALTH_TIMEOUT_MS;
    time.tv_sec = f.timeout_ms / 1000;
    time.tv_usec = f.timeout_ms % 1000 * 1000;
    fd = client_connect_within(&time, &e);
    if (fd < 0 || client_ask(fd, (struct request){.type = REQ_STATUS}, -1, &reply, &e) < 0)
        rc = say_error("find tazpod-init healthy", &e);
    if (fd >= 0)
        close(fd);
    return rc;
}
