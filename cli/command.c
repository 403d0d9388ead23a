#include "command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vault/header.h"
#include "json.h"

void say(const char *fmt, ...)
{
    va_list ap;

    (void)fputs("tazpod: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
}

static bool outcome_as_json;

/* error NULL: none. Its form is fixed in tazpod(1). */
static void print_outcome(const struct wire_error *error, uint64_t generation)
{
    struct json j = {stdout, false};

    if (!outcome_as_json)
        return;
    json_open(&j, NULL);
    json_number(&j, "version", 1);
    if (error) {
        json_open(&j, "error");
        json_number(&j, "code", error->code);
        json_text(&j, "word", error->word);
        json_text(&j, "text", error->text);
        json_close(&j);
    } else {
        json_text(&j, "error", NULL);
        json_number(&j, "generation", (int64_t)generation);
    }
    json_close(&j);
    (void)putchar('\n');
}

int say_error(const char *what, const struct wire_error *e)
{
    say("can't %s: %s [%s]", what, e->text, e->word);
    print_outcome(e, 0);
    return e->code;
}

void say_done(uint64_t generation)
{
    print_outcome(NULL, generation);
}

const char *run_dir(void)
{
    const char *dir = getenv("TAZPOD_RUN_DIR");

    return dir && *dir ? dir : "/run/tazpod";
}

static int number(const char *text, char **end, unsigned long long *v)
{
    if (*text < '0' || *text > '9')
        return -1;
    *v = strtoull(text, end, 10);
    return *v > 1u << 30 ? -1 : 0;
}

/* "16M", "1G", "65536K", each with or without iB: KiB. */
static int memory_size(const char *text, uint32_t *kib)
{
    unsigned long long v, unit;
    char *end;

    if (number(text, &end, &v) < 0)
        return -1;
    switch (*end) {
    case 'K': unit = 1; break;
    case 'M': unit = 1024; break;
    case 'G': unit = 1024 * 1024; break;
    default: return -1;
    }
    if ((end[1] && strcmp(end + 1, "iB") != 0) || v * unit > UINT32_MAX)
        return -1;
    *kib = (uint32_t)(v * unit);
    return 0;
}

/* "500ms", "2s" or "2": milliseconds, up to an hour. */
static int duration(const char *text, uint32_t *ms)
{
    unsigned long long v;
    char *end;

    if (number(text, &end, &v) < 0 || v > 3600000)
        return -1;
    if (strcmp(end, "") == 0 || strcmp(end, "s") == 0)
        v *= 1000;
    else if (strcmp(end, "ms") != 0)
        return -1;
    *ms = (uint32_t)v;
    return v >= 1 && v <= 3600000 ? 0 : -1;
}

static int whole_number(const char *value, unsigned long long most, int *to)
{
    unsigned long long v;
    char *end;

    if (number(value, &end, &v) < 0 || *end || v > most)
        return -1;
    *to = (int)v;
    return 0;
}

/* Flags whose value is a text. NULL: no such flag. */
static const char **text_flag(struct flags *f, unsigned allowed, const char *name)
{
    if ((allowed & FLAGS_PASSPHRASE) && strcmp(name, "--passphrase-file") == 0)
        return &f->passphrase_file;
    if ((allowed & FLAGS_FRESH) && strcmp(name, "--new-passphrase-file") == 0)
        return &f->new_passphrase_file;
    if ((allowed & FLAGS_CREDENTIAL) && strcmp(name, "--identity-file") == 0)
        return &f->identity_file;
    if ((allowed & FLAGS_LABEL) && strcmp(name, "--label") == 0)
        return &f->label;
    if ((allowed & FLAGS_LABEL) && strcmp(name, "--recipient") == 0)
        return &f->recipient;
    return NULL;
}

static int set_flag(struct flags *f, unsigned allowed, const char *name, const char *value)
{
    const char **text = text_flag(f, allowed, name);
    unsigned long long v;
    char *end;

    if (text) {
        *text = value;
        return 0;
    }
    if ((allowed & FLAGS_PASSPHRASE) && strcmp(name, "--passphrase-fd") == 0)
        return whole_number(value, 1 << 20, &f->passphrase_fd);
    if ((allowed & FLAGS_FRESH) && strcmp(name, "--new-passphrase-fd") == 0)
        return whole_number(value, 1 << 20, &f->new_passphrase_fd);
    if ((allowed & FLAGS_SLOT) && strcmp(name, "--slot") == 0)
        return whole_number(value, HEADER_SLOTS_MAX - 1, &f->slot);
    if ((allowed & FLAGS_TIMEOUT) && strcmp(name, "--timeout") == 0)
        return duration(value, &f->timeout_ms);
    if ((allowed & (FLAGS_CREATE | FLAGS_COST)) && strcmp(name, "--kdf-memory") == 0)
        return memory_size(value, &f->kdf_mem_kib);
    if ((allowed & (FLAGS_CREATE | FLAGS_COST)) && strcmp(name, "--kdf-time") == 0) {
        if (number(value, &end, &v) < 0 || *end)
            return -1;
        f->kdf_ops = (uint32_t)v;
        return 0;
    }
    return -1;
}

static int usage(const char *verb, const char *word)
{
    say("%s: don't know what to make of %s: see tazpod help", verb, word);
    return EX_TP_USAGE;
}

/* Costs that no reader would accept are refused before a passphrase is asked for. */
static int check_cost(const struct flags *f, unsigned allowed)
{
    uint32_t ops = f->kdf_ops ? f->kdf_ops : KDF_OPS_DEFAULT;
    uint32_t mem = f->kdf_mem_kib ? f->kdf_mem_kib : KDF_MEM_KIB_DEFAULT;

    if ((f->kdf_ops || f->kdf_mem_kib) && !f->create && !(allowed & FLAGS_COST)) {
        say("--kdf-time and --kdf-memory go with --create");
        return EX_TP_USAGE;
    }
    if (!header_cost_valid(ops, mem)) {
        say("the key derivation takes 1 to 16 passes (--kdf-time) over 8M to 1G (--kdf-memory), 4G in all");
        return EX_TP_USAGE;
    }
    return EX_TP_OK;
}

int flags_parse(int argc, char **argv, unsigned allowed, struct flags *f)
{
    memset(f, 0, sizeof *f);
    f->passphrase_fd = f->new_passphrase_fd = f->slot = -1;
    for (int i = 1; i < argc; i++) {
        char name[32], *equals = strchr(argv[i], '=');

        bool *alone = NULL; /* a flag without a value */

        if ((allowed & FLAGS_CREATE) && strcmp(argv[i], "--create") == 0)
            alone = &f->create;
        if ((allowed & FLAGS_CREATE) && strcmp(argv[i], "--accept-older") == 0)
            alone = &f->accept_older;
        if ((allowed & FLAGS_PASSPHRASE) && strcmp(argv[i], "--no-input") == 0)
            alone = &f->no_input;
        if ((allowed & FLAGS_LOCK) && strcmp(argv[i], "--force") == 0)
            alone = &f->force;
        if ((allowed & FLAGS_CREDENTIAL) && strcmp(argv[i], "--recovery") == 0)
            alone = &f->recovery;
        if ((allowed & FLAGS_COST) && strcmp(argv[i], "--weaker") == 0)
            alone = &f->weaker;
        if ((allowed & FLAGS_REKEY) && strcmp(argv[i], "--drop-history") == 0)
            alone = &f->drop_history;
        if ((allowed & (FLAGS_STATUS | FLAGS_JSON | FLAGS_OUTCOME)) && strcmp(argv[i], "--json") == 0)
            alone = &f->json;
        if ((allowed & FLAGS_STATUS) && strcmp(argv[i], "--check") == 0)
            alone = &f->check;
        if (alone) {
            *alone = true;
            continue;
        }
        if (equals && (size_t)(equals - argv[i]) < sizeof name) {
            memcpy(name, argv[i], (size_t)(equals - argv[i]));
            name[equals - argv[i]] = '\0';
            if (set_flag(f, allowed, name, equals + 1) < 0)
                return usage(argv[0], argv[i]);
        } else if (i + 1 < argc && set_flag(f, allowed, argv[i], argv[i + 1]) == 0) {
            i++;
        } else {
            return usage(argv[0], argv[i]);
        }
    }
    outcome_as_json = f->json && (allowed & FLAGS_OUTCOME);
    return check_cost(f, allowed);
}
