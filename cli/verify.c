/* verify - is a vault file whole, and does this passphrase open it? Nothing is unpacked.
 *
 * The file is read by the same worker that PID 1 would execute, behind the same filter; here this
 * process takes PID 1's part. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aside.h"
#include "beside.h"
#include "command.h"
#include "credential.h"
#include "prompt.h"

/* A file by its name, or one beside the vault by its generation; a name of digits alone needs a ./ in
 * front. Allocated; NULL after a message, *rc the exit status. */
static char *find_file(const char *word, int *rc)
{
    char vault[4096], path[4096 + 256];
    const struct beside *found;
    struct beside *list = NULL;
    char *file;
    int n;

    if (*word && word[strspn(word, "0123456789")] == '\0') {
        if (!beside_vault("verify", vault, sizeof vault, rc))
            return NULL;
        n = beside_list(vault, &list);
        found = n > 0 ? beside_find(list, n, strtoull(word, NULL, 10)) : NULL;
        if (!found || !beside_path(vault, found, path, sizeof path)) {
            say("can't verify: there is no generation %s beside %s: see tazpod history [no-generation]", word, vault);
            *rc = EX_TP_NO_VAULT;
            free(list);
            return NULL;
        }
        free(list);
        word = path;
    }
    file = realpath(word, NULL);
    if (!file) {
        *rc = errno == ENOENT || errno == ENOTDIR ? EX_TP_NO_VAULT : EX_TP_IO;
        say("can't verify %s: %s", word, strerror(errno));
    }
    return file;
}

int cli_verify(int argc, char **argv)
{
    static struct result result;
    struct secret order = {0};
    struct wire_error e;
    struct flags f;
    char *file = NULL, when[40];
    int rc;

    if (argc < 2 || argv[1][0] == '-') {
        say("verify: which file? tazpod verify FILE");
        return EX_TP_USAGE;
    }
    rc = flags_parse(argc - 1, argv + 1, FLAGS_PASSPHRASE | FLAGS_CREDENTIAL | FLAGS_OUTCOME, &f);
    if (rc != EX_TP_OK)
        return rc;
    file = find_file(argv[1], &rc);
    if (!file)
        return rc;
    (void)signal(SIGPIPE, SIG_IGN);
    if (order_new(&order, ORDER_OPEN) < 0) {
        say("can't verify: out of memory [failed]");
        free(file);
        return EX_TP_FAULT;
    }
    if (credential_is_typed(&f))
        prompt_hush();
    rc = credential_get(&f, &order_of(&order)->current, &e);
    if (rc == 0)
        rc = aside_verify(file, &order, &result, &e);
    secret_free(&order);
    prompt_unhush();
    if (rc < 0) {
        rc = say_error("verify", &e);
    } else {
        say("%s is whole: generation %" PRIu64 ", saved %s", argv[1], result.generation,
            beside_date((uint64_t)result.saved_at, when));
        say_done(result.generation);
    }
    free(file);
    return rc;
}
