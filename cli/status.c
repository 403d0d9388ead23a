#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "client.h"
#include "command.h"

static const char *const STATES[] = {"absent", "locked", "opening", "open", "saving", "locking", "stopping"};

static const char *const SWAPS[] = {"unknown", "noswap", "no: the machine has none", "no: the container may use none",
                                    "swappable: clear text may reach a swap device"};

static void print_time(int64_t at)
{
    time_t t = (time_t)at;
    struct tm tm;
    char text[40];

    if (at > 0 && gmtime_r(&t, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
        (void)printf("saved       %s\n", text);
}

int cli_status(int argc, char **argv)
{
    const struct wire_status *s;
    struct reply r;
    struct flags f;
    int rc = flags_parse(argc, argv, FLAGS_NONE, &f);

    if (rc != EX_TP_OK)
        return rc;
    client_request(REQ_STATUS, &r);
    if (r.error.word[0])
        return say_error("ask for the status", &r.error);
    s = &r.status;
    (void)printf("vault       %s\n", s->vault);
    (void)printf("state       %s\n", s->state < sizeof STATES / sizeof *STATES ? STATES[s->state] : "unknown");
    (void)printf("secrets     %s\n", s->secrets);
    (void)printf("ram         %s%s%s\n", s->ram == RAM_GIVEN ? "given" : s->ram == RAM_OWN ? "own" : "none",
                 s->why[0] ? ": " : "", s->why);
    if (s->swap)
        (void)printf("swap        %s\n", s->swap <= SWAP_SWAPPABLE ? SWAPS[s->swap] : "unknown");
    if (s->generation) {
        (void)printf("generation  %" PRIu64 "\n", s->generation);
        print_time(s->saved_at);
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
    return EX_TP_OK;
}
