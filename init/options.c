#include "options.h"

#include <stdlib.h>
#include <string.h>

#include "number.h"

/* "500ms", "8s" or "8": milliseconds within the bounds, or -1. */
static int64_t duration(const char *text)
{
    int64_t v = number_read(&text, TIMEOUT_MOST_MS);

    if (v < 0)
        return -1;
    if (strcmp(text, "") == 0 || strcmp(text, "s") == 0)
        v *= 1000;
    else if (strcmp(text, "ms") != 0)
        return -1;
    return v >= TIMEOUT_LEAST_MS && v <= TIMEOUT_MOST_MS ? v : -1;
}

/* "64M", "1G", "65536K", each with or without iB: bytes from 1M to 64G, or -1. */
static int64_t size(const char *text)
{
    int64_t v = number_read(&text, 64 << 20); /* 64G in the smallest unit */

    if (v < 0 || (*text && text[1] && strcmp(text + 1, "iB") != 0))
        return -1;
    switch (*text) {
    case 'K': v <<= 10; break;
    case 'M': v <<= 20; break;
    case 'G': v <<= 30; break;
    default: return -1;
    }
    return v >= (int64_t)1 << 20 && v <= (int64_t)64 << 30 ? v : -1;
}

/* A uid that may own a vault: never 0. */
static int64_t uid(const char *text)
{
    int64_t v = number_read(&text, 0xfffffffe);

    return v <= 0 || *text ? -1 : v;
}

static int backend(const char *text, enum ram_backend *b)
{
    if (strcmp(text, "auto") == 0)
        *b = BACKEND_AUTO;
    else if (strcmp(text, "own") == 0)
        *b = BACKEND_OWN;
    else if (strcmp(text, "given") == 0)
        *b = BACKEND_GIVEN;
    else
        return -1;
    return 0;
}

static int log_format(const char *text, bool *json)
{
    *json = strcmp(text, "json") == 0;
    return *json || strcmp(text, "text") == 0 ? 0 : -1;
}

/* Once said, it stays: a later source can't unset it. */
static int require(const char *text, bool *flag)
{
    if (strcmp(text, "yes") == 0)
        *flag = true;
    return strcmp(text, "yes") == 0 || strcmp(text, "no") == 0 ? 0 : -1;
}

/* "FROM:TO[,FROM:TO...]", TO 0 for dropped. */
static int rewrite(const char *text, uint8_t table[SIGNAL_MAX + 1])
{
    while (*text) {
        const char *colon = strchr(text, ':');
        const char *end = text + strcspn(text, ",");
        char from[12], to[12];
        int a, b;

        if (!colon || colon > end || (size_t)(colon - text) >= sizeof from || (size_t)(end - colon) > sizeof to)
            return -1;
        memcpy(from, text, (size_t)(colon - text));
        from[colon - text] = '\0';
        memcpy(to, colon + 1, (size_t)(end - colon - 1));
        to[end - colon - 1] = '\0';
        a = signals_number(from);
        b = strcmp(to, "0") == 0 ? 0 : signals_number(to);
        if (a < 0 || b < 0)
            return -1;
        table[a] = (uint8_t)(b + 1);
        text = end + (*end == ',');
        if (*end == ',' && !*text)
            return -1;
    }
    return 0;
}

/* "N[,N...]", each an exit status. */
static int remap(const char *text, uint8_t bits[32])
{
    for (;;) {
        int64_t v = number_read(&text, 255);

        if (v < 0 || (*text && *text != ','))
            return -1;
        bits[v / 8] |= (uint8_t)(1u << v % 8);
        if (!*text++)
            return 0;
    }
}

static int yes(const char *text, bool *flag)
{
    *flag = strcmp(text, "yes") == 0;
    return *flag || strcmp(text, "no") == 0 ? 0 : -1;
}

static int verbosity(const char *text, int *v)
{
    if (text[0] < '0' || text[0] > '9' || text[1])
        return -1;
    *v = text[0] - '0';
    return 0;
}

static int set(struct options *o, const char *name, const char *value)
{
    bool ignored;

    if (strcmp(name, "vault") == 0)
        o->vault = value;
    else if (strcmp(name, "run-dir") == 0)
        o->run_dir = value, o->run_dir_named = true;
    else if (strcmp(name, "backend") == 0)
        return o->backend_named = true, backend(value, &o->backend);
    else if (strcmp(name, "ram-size") == 0)
        return (o->ram_size = size(value)) < 0 ? -1 : 0;
    else if (strcmp(name, "log-format") == 0)
        return o->log_json_named = true, log_format(value, &o->log_json);
    else if (strcmp(name, "require-noswap") == 0)
        return require(value, &o->require_noswap);
    else if (strcmp(name, "program") == 0)
        o->program = value;
    else if (strcmp(name, "owner") == 0)
        return (o->owner = uid(value)) < 0 ? -1 : 0;
    else if (strcmp(name, "stop-timeout") == 0)
        return (o->stop_timeout_ms = duration(value)) < 0 ? -1 : 0;
    else if (strcmp(name, "worker-timeout") == 0)
        return (o->worker_timeout_ms = duration(value)) < 0 ? -1 : 0;
    else if (strcmp(name, "lock-wait") == 0)
        return (o->lock_wait_ms = duration(value)) < 0 ? -1 : 0;
    else if (strcmp(name, "rewrite") == 0)
        return rewrite(value, o->rewrite);
    else if (strcmp(name, "remap-exit") == 0)
        return remap(value, o->remap);
    else if (strcmp(name, "group") == 0)
        return yes(value, &o->group);
    else if (strcmp(name, "warn") == 0)
        return yes(value, &o->warn);
    else if (strcmp(name, "subreaper") == 0) /* it always is where it is not process 1 */
        return yes(value, &ignored);
    else if (strcmp(name, "parent-death") == 0)
        return (o->parent_death = signals_number(value)) < 0 ? -1 : 0;
    else if (strcmp(name, "verbose") == 0)
        return verbosity(value, &o->verbose);
    else
        return -1;
    return 0;
}

