#include <inttypes.h>

#include "client.h"
#include "command.h"
#include "save.h"

int cli_lock(int argc, char **argv)
{
    struct reply r;
    struct flags f;
    int rc = flags_parse(argc, argv, FLAGS_NONE, &f);

    if (rc != EX_TP_OK)
        return rc;
    client_request(REQ_LOCK, &r);
    if (r.error.word[0])
        return say_error(r.status.state == VAULT_LOCKED      ? "empty the RAM"
                         : r.error.code == EX_TP_UNAVAILABLE ? "lock"
                                                             : "lock (the vault stays open)",
                         &r.error);
    if (r.status.flags & STATUS_ALREADY) {
        say("the vault was locked already");
        return EX_TP_OK;
    }
    save_say_notes(&r.status);
    say("the vault is locked, generation %" PRIu64 " is on disk", r.status.generation);
    return EX_TP_OK;
}
