#include "open.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../init/wire.h"
#include "client.h"
#include "credential.h"
#include "prompt.h"
#include "recovery.h"
#include "rewrite.h"

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

/* The credentials of one attempt. A vault that is made at a terminal gets a recovery code with it. */
static int get_credentials(const struct flags *f, struct order *o, char code[CODE_TEXT_MAX], struct wire_error *e)
{
    struct flags fresh = *f;

    if (o->op == ORDER_OPEN)
        return credential_get(f, &o->current, e);
    fresh.new_passphrase_file = f->passphrase_file;
    fresh.new_passphrase_fd = f->passphrase_fd;
    if (credential_new_passphrase(&fresh, &o->current, e) < 0)
        return -1;
    if (credential_is_typed(f))
        credential_new_recovery(&o->fresh, code);
    return 0;
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

/* One passphrase, one attempt. The order is what was sent, if it was. */
static int attempt(const struct flags *f, bool create, struct secret *order, char code[CODE_TEXT_MAX], struct reply *reply,
                   struct wire_error *e)
{
    const struct request r = {
        .type = create ? REQ_CREATE : REQ_UNLOCK, .kdf_ops = f->kdf_ops, .kdf_mem_kib = f->kdf_mem_kib};
    int rc;

    secret_free(order);
    if (order_new(order, create ? ORDER_CREATE : ORDER_OPEN) < 0) {
        wire_error_set(e, EX_TP_FAULT, "failed", "out of memory");
        return -1;
    }
    if (get_credentials(f, order_of(order), code, e) < 0)
        return -1;
    if (f->accept_older && !create)
        order_of(order)->flags = ORDER_ACCEPT_OLDER;
    rc = order_request(&r, order, reply, e);
    if (rc < 0 && takes_older(f, e)) { /* with the credential that is here */
        order_of(order)->flags = ORDER_ACCEPT_OLDER;
        rc = order_request(&r, order, reply, e);
    }
    return rc;
}

static bool may_try_again(const struct flags *f, const struct wire_error *e)
{
    return credential_is_typed(f) &&
           (strcmp(e->word, "wrong-passphrase") == 0 || strcmp(e->word, "wrong-recovery-code") == 0);
}

/* The hint in brackets is for who gives up. */
static void say_again(const struct wire_error *e)
{
    const char *hint = strstr(e->text, " (");

    say("%.*s: try again", (int)(hint ? (size_t)(hint - e->text) : strlen(e->text)), e->text);
}

/* Up to so many tries where somebody types. An exit status. */
static int try(const struct flags *f, bool create, const char *what, struct wire_status *s)
{
    char code[CODE_TEXT_MAX] = "";
    struct secret order = {0};
    struct wire_error e;
    struct reply reply;
    int rc = EX_TP_OK;

    if (credential_is_typed(f))
        prompt_hush();
    for (int i = 1; attempt(f, create, &order, code, &reply, &e) < 0; i++) {
        if (!may_try_again(f, &e) || i == TRIES) {
            prompt_unhush();
            rc = say_error(what, &e);
            goto out;
        }
        say_again(&e);
    }
    prompt_unhush();
    *s = reply.status;
    if (code[0])
        recovery_show(code);
    else if (!create)
        rc = recovery_offer(f, s->vault, &order);
out:
    secret_wipe(code, sizeof code);
    secret_free(&order);
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
    if (!create && credential_is_typed(f) && !f->recovery && !f->no_input && is_missing(s->vault)) {
        int answer = offer(s, &e);

        if (answer < 0)
            return say_error(what, &e);
        create = answer;
    }
    return try(f, create, what, s);
}