static const struct {
    const char *variable, *name;
} VARIABLES[] = {
    {"TAZPOD_VAULT", "vault"},
    {"TAZPOD_RUN_DIR", "run-dir"},
    {"TAZPOD_BACKEND", "backend"},
    {"TAZPOD_REQUIRE_NOSWAP", "require-noswap"},
    {"TAZPOD_RAM_SIZE", "ram-size"},
    {"TAZPOD_LOG_FORMAT", "log-format"},
    {"TAZPOD_PROGRAM", "program"},
    {"TAZPOD_OWNER", "owner"},
    {"TAZPOD_STOP_TIMEOUT", "stop-timeout"},
    {"TAZPOD_WORKER_TIMEOUT", "worker-timeout"},
    {"TAZPOD_LOCK_WAIT", "lock-wait"},
    {"TAZPOD_REWRITE", "rewrite"},
    {"TAZPOD_REMAP_EXIT", "remap-exit"},
    {"TAZPOD_GROUP", "group"},
    {"TAZPOD_WARN", "warn"},
    {"TAZPOD_SUBREAPER", "subreaper"},
    {"TAZPOD_PARENT_DEATH", "parent-death"},
    {"TAZPOD_VERBOSE", "verbose"},
};

static int from_environment(struct options *o, const char **bad)
{
    for (size_t i = 0; i < sizeof VARIABLES / sizeof *VARIABLES; i++) {
        const char *value = getenv(VARIABLES[i].variable);

        if (value && *value && set(o, VARIABLES[i].name, value) < 0) {
            *bad = VARIABLES[i].variable;
            return -1;
        }
    }
    return 0;
}

/* tini's, one letter each, also several behind one sign; a value is the rest of the word or the next
 * word. *i moves past what was used. */
static int short_options(struct options *o, int argc, char **argv, int *i)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        const char *value = p[1] ? p + 1 : *i + 1 < argc ? argv[*i + 1] : NULL;

        switch (*p) {
        case 'h': o->help = true; break;
        case 'l': o->license = true; break;
        case 's': break;
        case 'g': o->group = true; break;
        case 'w': o->warn = true; break;
        case 'v': o->verbose++; break;
        case 'e':
        case 'p':
            if (!value || set(o, *p == 'e' ? "remap-exit" : "parent-death", value) < 0)
                return -1;
            *i += p[1] == '\0';
            return 0;
        default: return -1;
        }
    }
    return argv[*i][1] ? 0 : -1;
}

/* "--name=value" or "--name value"; *i moves past what was used. */
static int long_option(struct options *o, int argc, char **argv, int *i)
{
    const char *arg = argv[*i] + 2, *equals = strchr(arg, '=');
    char name[24];
    size_t n = equals ? (size_t)(equals - arg) : strlen(arg);

    if (n >= sizeof name)
        return -1;
    memcpy(name, arg, n);
    name[n] = '\0';
    if (strcmp(name, "help") == 0 || strcmp(name, "version") == 0) {
        *(name[0] == 'h' ? &o->help : &o->version) = true;
        return equals ? -1 : 0;
    }
    if (equals)
        return set(o, name, equals + 1);
    if (*i + 1 >= argc)
        return -1;
    return set(o, name, argv[++*i]);
}

int options_rewritten(const struct options *o, int sig)
{
    return o->rewrite[sig] ? o->rewrite[sig] - 1 : sig;
}

bool options_remapped(const struct options *o, int status)
{
    return status >= 0 && status <= 255 && (o->remap[status / 8] >> status % 8 & 1);
}

int options_parse(int argc, char **argv, struct options *o, const char **bad)
{
    int i = 1;

    memset(o, 0, sizeof *o);
    o->run_dir = DEFAULT_RUN_DIR;
    o->owner = -1;
    /* tini's own variables, so that it can be put in tini's place. */
    o->group = getenv("TINI_KILL_PROCESS_GROUP") != NULL;
    if (getenv("TINI_VERBOSITY") && verbosity(getenv("TINI_VERBOSITY"), &o->verbose) == 0 && o->verbose > 0)
        o->verbose--; /* there 1 is where here is 0 */
    if (from_environment(o, bad) < 0)
        return -1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        int at = i;

        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if ((argv[i][1] == '-' ? long_option : short_options)(o, argc, argv, &i) < 0) {
            *bad = argv[at];
            return -1;
        }
    }
    o->command = argv + (i < argc ? i : argc);
    return 0;
}
