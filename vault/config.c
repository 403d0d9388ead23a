#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Debian's library gives the handler a fifth argument that Debian's header does not declare unless
 * this is set. Others give four; it is never looked at here, so both fit. */
#define INI_HANDLER_LINENO 1
#include <ini.h>

#include "base/io.h"
#include "entry.h"
#include "header.h"

enum {
    SHOWN_VALUE = 40, /* bytes of a value or a name that an error quotes */
    SHOWN_PATH = 72,  /* bytes of a path, the last ones */
    WHERE = SHOWN_PATH + 24,
};

#define AT(field) offsetof(struct config_record, field)

const struct config_key config_keys[CONFIG_KEYS] = {
    {"ram.backend", CONFIG_CHOICE, "auto", "TAZPOD_BACKEND", "auto|own|given",
     "own: tazpod-init mounts the RAM itself; given: somebody else has; auto: own where it works",
     AT(ram_backend), false},
    {"ram.size", CONFIG_SIZE, "64M", "TAZPOD_RAM_SIZE", "1M to 64G",
     "size of the RAM that own mounts; less where the memory limit is small",
     AT(ram_size_bytes), false},
    {"ram.require_noswap", CONFIG_CLAIM, "no", "TAZPOD_REQUIRE_NOSWAP", "yes|no",
     "unlock only into RAM that can't be swapped out; a yes from any source stays",
     AT(ram_require_noswap), true},
    {"kdf.memory", CONFIG_SIZE, "64M", NULL, "8M to 1G",
     "memory that each try of a passphrase costs, for a new vault; times kdf.time at most 4G",
     AT(kdf_memory_bytes), false},
    {"kdf.time", CONFIG_NUMBER, "3", NULL, "1 to 16",
     "passes over that memory, for a new vault",
     AT(kdf_time), false},
    {"log.format", CONFIG_CHOICE, "text", "TAZPOD_LOG_FORMAT", "text|json",
     "one line an event: words and key=value, or a JSON object",
     AT(log_format), false},
    {"log.names", CONFIG_CLAIM, "no", NULL, "yes|no",
     "names of files inside the vault may stand in the log",
     AT(log_names), false},
    {"stop.timeout", CONFIG_TIME, "8s", "TAZPOD_STOP_TIMEOUT", "100ms to 3600s",
     "total for a stop with an open vault; change it together with the engine's own",
     AT(stop_timeout_ms), false},
    {"worker.timeout", CONFIG_TIME, "60s", "TAZPOD_WORKER_TIMEOUT", "100ms to 3600s",
     "longest time for one unlock, one creation or one save",
     AT(worker_timeout_ms), false},
    {"history.generations", CONFIG_NUMBER, "5", NULL, "1 to 99",
     "earlier generations kept beside the vault file",
     AT(history_generations), false},
    {"history.interval", CONFIG_TIME, "600s", NULL, "0s to 86400s",
     "an autosave starts a new one only when the newest kept one is older",
     AT(history_interval_ms), false},
};

_Static_assert(CONFIG_KEYS <= CONFIG_ORIGINS, "an origin for each key");

/* One reading, from the weakest source to the strongest. */
struct reading {
    const struct config_source *source;
    struct config_record record;
    struct err *e;
    enum config_origin origin;  /* of the source being read */
    unsigned line;              /* of the file being read: the last one handed out */
    bool is_broken;             /* *e says why, and nothing more is read */
    const char *text;           /* what is left of the file */
    size_t left;
    unsigned first[CONFIG_KEYS]; /* line of each key in this file, 0 if it has not come yet */
    unsigned at[CONFIG_KEYS];    /* line of the value in force, if that is from a file */
};

/* --- words for people --- */

/* What others wrote, as far as it may go into a message: printable, and cut. */
static const char *shown(const char *text, char *out, size_t size)
{
    size_t n = strlen(text), take = n < size ? n : size - 4;

    for (size_t i = 0; i < take; i++)
        out[i] = text[i] >= ' ' && text[i] <= '~' && text[i] != '"' ? text[i] : '?';
    (void)strcpy(out + take, n < size ? "" : "...");
    return out;
}

/* A path keeps its end, which says more. */
static const char *shown_path(const char *path, char *out, size_t size)
{
    size_t n = strlen(path);

    if (n < size)
        return shown(path, out, size);
    memcpy(out, "...", 3);
    (void)shown(path + n - (size - 4), out + 3, size - 3);
    return out;
}

