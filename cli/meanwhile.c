#include "meanwhile.h"

#include <inttypes.h>

#include "aside.h"
#include "client.h"
#include "command.h"
#include "lock.h"
#include "order.h"
#include "rewrite.h"

/* A file that is damaged is what one comes from. */
static int opens(const char *vault, const struct secret *order, struct wire_error *e)
{
    static struct result r;

    if (aside_verify(vault, order, &r, e) == 0 || e->code == EX_TP_DAMAGED || e->code == EX_TP_NO_VAULT)
        return 0;
    return -1;
}

int meanwhile_begin(struct locked_meanwhile *m, const struct secret *order, bool force, bool output,
                    struct wire_error *e)
{
    static struct reply r;

    client_request(REQ_STATUS, 0, &r);
    *e = r.error;
    if (e->word[0])
        return -1;
    m->generation = r.status.generation;
    m->open = r.status.state == VAULT_OPEN || r.status.state == VAULT_SAVING;
    if (!m->open)
        return 0;
    if (opens(r.status.vault, order, e) < 0)
        return -1;
    lock_let_go(output);
    client_request(REQ_LOCK, force ? REQUEST_FORCE : 0, &r);
    m->generation = r.status.generation;
    *e = r.error;
    return e->word[0] ? -1 : 0;
}

int meanwhile_end(const struct locked_meanwhile *m, struct secret *order, int rc, struct wire_error *e)
{
    static struct reply r;
    const struct request unlock = {.type = REQ_UNLOCK};
    struct wire_error why;

    if (!m->open)
        return rc;
    order_of(order)->op = ORDER_OPEN;
    if (order_request(&unlock, order, &r, &why) < 0) {
        say("the vault is locked now, and could not be opened again: %s [%s]", why.text, why.word);
        if (rc == 0)
            *e = why;
        return -1;
    }
    if (rc < 0)
        say("the vault is open again as it was, generation %" PRIu64, m->generation);
    return rc;
}
