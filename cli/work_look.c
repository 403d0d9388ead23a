/* work_look - who holds the tree open? Neither a key nor the content of anything. */
#include <string.h>
#include <unistd.h>

#include "../init/wire.h"
#include "../vault/holders.h"
#include "work.h"

_Static_assert(sizeof(pid_t) == 4 && WIRE_HOLDERS_MAX <= HOLDERS_MAX, "numbers of processes fit the result");

int work_look(struct work *w, struct err *e)
{
    static struct holders h;

    /* PID 1 itself may hold the reserve in there. */
    if (holders_find(WORK_TREE, (w->job->flags & JOB_WHOLE) != 0, getppid(), &h, e) < 0)
        return -1;
    w->result->left_out = h.n;
    w->result->skipped = h.unseen;
    memcpy(w->result->header, h.pids, WIRE_HOLDERS_MAX * sizeof *h.pids);
    wire_error_set(&w->result->error, 0, "", h.names);
    return 0;
}
