/* key - the slots of a vault: who can open it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../init/wire.h"
#include "../vault/base/io.h"
#include "client.h"
#include "command.h"
#include "credential.h"
#include "json.h"
#include "meanwhile.h"
#include "plain.h"
#include "prompt.h"
#include "recovery.h"
#include "rewrite.h"

static const char *const TYPES[] = {"empty", "passphrase", "recovery", "identity"};

/* Where the vault is: PID 1 says, or where nobody answers, the place it is in by default. */
static void vault_path(char path[WIRE_PATH_MAX])
{
    struct reply r;

    client_request(REQ_STATUS, 0, &r);
    (void)snprintf(path, WIRE_PATH_MAX, "%s", r.error.word[0] || !r.status.vault[0] ? DEFAULT_VAULT : r.status.vault);
}

/* --- list --- */

static void recipient_text(const struct slot *s, char text[CODE_TEXT_MAX])
{
    code_write(RECIPIENT_CONTEXT, s->recipient, SLOT_RECIPIENT, text);
}

static void print_slot(const struct slot *s)
{
    char text[CODE_TEXT_MAX], label[SLOT_LABEL + 1];

    (void)plain(s->label, SLOT_LABEL, label); /* nothing has proven this header */

    if (s->type == SLOT_IDENTITY) {
        recipient_text(s, text);
        (void)printf("%u  %-10s  %s  %s%s\n", s->index, TYPES[s->type], label, RECIPIENT_PREFIX, text);
        return;
    }
    (void)printf("%u  %-10s  %s  %u passes over %u MiB\n", s->index, TYPES[s->type], label, s->ops, s->mem_kib / 1024);
}

static void print_slots_json(const struct header *h)
{
    struct json j = {stdout, false};

    json_open(&j, NULL);
    json_number(&j, "version", 1);
    for (unsigned i = 0; i < h->nslots; i++) {
        const struct slot *s = &h->slots[i];
        char label[SLOT_LABEL + 1] = {0}, text[sizeof RECIPIENT_PREFIX + CODE_TEXT_MAX] = RECIPIENT_PREFIX, name[2] = {0};

        if (s->type == SLOT_EMPTY)
            continue;
        name[0] = (char)('0' + i);
        memcpy(label, s->label, SLOT_LABEL);
        recipient_text(s, text + strlen(RECIPIENT_PREFIX));
        json_open(&j, name);
        json_text(&j, "type", TYPES[s->type]);
        json_text(&j, "label", label);
        json_number(&j, "kdf_time", s->ops);
        json_number(&j, "kdf_memory", (int64_t)s->mem_kib * 1024);
        json_text(&j, "recipient", s->type == SLOT_IDENTITY ? text : NULL);
        json_close(&j);
    }
    json_close(&j);
    (void)putchar('\n');
}

static int key_list(const struct flags *f)
{
    char path[WIRE_PATH_MAX];
    struct wire_error e;
    struct header h;

    vault_path(path);
    if (header_of_file(path, &h, &e) < 0)
        return say_error("list the key slots", &e);
    if (f->json)
        print_slots_json(&h);
    for (unsigned i = 0; !f->json && i < h.nslots; i++)
        if (h.slots[i].type != SLOT_EMPTY)
            print_slot(&h.slots[i]);
    return EX_TP_OK;
}

/* --- what changes the vault --- */

/* Words that a person at a terminal can answer with yes, and the flag that says so from the start. */
static int confirmed(const struct flags *f, const struct wire_error *e)
{
    char question[WIRE_TEXT_MAX + 32];
    int yes = 0;

    if (f->no_input || (strcmp(e->word, "last-slot") != 0 && strcmp(e->word, "own-slot") != 0 &&
                        strcmp(e->word, "drops-slots") != 0))
        return 0;
    (void)snprintf(question, sizeof question, "%s\nGo on? [y/N] ", e->text);
    return prompt_yes(question, &yes) == PROMPT_OK && yes;
}

static int rewrite_or_ask(const struct flags *f, struct secret *order, struct reply *reply, struct wire_error *e)
{
    int rc;

    if (credential_is_typed(f))
        prompt_hush();
    rc = rewrite_request(order, reply, e);
    prompt_unhush();
    if (rc < 0 && confirmed(f, e)) {
        order_of(order)->flags |= ORDER_LAST;
        rc = rewrite_request(order, reply, e);
    }
    return rc;
}

/* Under a new data key process 1 must not have the old one: it would take the file for somebody else's, if the
 * rewriter died before its answer. */
