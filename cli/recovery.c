#include "recovery.h"

#include <stdio.h>
#include <string.h>

#include "../init/wire.h"
#include "credential.h"
#include "prompt.h"
#include "rewrite.h"

bool recovery_there(const struct header *h)
{
    for (unsigned i = 0; i < h->nslots; i++)
        if (h->slots[i].type == SLOT_RECOVERY)
            return true;
    return false;
}

void recovery_show(const char *code)
{
    say("the recovery code opens this vault when its passphrase is forgotten (tazpod unlock --recovery).\n"
        "It is shown this once and kept nowhere: write it down.");
    (void)printf("%s\n", code);
    (void)fflush(stdout);
}

int recovery_make(struct secret *order)
{
    struct order *o = order_of(order);
    char code[CODE_TEXT_MAX];
    struct wire_error e;
    struct reply reply;
    int rc;

    o->op = ORDER_PASSWD;
    credential_new_recovery(&o->fresh, code);
    rc = rewrite_request(order, &reply, &e);
    if (rc == 0)
        recovery_show(code);
    secret_wipe(code, sizeof code);
    return rc < 0 ? say_error("make a recovery code", &e) : EX_TP_OK;
}

int recovery_offer(const struct flags *f, const char *vault, struct secret *order)
{
    struct wire_error e;
    struct header h;
    int yes = 0;

    if (f->no_input || !credential_is_typed(f) || header_of_file(vault, &h, &e) < 0 || recovery_there(&h))
        return EX_TP_OK;
    switch (prompt_yes("This vault has no recovery code: who forgets the passphrase loses it. Make one now? [y/N] ", &yes)) {
    case PROMPT_OK: break;
    case PROMPT_NO_TTY: return EX_TP_OK;
    default: return EX_TP_CANCELLED;
    }
    if (yes) /* a failure has been told, and the vault is open all the same */
        (void)recovery_make(order);
    return EX_TP_OK;
}
