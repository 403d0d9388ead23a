#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "beside.h"
#include "client.h"
#include "command.h"
#include "json.h"

static const char *const STATES[] = {"absent", "locked", "opening", "open", "saving", "locking", "stopping"};
static const char *const RAMS[] = {"none", "given", "own"};
static const char *const SWAPS[] = {"unknown", "noswap", "no: the machine has none",
                                    "no: the container may use none",
                                    "swappable: clear text may reach a swap device"};
static const char *const SWAP_WORDS[] = {"unknown", "noswap", "none", "denied", "swappable"};
enum {
    N_STATES = sizeof STATES / sizeof *STATES,
    N_RAMS = sizeof RAMS / sizeof *RAMS,
    N_SWAPS = sizeof SWAPS / sizeof *SWAPS,
};

static const char *name_of(const char *const *names, uint32_t n, uint32_t i)
{
    return i < n ? names[i] : "unknown";
}

/* Copies of a pod that could not write the vault, this one or another: each is somebody's only copy until
 * a person has looked at it. */
static bool is_copy(const struct beside *b)
{
    return b->kind == BESIDE_CONFLICT || b->kind == BESIDE_EMERGENCY;
}

static void print_copies(const struct beside *list, int n)
{
    char date[40];

    for (int i = 0; i < n; i++) {
        if (!is_copy(&list[i]))
            continue;
        (void)printf("%-10s  %s", list[i].kind == BESIDE_CONFLICT ? "conflict" : "emergency", list[i].name);
        if (list[i].damaged[0])
            (void)printf(": damaged (%s)", list[i].damaged);
        else
            (void)printf(": generation %" PRIu64 ", saved %s", list[i].gen, beside_date(list[i].saved_at, date));
        (void)printf("; decide which is kept, and move or remove it: CONFLICTS in tazpod(1)\n");
    }
}

static void print_text(const struct wire_status *s, const struct beside *list, int n)
{
    char date[40];

    (void)printf("vault       %s\n", s->vault);
    (void)printf("state       %s\n", name_of(STATES, N_STATES, s->state));
    (void)printf("secrets     %s\n", s->secrets);
    (void)printf("ram         %s%s%s\n", name_of(RAMS, N_RAMS, s->ram), s->why[0] ? ": " : "", s->why);
    if (s->swap)
        (void)printf("swap        %s\n", name_of(SWAPS, N_SWAPS, s->swap));
    if (s->warnings & WARN_RAM_EXCEEDS)
        (void)printf("warning     ram-exceeds-memory: make the RAM at least 48 MiB smaller than the memory limit\n");
    if (s->warnings & WARN_NO_LINKS)
        (void)printf("warning     no-links: the vault's file system has no hard links, so that each save copies the "
                     "generation before it\n");
    if (s->generation) {
        (void)printf("generation  %" PRIu64 "\n", s->generation);
        (void)printf("saved       %s\n", beside_date((uint64_t)s->saved_at, date));
        (void)printf("files       %" PRIu64 "\n", s->files);
        (void)printf("bytes       %" PRIu64 "\n", s->bytes);
    }
    if (s->skipped)
        (void)printf("skipped     %" PRIu32 "\n", s->skipped);
    if (s->left_out)
        (void)printf("left-out    %" PRIu32 "\n", s->left_out);
    if (s->stale)
        (void)printf("stale       %" PRIu32 " kept aside in %s/.stale-*\n", s->stale, run_dir());
    if (s->problem.word[0])
        (void)printf("problem     %s: %s\n", s->problem.word, s->problem.text);
    print_copies(list, n);
}

/* Keys and their meaning are fixed in tazpod(1); new ones may be added. */
static void json_copies(struct json *j, const struct beside *list, int n)
{
    json_list(j, "conflicts");
    for (int i = 0; i < n; i++) {
        if (!is_copy(&list[i]))
            continue;
        json_open(j, NULL);
        json_text(j, "file", list[i].name);
        json_text(j, "kind", list[i].kind == BESIDE_CONFLICT ? "conflict" : "emergency");
        json_text(j, "damaged", list[i].damaged[0] ? list[i].damaged : NULL);
        json_number(j, "generation", (int64_t)list[i].gen);
        json_number(j, "saved_at", (int64_t)list[i].saved_at);
        json_close(j);
    }
    json_list_end(j);
}

static void print_json(const struct wire_status *s, const struct beside *list, int n)
{
    struct json j = {stdout, false};

    json_open(&j, NULL);
    json_number(&j, "version", 1);
    json_text(&j, "state", name_of(STATES, N_STATES, s->state));
    json_text(&j, "vault", s->vault);
    json_text(&j, "secrets", s->secrets);
    json_number(&j, "owner", s->owner_uid);
    json_open(&j, "ram");
    json_text(&j, "backend", name_of(RAMS, N_RAMS, s->ram));
    json_text(&j, "why", s->why[0] ? s->why : NULL);
    json_text(&j, "swap", name_of(SWAP_WORDS, N_SWAPS, s->swap));
    json_bool(&j, "exceeds_memory", (s->warnings & WARN_RAM_EXCEEDS) != 0);
    json_close(&j);
    json_bool(&j, "no_links", (s->warnings & WARN_NO_LINKS) != 0);
    json_number(&j, "generation", (int64_t)s->generation);
    json_number(&j, "saved_at", s->saved_at);
    json_number(&j, "files", (int64_t)s->files);
    json_number(&j, "bytes", (int64_t)s->bytes);
    json_number(&j, "skipped", s->skipped);
    json_number(&j, "left_out", s->left_out);
    json_number(&j, "stale", s->stale);
    if (s->problem.word[0]) {
        json_open(&j, "problem");
        json_number(&j, "code", s->problem.code);
        json_text(&j, "word", s->problem.word);
        json_text(&j, "text", s->problem.text);
        json_close(&j);
    } else {
        json_text(&j, "problem", NULL);
    }
    json_copies(&j, list, n);
    json_close(&j);
    (void)putchar('\n');
}

/* For scripts: 0 open, 3 locked or on the way to either, 69 no vault can be used. */
static int check(const struct wire_status *s)
{
    if (s->state == VAULT_OPEN || s->state == VAULT_SAVING)
        return EX_TP_OK;
    return s->state == VAULT_ABSENT || s->state == VAULT_STOPPING ? EX_TP_UNAVAILABLE : EX_TP_LOCKED;
}

int cli_status(int argc, char **argv)
{
    struct beside *list = NULL;
    struct reply r;
    struct flags f;
    int n = 0, rc = flags_parse(argc, argv, FLAGS_STATUS, &f);

    if (rc != EX_TP_OK)
        return rc;
    client_request(REQ_STATUS, 0, &r);
    if (r.error.word[0])
        return f.check && !f.json ? r.error.code : say_error("ask for the status", &r.error);
    if (r.status.vault[0] && (f.json || !f.check))
        n = beside_list(r.status.vault, &list); /* a directory that can't be read holds nothing to tell */
    if (f.json)
        print_json(&r.status, list, n);
    else if (!f.check)
        print_text(&r.status, list, n);
    free(list);
    return f.check ? check(&r.status) : EX_TP_OK;
}