/* TAZPOD_STOP_TIMEOUT is the variable, --stop-timeout the flag. */
static void flag_name(const char *variable, char *out, size_t size)
{
    size_t n = 2;

    memcpy(out, "--", 2);
    for (variable += strlen("TAZPOD_"); *variable && n + 1 < size; variable++)
        out[n++] = *variable == '_' ? '-' : (char)(*variable + ('a' - 'A'));
    out[n] = '\0';
}

/* The file of that origin, NULL if it is none. */
static const char *path_of(const struct config_source *s, enum config_origin origin)
{
    if (origin == CONFIG_FROM_SYSTEM)
        return s->system ? s->system : CONFIG_SYSTEM;
    if (origin == CONFIG_FROM_PROJECT)
        return s->project ? s->project : CONFIG_PROJECT;
    return NULL;
}

/* Where a key's value of that origin comes from; the key matters to variables and flags alone. */
static void where(const struct config_source *s, unsigned key, enum config_origin origin, unsigned line,
                  char out[WHERE])
{
    const char *path = path_of(s, origin), *variable = config_keys[key].variable;
    char name[SHOWN_PATH];

    if (path && line > 0)
        (void)snprintf(out, WHERE, "%s line %u", shown_path(path, name, sizeof name), line);
    else if (path)
        (void)snprintf(out, WHERE, "%s", shown_path(path, name, sizeof name));
    else if (origin == CONFIG_FROM_FLAG && variable)
        flag_name(variable, out, WHERE);
    else
        (void)snprintf(out, WHERE, "%s",
                       origin == CONFIG_FROM_ENVIRONMENT && variable ? variable : "default");
}

/* The line handed out last is not what a line should be. */
static int bad_line(struct reading *r, const char *what)
{
    char place[WHERE];

    where(r->source, 0, r->origin, r->line, place);
    r->is_broken = true;
    return err_set(r->e, ERR_CONFIG, "config", "%s: %s", place, what);
}

static int bad_value(struct reading *r, unsigned key, const char *value)
{
    char place[WHERE], quoted[SHOWN_VALUE];

    where(r->source, key, r->origin, r->line, place);
    r->is_broken = true;
    return err_set(r->e, ERR_CONFIG, "config", "%s: %s can't be \"%s\"; allowed: %s", place,
                   config_keys[key].name, shown(value, quoted, sizeof quoted), config_keys[key].allowed);
}

static size_t section_length(const char *name)
{
    return (size_t)(strchr(name, '.') - name);
}

static bool is_in_section(unsigned key, const char *section)
{
    size_t n = section_length(config_keys[key].name);

    return strlen(section) == n && strncmp(config_keys[key].name, section, n) == 0;
}

static bool starts_section(unsigned key)
{
    size_t n = section_length(config_keys[key].name);

    return key == 0 || strncmp(config_keys[key].name, config_keys[key - 1].name, n + 1) != 0;
}

/* The keys of the section, or the sections if there is no such one. */
static int unknown_key(struct reading *r, const char *section, const char *name)
{
    char place[WHERE], asked[2][SHOWN_VALUE], names[128];
    bool is_known = false;
    size_t n = 0;

    for (unsigned i = 0; i < CONFIG_KEYS; i++)
        is_known |= is_in_section(i, section);
    for (unsigned i = 0; i < CONFIG_KEYS; i++) {
        const char *key = config_keys[i].name;
        size_t length = section_length(key);

        if (is_known && is_in_section(i, section))
            n += (size_t)snprintf(names + n, sizeof names - n, " %s", key + length + 1);
        else if (!is_known && starts_section(i))
            n += (size_t)snprintf(names + n, sizeof names - n, " [%.*s]", (int)length, key);
        if (n >= sizeof names)
            n = sizeof names - 1;
    }
    where(r->source, 0, r->origin, r->line, place);
    r->is_broken = true;
    (void)shown(section, asked[0], sizeof asked[0]);
    (void)shown(name, asked[1], sizeof asked[1]);
    if (!*section)
        return err_set(r->e, ERR_CONFIG, "config", "%s: \"%s\" stands in no section; there are:%s", place,
                       asked[1], names);
    return err_set(r->e, ERR_CONFIG, "config", "%s: no key \"%s\" in [%s]; there are:%s", place, asked[1],
                   asked[0], names);
}

/* --- values: text to number and back --- */

