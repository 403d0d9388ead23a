#include "open.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../init/wire.h"
#include "client.h"
#include "order.h"
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

/* The passphrase as it is, or in an order, which can say more. The reading end of a pipe, -1. */
static int pass_on(const struct secret *passphrase, bool accept_older)
{
    struct secret s = {0};
    struct order *o;
    int fd;

    if (!accept_older)
        return passphrase_pipe(passphrase);
    if (order_new(&s, ORDER_OPEN) < 0)
        return -1;
    o = order_of(&s);
    o->flags = ORDER_ACCEPT_OLDER;
    order_passphrase(&o->current, passphrase);
    fd = passphrase_pipe(&s);
    secret_free(&s);
    return fd;
}

/* One passphrase, one attempt. It is asked for unless it is here already, from an attempt that a question
 * came out of. */
static int attempt(const struct flags *f, bool create, bool accept_older, struct secret *passphrase, struct reply *reply,
                   struct wire_error *e)
{
    const struct request r = {
        .type = create ? REQ_CREATE : REQ_UNLOCK, .kdf_ops = f->kdf_ops, .kdf_mem_kib = f->kdf_mem_kib};
    int rc = -1, fd = -1, pass = -1;

    if (!passphrase->data && passphrase_get(f, create, passphrase, e) < 0)
        return -1;
    pass = pass_on(passphrase, accept_older && !create);
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

/* An older file than the last one seen: whoever sits at the terminal may know why. */
static bool takes_older(const struct flags *f, const struct wire_error *e)
{
    int yes = 0;

    if (strcmp(e->word, "older") != 0 || f->no_input || f->accept_older)
        return false;
    say("%s", e->text);
    return prompt_yes("Open the older file? [y/N] ", &yes) == PROMPT_OK && yes;
}

int open_vault(const struct flags *f, const char *what, struct wire_status *s)
{
    bool create = f->create, accept_older = f->accept_older;
    struct secret passphrase = {0};
    struct wire_error e;
    struct reply reply;
    int rc = EX_TP_OK;

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
        if (attempt(f, create, accept_older, &passphrase, &reply, &e) == 0)
            break;
        if (!accept_older && takes_older(f, &e)) {
            accept_older = true;
            continue; /* with the passphrase that is here */
        }
        secret_free(&passphrase);
        if (strcmp(e.word, "wrong-passphrase") != 0 || !passphrase_is_typed(f) || i >= TRIES) {
            rc = say_error(what, &e);
            break;
        }
        say("%s: try again", e.text);
    }
    secret_free(&passphrase);
    prompt_unhush();
    if (rc == EX_TP_OK)
        *s = reply.status;
    return rc;
}
