#include <inttypes.h>

#include "client.h"
#include "command.h"
#include "save.h"

void save_say_notes(const struct wire_status *s)
{
    if (s->skipped)
        say("%" PRIu32 " socket%s, FIFOs, devices or links that leave the tree were not saved", s->skipped,
            s->skipped == 1 ? "" : "s");
    if (s->flags & STATUS_FILE_GONE)
        say("the vault file had been deleted; it was written anew at %s", s->vault);
}

int cli_save(int argc, char **argv)
{
    struct reply r;
    struct flags f;
    int rc = flags_parse(argc, argv, FLAGS_OUTCOME, &f);

    if (rc != EX_TP_OK)
        return rc;
    client_request(REQ_SAVE, 0, &r);
    if (r.error.word[0])
        return say_error("save", &r.error);
    save_say_notes(&r.status);
    if (r.status.flags & STATUS_UNCHANGED)
        say("nothing has changed since generation %" PRIu64, r.status.generation);
    else
        say("saved %" PRIu64 " file%s as generation %" PRIu64, r.status.files,
            r.status.files == 1 ? "" : "s", r.status.generation);
    say_done(r.status.generation);
    return EX_TP_OK;
}
