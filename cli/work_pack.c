/* work_pack, work_unpack - the tree in RAM to plaintext and back; never a key. */
#include <string.h>

#include "../init/wire.h"
#include "../vault/pack.h"
#include "work.h"

static void tell(struct result *r, const struct pack_stats *st)
{
    r->files = st->files;
    r->bytes = st->bytes;
    r->skipped = st->skipped;
    r->left_out = st->left_out;
}

int work_pack(struct work *w, struct err *e)
{
    struct pack_stats st;

    int lenient = (w->job->flags & JOB_LEAVE_OUT) != 0;

    if ((lenient ? pack_tree_what_can_be_read : pack_tree)(WORK_TREE, w->room, WORK_OUT, &st, e) < 0)
        return -1;
    tell(w->result, &st);
    if (st.left_out)
        wire_error_set(&w->result->error, 0, "", st.first_left_out);
    return 0;
}

int work_unpack(struct work *w, struct err *e)
{
    struct pack_stats st;

    if (work_check_place(w, e) < 0)
        return -1;
    if (unpack_tree(WORK_IN, WORK_TREE, w->room, &st, e) < 0)
        return -1;
    tell(w->result, &st);
    w->reserve = work_reserve(w);
    return 0;
}