static void put(struct config_record *r, const struct config_key *k, uint64_t value)
{
    uint8_t *to = (uint8_t *)r + k->offset;
    uint32_t number = (uint32_t)value;

    if (k->type == CONFIG_CHOICE || k->type == CONFIG_CLAIM)
        *to = (uint8_t)value;
    else if (k->type == CONFIG_NUMBER)
        memcpy(to, &number, sizeof number);
    else
        memcpy(to, &value, sizeof value);
}

static uint64_t get(const struct config_record *r, const struct config_key *k)
{
    const uint8_t *from = (const uint8_t *)r + k->offset;
    uint64_t value = 0;
    uint32_t number;

    if (k->type == CONFIG_CHOICE || k->type == CONFIG_CLAIM)
        return *from;
    if (k->type == CONFIG_NUMBER) {
        memcpy(&number, from, sizeof number);
        return number;
    }
    memcpy(&value, from, sizeof value);
    return value;
}

static bool is_word(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(text, word, len) == 0;
}

/* Digits and a unit, in bytes or milliseconds. */
static int quantity(enum config_type type, const char *text, size_t len, uint64_t *value)
{
    static const struct {
        enum config_type type;
        const char *unit;
        uint64_t times;
    } UNITS[] = {
        {CONFIG_NUMBER, "", 1},
        {CONFIG_SIZE, "K", 1u << 10}, {CONFIG_SIZE, "KiB", 1u << 10},
        {CONFIG_SIZE, "M", 1u << 20}, {CONFIG_SIZE, "MiB", 1u << 20},
        {CONFIG_SIZE, "G", 1u << 30}, {CONFIG_SIZE, "GiB", 1u << 30},
        {CONFIG_TIME, "", 1000},      {CONFIG_TIME, "s", 1000},
        {CONFIG_TIME, "ms", 1},
    };
    uint64_t v = 0;
    size_t n = 0;

    /* At most nine digits: times the largest unit they still fit. */
    for (; n < len && text[n] >= '0' && text[n] <= '9' && v < 100000000; n++)
        v = 10 * v + (uint64_t)(text[n] - '0');
    for (size_t i = 0; n > 0 && i < sizeof UNITS / sizeof *UNITS; i++)
        if (UNITS[i].type == type && is_word(text + n, len - n, UNITS[i].unit)) {
            *value = v * UNITS[i].times;
            return 0;
        }
    return -1;
}

/* The n-th of "word|word", not terminated; NULL if there are fewer. */
static const char *word_at(const char *words, uint64_t n, int *len)
{
    while (n-- > 0) {
        words = strchr(words, '|');
        if (!words)
            return NULL;
        words++;
    }
    *len = (int)strcspn(words, "|");
    return words;
}

/* The other way: which one it is. */
static int choice(const char *words, const char *text, uint64_t *value)
{
    const char *word;
    int len;

    for (*value = 0; (word = word_at(words, *value, &len)); (*value)++)
        if (is_word(word, (size_t)len, text))
            return 0;
    return -1;
}

/* The table's words are the rule as well as its description. */
static int parse(const struct config_key *k, const char *text, uint64_t *value)
{
    const char *to = strstr(k->allowed, " to ");
    uint64_t least, most;

    if (k->type == CONFIG_CLAIM) {
        *value = strcmp(text, "yes") == 0;
        return *value || strcmp(text, "no") == 0 ? 0 : -1;
    }
    if (k->type == CONFIG_CHOICE)
        return choice(k->allowed, text, value);
    if (!to || quantity(k->type, k->allowed, (size_t)(to - k->allowed), &least) < 0 ||
        quantity(k->type, to + 4, strlen(to + 4), &most) < 0 ||
        quantity(k->type, text, strlen(text), value) < 0)
        return -1;
    return *value >= least && *value <= most ? 0 : -1;
}

/* As it would be written in a file. */
static void format(const struct config_key *k, uint64_t v, char out[32])
{
    const char *word = NULL;
    int len = 0, unit = 0;

    switch (k->type) {
    case CONFIG_CLAIM: (void)snprintf(out, 32, "%s", v ? "yes" : "no"); break;
    case CONFIG_CHOICE:
        word = word_at(k->allowed, v, &len);
        (void)snprintf(out, 32, "%.*s", word ? len : 1, word ? word : "?");
        break;
    case CONFIG_NUMBER: (void)snprintf(out, 32, "%" PRIu64, v); break;
    case CONFIG_SIZE:
        for (v /= 1024; v > 0 && v % 1024 == 0 && unit < 2; unit++)
            v /= 1024;
        (void)snprintf(out, 32, "%" PRIu64 "%c", v, "KMG"[unit]);
        break;
    case CONFIG_TIME:
        if (v % 1000 == 0)
            (void)snprintf(out, 32, "%" PRIu64 "s", v / 1000);
        else
            (void)snprintf(out, 32, "%" PRIu64 "ms", v);
        break;
    }
}