static int send_order(const struct flags *f, struct secret *order, const char *what, struct reply *reply)
{
    struct locked_meanwhile m = {0};
    bool rekey = order_of(order)->op == ORDER_REKEY;
    struct secret open = {0};
    struct wire_error e;
    int rc = 0;

    if (rekey && order_new(&open, ORDER_OPEN) < 0) {
        say("out of memory");
        return EX_TP_FAULT;
    }
    if (rekey) {
        order_of(&open)->current = order_of(order)->current;
        rc = meanwhile_begin(&m, &open, false, true, &e);
    }
    if (rc == 0) {
        rc = rewrite_or_ask(f, order, reply, &e);
        rc = meanwhile_end(&m, &open, rc, &e);
    }
    secret_free(&open);
    return rc < 0 ? say_error(what, &e) : EX_TP_OK;
}

static const char *verb_text(enum order_op op)
{
    switch (op) {
    case ORDER_ADD: return "add a key slot";
    case ORDER_REMOVE: return "remove the key slot";
    case ORDER_REKEY: return "change the data key";
    default: return "change the key slot";
    }
}

static int label_into(const struct flags *f, struct order *o)
{
    if (!f->label)
        return EX_TP_OK;
    if (strlen(f->label) > SLOT_LABEL) {
        say("a label has at most %d bytes", SLOT_LABEL);
        return EX_TP_USAGE;
    }
    memcpy(o->label, f->label, strlen(f->label));
    if (header_label_valid(o->label))
        return EX_TP_OK;
    say("a label is plain text in UTF-8");
    return EX_TP_USAGE;
}

static struct order *new_order(const struct flags *f, enum order_op op, struct secret *s)
{
    struct order *o;

    if (order_new(s, op) < 0) {
        say("out of memory");
        return NULL;
    }
    o = order_of(s);
    o->kdf_ops = f->kdf_ops;
    o->kdf_mem_kib = f->kdf_mem_kib;
    o->slot = f->slot < 0 ? ORDER_NO_SLOT : (uint8_t)f->slot;
    o->flags = (uint8_t)((f->weaker ? ORDER_WEAKER : 0) | (f->force ? ORDER_LAST : 0) |
                         (f->drop_history ? ORDER_DROP_HISTORY : 0));
    return o;
}

/* The vault's passphrase first, then the new one: as every program that changes one asks. */
static int get_credentials(const struct flags *f, struct order *o, const char *what)
{
    bool fresh = (o->op == ORDER_ADD && !f->recipient) || o->op == ORDER_PASSWD;
    struct wire_error e;

    if (f->recipient && credential_recipient(f->recipient, &o->fresh, &e) < 0)
        return say_error(what, &e);
    if (credential_get(f, &o->current, &e) < 0)
        return say_error(what, &e);
    if (fresh && credential_new_passphrase(f, &o->fresh, &e) < 0)
        return say_error(what, &e);
    return EX_TP_OK;
}

/* Whether the vault has a recovery code, which a new data key takes with it. */
static bool has_recovery(void)
{
    char path[WIRE_PATH_MAX];
    struct wire_error e;
    struct header h;

    vault_path(path);
    return header_of_file(path, &h, &e) == 0 && recovery_there(&h);
}

static int change(const struct flags *f, enum order_op op)
{
    const char *what = verb_text(op);
    char code[CODE_TEXT_MAX] = "";
    struct secret s = {0};
    struct reply reply;
    struct order *o = new_order(f, op, &s);
    int rc = o ? label_into(f, o) : EX_TP_FAULT;

    if (rc == EX_TP_OK)
        rc = get_credentials(f, o, what);
    if (rc == EX_TP_OK && op == ORDER_REKEY && o->current.type != SLOT_RECOVERY && has_recovery())
        credential_new_recovery(&o->fresh, code);
    if (rc == EX_TP_OK)
        rc = send_order(f, &s, what, &reply);
    if (rc == EX_TP_OK)
        say("done: generation %" PRIu64 "%s", reply.status.generation,
            op == ORDER_REKEY && !f->drop_history
                ? "; the earlier generations still open with the old key (--drop-history deletes them)"
                : op == ORDER_PASSWD ? "; the earlier generations still open with the old passphrase" : "");
    if (rc == EX_TP_OK && code[0])
        recovery_show(code);
    if (rc == EX_TP_OK)
        say_done(reply.status.generation);
    secret_wipe(code, sizeof code);
    secret_free(&s);
    return rc;
}

static int key_recovery(const struct flags *f)
{
    struct secret s = {0};
    struct order *o = new_order(f, ORDER_PASSWD, &s);
    struct wire_error e;
    int rc = EX_TP_FAULT;

    if (o && credential_get(f, &o->current, &e) < 0)
        rc = say_error("make a recovery code", &e);
    else if (o)
        rc = recovery_make(&s);
    secret_free(&s);
    return rc;
}

