/* history - which generations there are beside the vault. Headers alone are read: no key, no process 1. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "beside.h"
#include "command.h"
#include "json.h"

static const char *const KINDS[] = {"vault", "earlier", "conflict", "emergency"};

static void print_text(const struct beside *list, int n)
{
    char date[40];

    (void)printf("%10s  %-20s  %12s  %5s  %s\n", "GENERATION", "SAVED", "BYTES", "SLOTS", "FILE");
    for (int i = 0; i < n; i++) {
        const struct beside *b = &list[i];

        if (b->damaged[0])
            (void)printf("%10s  %-20s  %12" PRIu64 "  %5s  %s\n", "damaged", b->damaged, b->size, "-", b->name);
        else
            (void)printf("%10" PRIu64 "  %-20s  %12" PRIu64 "  %5u  %s\n", b->gen, beside_date(b->saved_at, date), b->size,
                         b->slots, b->name);
    }
}

static void print_json(const char *vault, const struct beside *list, int n)
{
    struct json j = {stdout, false};

    json_open(&j, NULL);
    json_number(&j, "version", 1);
    json_text(&j, "vault", vault);
    json_list(&j, "files");
    for (int i = 0; i < n; i++) {
        const struct beside *b = &list[i];

        json_open(&j, NULL);
        json_text(&j, "file", b->name);
        json_text(&j, "kind", KINDS[b->kind]);
        json_number(&j, "number", b->number);
        json_number(&j, "bytes", (int64_t)b->size);
        json_text(&j, "damaged", b->damaged[0] ? b->damaged : NULL);
        json_number(&j, "generation", (int64_t)b->gen);
        json_number(&j, "saved_at", (int64_t)b->saved_at);
        json_number(&j, "slots", b->slots);
        json_close(&j);
    }
    json_list_end(&j);
    json_close(&j);
    (void)putchar('\n');
}

int cli_history(int argc, char **argv)
{
    bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    char vault[4096];
    struct beside *list;
    int n, rc = EX_TP_OK;

    if (argc > 1 && !json) {
        say("history: don't know what to make of %s: see tazpod help", argv[argc > 2 ? 2 : 1]);
        return EX_TP_USAGE;
    }
    if (!beside_vault("list the history", vault, sizeof vault, &rc))
        return rc;
    n = beside_list(vault, &list);
    if (n < 0) {
        say("can't list the history of %s: %s [io]", vault, strerror(errno));
        return EX_TP_IO;
    }
    if (n == 0) {
        say("can't list the history: there is no vault at %s, and nothing beside it [no-vault]", vault);
        return EX_TP_NO_VAULT;
    }
    if (json)
        print_json(vault, list, n);
    else
        print_text(list, n);
    free(list);
    return EX_TP_OK;
}