static int set(struct reading *r, unsigned key, const char *text)
{
    const struct config_key *k = &config_keys[key];
    uint64_t value;

    if (parse(k, text, &value) < 0)
        return bad_value(r, key, text);
    if (k->only_yes && !value && get(&r->record, k))
        return 0;
    put(&r->record, k, value);
    r->record.origin[key] = (uint8_t)r->origin;
    r->at[key] = r->line;
    return 0;
}

/* --- files --- */

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r' && c != '\n');
}

static void skip_blanks(const char **text, size_t *len)
{
    for (; *len > 0 && is_blank(**text); (*len)--)
        (*text)++;
}

/* inih passes over whatever stands behind "]", so that a key there would be lost without a word. */
static bool is_section_with_more(const char *line, size_t len)
{
    const char *end;

    skip_blanks(&line, &len);
    end = len > 0 && *line == '[' ? memchr(line, ']', len) : NULL;
    if (!end)
        return false;
    end++;
    len -= (size_t)(end - line);
    skip_blanks(&end, &len);
    return len > 0 && *end != ';' && *end != '#';
}

/* What is wrong with a line before inih has seen it; NULL: nothing. */
static const char *fault(const char *line, size_t len, size_t room)
{
    if (len > CONFIG_LINE_MAX || len + 2 > room)
        return "longer than 190 bytes";
    if (memchr(line, '\0', len))
        return "a NUL byte";
    if (is_section_with_more(line, len))
        return "something behind [section], which needs a line of its own";
    return NULL;
}

_Static_assert(CONFIG_LINE_MAX == 190 && CONFIG_FILE_MAX == 65536, "the numbers in messages");

/* inih's way to a line, as fgets. It never sees what it treats one way or another depending on how it
 * was built: a line that it would cut, a byte order mark, blanks at a line's start, which would make
 * it the continuation of the line before. After an error there are no more lines. */
static char *next_line(char *to, int size, void *stream)
{
    struct reading *r = stream;
    const char *line = r->text, *end, *what;
    size_t len;

    if (r->is_broken || r->left == 0)
        return NULL;
    r->line++;
    end = memchr(line, '\n', r->left);
    len = end ? (size_t)(end - line) : r->left;
    r->text += end ? len + 1 : len;
    r->left -= end ? len + 1 : len;
    what = fault(line, len, (size_t)size);
    if (what) {
        (void)bad_line(r, what);
        return NULL;
    }
    skip_blanks(&line, &len);
    memcpy(to, line, len);
    memcpy(to + len, "\n", 2);
    return to;
}

/* inih's handler: 1 to go on, 0 for an error. */
static int take(void *user, const char *section, const char *name, const char *value, int line)
{
    struct reading *r = user;
    char twice[64];

    (void)line; /* not there in every build of inih; r->line is the same */
    for (unsigned i = 0; value && i < CONFIG_KEYS; i++) {
        if (!is_in_section(i, section) || strcmp(config_keys[i].name + strlen(section) + 1, name) != 0)
            continue;
        if (r->first[i]) {
            (void)snprintf(twice, sizeof twice, "%s is in line %u already", config_keys[i].name, r->first[i]);
            (void)bad_line(r, twice);
            return 0;
        }
        r->first[i] = r->line;
        return set(r, i, value) == 0;
    }
    if (value)
        (void)unknown_key(r, section, name);
    return 0;
}

static int parse_file(struct reading *r, enum config_origin origin, const struct config_text *t)
{
    static const char MARK[] = "\xef\xbb\xbf"; /* some editors begin UTF-8 with it */
    size_t mark = t->len >= 3 && memcmp(t->bytes, MARK, 3) == 0 ? 3 : 0;
    int bad;

    r->origin = origin;
    r->line = 0;
    r->text = t->bytes + mark;
    r->left = t->len - mark;
    memset(r->first, 0, sizeof r->first);
    bad = ini_parse_stream(next_line, r, take, r);
    if (bad < 0)
        return err_set(r->e, ERR_INTERNAL, "failed", "no memory to read the configuration");
    /* inih goes on after a line it can't make sense of, so that one may come before ours. */
    if (bad > 0 && (!r->is_broken || (unsigned)bad < r->line)) {
        r->line = (unsigned)bad;
        return bad_line(r, "neither [section] nor key = value");
    }
    return r->is_broken ? -1 : 0;
}