/* --- a pair of keys for a machine --- */

static int write_identity(const char *path, const char *secret, const char *public_key)
{
    char text[512];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), rc = 0;
    int n = snprintf(text, sizeof text, "# " RECIPIENT_PREFIX "%s\n" IDENTITY_PREFIX "%s\n", public_key, secret);

    if (fd < 0 || io_write(fd, text, (size_t)n) < 0 || fsync(fd) < 0)
        rc = -1;
    if (rc < 0)
        say("can't write %s: %s", path, strerror(errno));
    secret_wipe(text, sizeof text);
    if (fd >= 0)
        close(fd);
    if (rc < 0 && fd >= 0)
        (void)unlink(path);
    return rc;
}

static int key_new_identity(const char *path)
{
    char secret[CODE_TEXT_MAX], public_key[CODE_TEXT_MAX];
    uint8_t recipient[SLOT_RECIPIENT];
    struct secret s = {0};
    int rc;

    if (secret_new(&s, IDENTITY_KEY) < 0) {
        say("out of memory");
        return EX_TP_FAULT;
    }
    kdf_new_identity(recipient, &s);
    code_write(IDENTITY_CONTEXT, s.data, IDENTITY_KEY, secret);
    code_write(RECIPIENT_CONTEXT, recipient, SLOT_RECIPIENT, public_key);
    rc = write_identity(path, secret, public_key);
    if (rc == 0)
        (void)printf(RECIPIENT_PREFIX "%s\n", public_key);
    secret_wipe(secret, sizeof secret);
    secret_free(&s);
    return rc < 0 ? EX_TP_CANT_CREATE : EX_TP_OK;
}

/* --- the verb --- */

static const struct sub {
    const char *name;
    unsigned flags;
    int operand; /* 1: a slot's number, 2: a file */
    enum order_op op;
} SUBS[] = {
    {"list", FLAGS_JSON, 0, 0},
    {"add", FLAGS_OUTCOME | FLAGS_PASSPHRASE | FLAGS_CREDENTIAL | FLAGS_FRESH | FLAGS_LABEL | FLAGS_COST, 0, ORDER_ADD},
    {"remove", FLAGS_OUTCOME | FLAGS_PASSPHRASE | FLAGS_CREDENTIAL | FLAGS_LOCK, 1, ORDER_REMOVE},
    {"passwd", FLAGS_OUTCOME | FLAGS_PASSPHRASE | FLAGS_CREDENTIAL | FLAGS_FRESH | FLAGS_SLOT | FLAGS_COST, 0, ORDER_PASSWD},
    {"rekey", FLAGS_PASSPHRASE | FLAGS_CREDENTIAL | FLAGS_REKEY | FLAGS_LOCK, 0, ORDER_REKEY},
    {"recovery", FLAGS_PASSPHRASE | FLAGS_CREDENTIAL, 0, 0},
    {"new-identity", FLAGS_NONE, 2, 0},
};

int cli_key(int argc, char **argv)
{
    const struct sub *sub = NULL;
    const char *operand = NULL;
    struct flags f;
    int rc;

    for (size_t i = 0; argc > 1 && i < sizeof SUBS / sizeof *SUBS; i++)
        if (strcmp(argv[1], SUBS[i].name) == 0)
            sub = &SUBS[i];
    if (!sub) {
        say("key: list, add, remove N, passwd, rekey, recovery or new-identity FILE: see tazpod help");
        return EX_TP_USAGE;
    }
    argc--;
    argv++;
    if (sub->operand) {
        if (argc < 2 || argv[1][0] == '-') {
            say("key %s: which %s?", sub->name, sub->operand == 1 ? "slot? Its number stands in tazpod key list" : "file");
            return EX_TP_USAGE;
        }
        operand = argv[1];
        argv[1] = argv[0];
        argc--;
        argv++;
    }
    rc = flags_parse(argc, argv, sub->flags, &f);
    if (rc != EX_TP_OK)
        return rc;
    if (sub->operand == 2)
        return key_new_identity(operand);
    if (sub->operand == 1) {
        if (operand[0] < '0' || operand[0] >= '0' + HEADER_SLOTS_MAX || operand[1]) {
            say("key %s: a slot is a number from 0 to %d: see tazpod key list", sub->name, HEADER_SLOTS_MAX - 1);
            return EX_TP_USAGE;
        }
        f.slot = operand[0] - '0';
    }
    if (sub->op)
        return change(&f, sub->op);
    return strcmp(sub->name, "list") == 0 ? key_list(&f) : key_recovery(&f);
}
