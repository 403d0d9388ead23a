#include "options.h"

#include <stdlib.h>
#include <string.h>

/* "500ms", "8s" or "8": milliseconds within the bounds, or -1. */
static int64_t duration(const char *text)
{
    const char *p = text;
    int64_t v = 0;

    for (; *p >= '0' && *p <= '9' && v <= TIMEOUT_MOST_MS; p++)
        v = 10 * v + (*p - '0');
    if (p == text)
        return -1;
    if (strcmp(p, "") == 0 || strcmp(p, "s") == 0)
        v *= 1000;
    else if (strcmp(p, "ms") != 0)
        return -1;
    return v >= TIMEOUT_LEAST_MS && v <= TIMEOUT_MOST_MS ? v : -1;
}

/* "64M", "1G", "65536K", each with or without iB: bytes from 1M to 64G, or -1. */
static int64_t size(const char *text)
{
    const char *p = text;
    int64_t v = 0;

    for (; *p >= '0' && *p <= '9' && v < 100000000; p++) /* nine digits: times 1G they still fit */
        v = 10 * v + (*p - '0');
    if (p == text || (*p && p[1] && strcmp(p + 1, "iB") != 0))
        return -1;
    switch (*p) {
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
    const char *p = text;
    int64_t v = 0;

    for (; *p >= '0' && *p <= '9' && v <= 0xfffffffe; p++)
        v = 10 * v + (*p - '0');
    return p == text || *p || v == 0 || v > 0xfffffffe ? -1 : v;
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

static int set(struct options *o, const char *name, const char *value)
{
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

int options_parse(int argc, char **argv, struct options *o, const char **bad)
{
    int i = 1;

    memset(o, 0, sizeof *o);
    o->run_dir = DEFAULT_RUN_DIR;
    o->owner = -1;
    if (from_environment(o, bad) < 0)
        return -1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        int at = i;

        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "-h") == 0) {
            o->help = true;
        } else if (argv[i][1] != '-' || long_option(o, argc, argv, &i) < 0) {
            *bad = argv[at];
            return -1;
        }
    }
    o->command = argv + (i < argc ? i : argc);
    return 0;
}