static int unreadable(struct err *e, const char *path, const char *why)
{
    char name[SHOWN_PATH];

    return err_set(e, ERR_CONFIG, "config", "%s: %s", shown_path(path, name, sizeof name), why);
}

static bool is_link(const char *path)
{
    struct stat sb;

    return lstat(path, &sb) == 0 && S_ISLNK(sb.st_mode);
}

static int load(const char *path, int nofollow, struct config_text *t, struct err *e)
{
    int fd = -1, rc = -1;
    struct stat sb;
    ssize_t n;

    t->len = 0;
    if (!path)
        return 0;
    /* NONBLOCK and NOCTTY: whatever was put in the file's place is looked at, not waited for. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | nofollow);
    if (fd < 0 && errno == ENOENT && !is_link(path)) {
        rc = 0;
        goto out;
    }
    if (fd < 0) {
        const char *why = strerror(errno);

        if ((errno == ELOOP || errno == ENOENT) && is_link(path))
            why = nofollow ? "a symbolic link, which is not followed here"
                           : "a symbolic link that leads nowhere";
        (void)unreadable(e, path, why);
        goto out;
    }
    if (fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode)) {
        (void)unreadable(e, path, "not a regular file");
        goto out;
    }
    n = io_read(fd, t->bytes, sizeof t->bytes);
    if (n < 0 || n > CONFIG_FILE_MAX) {
        (void)unreadable(e, path, n < 0 ? strerror(errno) : "larger than 64 KiB");
        goto out;
    }
    t->len = (size_t)n;
    rc = 0;
out:
    if (fd >= 0)
        close(fd);
    return rc;
}

int config_beside(const char *vault, char *out, size_t size)
{
    const char *slash = strrchr(vault, '/');
    int dir = slash ? (int)(slash + 1 - vault) : 0;

    return (size_t)snprintf(out, size, "%.*s%s", dir, vault, CONFIG_PROJECT) < size ? 0 : -1;
}

int config_load(const struct config_source *s, struct config_files *f, struct err *e)
{
    if (load(s->system, 0, &f->system, e) < 0)
        return -1;
    return load(s->project, O_NOFOLLOW, &f->project, e);
}

/* --- variables and flags --- */

static const char *lookup(const char *const *list, const char *variable)
{
    size_t n = variable ? strlen(variable) : 0;

    for (; n > 0 && list && *list; list++)
        if (strncmp(*list, variable, n) == 0 && (*list)[n] == '=')
            return *list + n + 1;
    return NULL;
}

static int parse_list(struct reading *r, enum config_origin origin, const char *const *list)
{
    r->origin = origin;
    for (unsigned i = 0; i < CONFIG_KEYS; i++) {
        const char *value = lookup(list, config_keys[i].variable);

        if (value && (*value || origin == CONFIG_FROM_FLAG) && set(r, i, value) < 0)
            return -1;
    }
    return 0;
}

/* --- all of it --- */

static int parse_defaults(struct reading *r)
{
    r->origin = CONFIG_FROM_DEFAULT;
    for (unsigned i = 0; i < CONFIG_KEYS; i++)
        if (set(r, i, config_keys[i].standard) < 0)
            return -1;
    return 0;
}

static unsigned key_at(size_t offset)
{
    unsigned i = 0;

    while (i + 1 < CONFIG_KEYS && config_keys[i].offset != offset)
        i++;
    return i;
}

/* Each may be allowed and both together not: no reader would open such a vault. */
static int check_cost(struct reading *r)
{
    unsigned memory = key_at(AT(kdf_memory_bytes)), passes = key_at(AT(kdf_time));
    char size[32], place[2][WHERE];

    if (header_cost_valid(r->record.kdf_time, (uint32_t)(r->record.kdf_memory_bytes / 1024)))
        return 0;
    format(&config_keys[memory], r->record.kdf_memory_bytes, size);
    where(r->source, memory, r->record.origin[memory], r->at[memory], place[0]);
    where(r->source, passes, r->record.origin[passes], r->at[passes], place[1]);
    return err_set(r->e, ERR_CONFIG, "config",
                   "%s: kdf.memory %s, %s: kdf.time %" PRIu32 "; allowed: 4G at most for one times the other",
                   place[0], size, place[1], r->record.kdf_time);
}

int config_parse(const struct config_source *s, const struct config_files *f, struct config_record *out,
                 struct err *e)
{
    struct reading r;

    memset(&r, 0, sizeof r);
    r.source = s;
    r.e = e;
    r.record.version = CONFIG_VERSION;
    if (parse_defaults(&r) < 0 || parse_file(&r, CONFIG_FROM_SYSTEM, &f->system) < 0 ||
        parse_file(&r, CONFIG_FROM_PROJECT, &f->project) < 0 ||
        parse_list(&r, CONFIG_FROM_ENVIRONMENT, s->environment) < 0 ||
        parse_list(&r, CONFIG_FROM_FLAG, s->flags) < 0 || check_cost(&r) < 0)
        return -1;
    *out = r.record;
    return 0;
}

int config_read(const struct config_source *s, struct config_record *out, struct err *e)
{
    struct config_files f;

    return config_load(s, &f, e) < 0 ? -1 : config_parse(s, &f, out, e);
}

/* --- for people and programs --- */

static void json_string(FILE *to, const char *text)
{
    int is_utf8 = entry_is_utf8(text);

    (void)fputc('"', to);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            (void)fprintf(to, "\\%c", c);
        else if (c < ' ' || c == 0x7f)
            (void)fprintf(to, "\\u%04x", c);
        else if (c > 0x7f && !is_utf8)
            (void)fputs("\\ufffd", to);
        else
            (void)fputc(c, to);
    }
    (void)fputc('"', to);
}

