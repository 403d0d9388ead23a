#include "open.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../init/wire.h"
#include "client.h"
#include "passphrase.h"
#include "prompt.h"

enum { TRIES = 3 };

static const char ram_exceeds[] =
    "this RAM may grow beyond what the container's memory limit leaves: make it at least 48 MiB smaller than "
    "the limit, or raise that (docker run -m)";

void open_say(const struct wire_status *s)
{
    if (s->stale)
        say("%" PRIu32 " tree%s of clear text from an earlier run %s kept aside in %s/.stale-*, and not part "
            "of this vault",
            s->stale, s->stale == 1 ? "" : "s", s->stale == 1 ? "is" : "are", run_dir());
    if (s->swap == SWAP_SWAPPABLE)
        say("this RAM is swappable: clear text may reach a swap device (see swap in tazpod(1))");
    if (s->warnings & WARN_RAM_EXCEEDS)
        say("%s", ram_exceeds);
    say("the vault is open: %" PRIu64 " file%s in %s, generation %" PRIu64, s->files,
        s->files == 1 ? "" : "s", s->secrets, s->generation);
}

/* A vault that is not there is offered where somebody can answer. 1: make one. */
static int offer(const struct wire_status *s, struct wire_error *e)
{
    char question[WIRE_PATH_MAX + 40];
    int yes = 0;

    (void)snprintf(question, sizeof question, "Create a new vault at %s? [y/N] ", s->vault);
    switch (prompt_yes(question, &yes)) {
    case PROMPT_OK:
        if (yes)
            return 1;
        wire_error_set(e, EX_TP_CANCELLED, "cancelled", "no vault was made");
        return -1;
    case PROMPT_NO_TTY:
        return 0; /* the opener's words for it are better */
    default:
        wire_error_set(e, EX_TP_CANCELLED, "cancelled", "cancelled");
        return -1;
    }
}

static bool is_missing(const char *path)
{
    struct stat sb;

    return stat(path, &sb) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* One passphrase, one attempt. */
static int attempt(const struct flags *f, bool create, struct reply *reply, struct wire_error *e)
{
    const struct request r = {
        .type = create ? REQ_CREATE : REQ_UNLOCK, .kdf_ops = f->kdf_ops, .kdf_mem_kib = f->kdf_mem_kib};
    struct secret passphrase = {0};
    int rc = -1, fd = -1, pass = -1;

    if (passphrase_get(f, create, &passphrase, e) < 0)
        return -1;
    pass = passphrase_pipe(&passphrase);
    secret_free(&passphrase);
    if (pass < 0) {
        wire_error_set(e, EX_TP_FAULT, "failed", "a pipe can't be made");
        return -1;
    }
    fd = client_connect(e);
    if (fd < 0 || client_ask(fd, r, pass, reply, e) < 0)
        goto out;
    *e = reply->error;
    rc = e->word[0] ? -1 : 0;
out:
    close(pass);
    if (fd >= 0)
        close(fd);
    return rc;
}

int open_vault(const struct flags *f, const char *what, struct wire_status *s)
{
    bool create = f->create;
    struct wire_error e;
    struct reply reply;

    client_request(REQ_STATUS, 0, &reply);
    *s = reply.status;
    if (reply.error.word[0])
        return say_error(what, &reply.error);
    if (s->state == VAULT_ABSENT)
        return say_error(what, &s->problem);
    if (s->state == VAULT_OPEN || s->state == VAULT_SAVING) {
        if (!create)
            return EX_TP_OK;
        wire_error_set(&e, EX_TP_CANT_CREATE, "exists", "a vault is open already");
        return say_error(what, &e);
    }
    if (!create && passphrase_is_typed(f) && !f->no_input && is_missing(s->vault)) {
        int answer = offer(s, &e);

        if (answer < 0)
            return say_error(what, &e);
        create = answer;
    }
    if (passphrase_is_typed(f))
        prompt_hush();
    for (int i = 1;; i++) {
        if (attempt(f, create, &reply, &e) == 0)
            break;
        if (strcmp(e.word, "wrong-passphrase") != 0 || !passphrase_is_typed(f) || i == TRIES) {
            prompt_unhush();
            return say_error(what, &e);
        }
        say("%s: try again", e.text);
    }
    prompt_unhush();
    *s = reply.status;
    return EX_TP_OK;
}
