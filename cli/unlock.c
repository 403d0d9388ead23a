#include "command.h"
#include "open.h"

int cli_unlock(int argc, char **argv)
{
    struct wire_status s;
    struct flags f;
    int rc = flags_parse(argc, argv, FLAGS_PASSPHRASE | FLAGS_CREATE | FLAGS_CREDENTIAL | FLAGS_OUTCOME, &f);

    if (rc == EX_TP_OK)
        rc = open_vault(&f, f.create ? "create a vault" : "unlock", &s);
    if (rc == EX_TP_OK) {
        open_say(&s);
        say_done(s.generation);
    }
    return rc;
}