static void print_json(FILE *to, const struct config_source *s, const struct config_record *r, unsigned key)
{
    static const char *const ORIGINS[] = {"default", "system", "project", "environment", "flag"};
    const struct config_key *k = &config_keys[key];
    uint8_t origin = r->origin[key];
    uint64_t value = get(r, k);
    char text[32], place[WHERE];

    format(k, value, text);
    (void)fprintf(to, "    \"%s\": {\"value\": ", k->name);
    if (k->type == CONFIG_CHOICE)
        json_string(to, text);
    else if (k->type == CONFIG_CLAIM)
        (void)fputs(value ? "true" : "false", to);
    else
        (void)fprintf(to, "%" PRIu64, value);
    if (k->type == CONFIG_SIZE || k->type == CONFIG_TIME)
        (void)fprintf(to, ", \"unit\": \"%s\"", k->type == CONFIG_SIZE ? "bytes" : "ms");
    (void)fprintf(to, ", \"text\": \"%s\", \"origin\": \"%s\"", text,
                  origin < sizeof ORIGINS / sizeof *ORIGINS ? ORIGINS[origin] : "unknown");
    where(s, key, origin, 0, place);
    if (origin != CONFIG_FROM_DEFAULT) {
        (void)fputs(", \"from\": ", to);
        json_string(to, path_of(s, origin) ? path_of(s, origin) : place);
    }
    (void)fputc('}', to);
}

void config_print(FILE *to, const struct config_source *s, const struct config_record *r, bool json)
{
    char text[32], place[WHERE];

    if (json)
        (void)fprintf(to, "{\n  \"version\": %" PRIu32 ",\n  \"keys\": {\n", r->version);
    for (unsigned i = 0; i < CONFIG_KEYS; i++) {
        if (json) {
            print_json(to, s, r, i);
            (void)fputs(i + 1 < CONFIG_KEYS ? ",\n" : "\n", to);
            continue;
        }
        format(&config_keys[i], get(r, &config_keys[i]), text);
        where(s, i, r->origin[i], 0, place);
        (void)fprintf(to, "%-20s  %-8s  %s\n", config_keys[i].name, text, place);
    }
    if (json)
        (void)fputs("  }\n}\n", to);
}

void config_sample(FILE *to)
{
    (void)fputs("# Settings of TazPod: " CONFIG_SYSTEM ", or " CONFIG_PROJECT " beside the vault file,\n"
                "# the stronger of the two. Variables and flags of tazpod-init are stronger still.\n"
                "# Every key is here with its default: take the # away to change it. See tazpod.ini(5).\n"
                "# This is what `tazpod config --sample` prints.\n",
                to);
    for (unsigned i = 0; i < CONFIG_KEYS; i++) {
        const struct config_key *k = &config_keys[i];
        size_t n = section_length(k->name);

        if (starts_section(i))
            (void)fprintf(to, "\n[%.*s]\n", (int)n, k->name);
        (void)fprintf(to, "\n# %s\n# allowed: %s", k->doc, k->allowed);
        if (k->variable)
            (void)fprintf(to, "; variable: %s", k->variable);
        (void)fprintf(to, "\n#%s = %s\n", k->name + n + 1, k->standard);
    }
}
