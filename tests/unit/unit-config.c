/* What config promises: which source wins, what is broken and how it is said, and that the sample and
 * the manual page are the table's. Run from the top of the tree, for the last two. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../vault/config.h"
#include "../../vault/header.h"

static struct config_files files;

/* --- one reading --- */

/* Parses both texts as if they stood in files of these names; NULL: there is no such file. */
static int parse_two(const char *system, const char *project, const char *const *environment,
                     const char *const *flags, struct config_record *out, struct err *e)
{
    struct config_source s = {"/w/.tazpod/config.ini", "/etc/tazpod.ini", environment, flags};

    memset(e, 0, sizeof *e);
    files.system.len = system ? strlen(system) : 0;
    files.project.len = project ? strlen(project) : 0;
    memcpy(files.system.bytes, system ? system : "", files.system.len);
    memcpy(files.project.bytes, project ? project : "", files.project.len);
    return config_parse(&s, &files, out, e);
}

static void assert_parsed(const char *system, const char *project, const char *const *environment,
                          const char *const *flags, struct config_record *out)
{
    struct err e;

    if (parse_two(system, project, environment, flags, out, &e) < 0)
        fail_msg("not read: %s", e.text);
    assert_string_equal(e.text, "");
}

/* An error of configuration with exactly this text, and a record nobody touched. */
static void assert_broken(const char *system, const char *const *environment, const char *const *flags,
                          const char *text)
{
    struct config_record out, before;
    struct err e;

    memset(&before, 0x5a, sizeof before);
    out = before;
    assert_int_equal(parse_two(system, NULL, environment, flags, &out, &e), -1);
    assert_string_equal(e.text, text);
    assert_string_equal(e.word, "config");
    assert_int_equal(e.code, 78);
    assert_memory_equal(&out, &before, sizeof out);
}

static unsigned origin_of(const struct config_record *r, const char *name)
{
    for (unsigned i = 0; i < CONFIG_KEYS; i++)
        if (strcmp(config_keys[i].name, name) == 0)
            return r->origin[i];
    fail_msg("there is no key %s", name);
    return 0;
}

/* --- sources --- */

static void without_any_source_every_key_has_its_default(void **state)
{
    struct config_record r;

    (void)state;
    memset(&r, 0x5a, sizeof r);
    assert_parsed(NULL, NULL, NULL, NULL, &r);
    assert_int_equal(r.version, CONFIG_VERSION);
    assert_int_equal(r.ram_backend, CONFIG_BACKEND_AUTO);
    assert_int_equal(r.ram_size_bytes, 64 << 20);
    assert_int_equal(r.ram_require_noswap, 0);
    assert_int_equal(r.kdf_memory_bytes, (uint64_t)KDF_MEM_KIB_DEFAULT * 1024);
    assert_int_equal(r.kdf_time, KDF_OPS_DEFAULT);
    assert_int_equal(r.log_format, CONFIG_LOG_TEXT);
    assert_int_equal(r.log_names, 0);
    assert_int_equal(r.stop_timeout_ms, 8000);
    assert_int_equal(r.worker_timeout_ms, 60000);
    assert_int_equal(r.history_generations, 5);
    assert_int_equal(r.history_interval_ms, 600000);
    for (unsigned i = 0; i < CONFIG_ORIGINS; i++)
        assert_int_equal(r.origin[i], CONFIG_FROM_DEFAULT);
}

static void every_key_is_read_from_a_file(void **state)
{
    struct config_record r;

    (void)state;
    assert_parsed("[ram]\nbackend = own\nsize = 3G\nrequire_noswap = yes\n[kdf]\nmemory = 8192K\ntime = 16\n"
                  "[log]\nformat = json\nnames = yes\n[stop]\ntimeout = 100ms\n[worker]\ntimeout = 3600\n"
                  "[history]\ngenerations = 99\ninterval = 86400\n",
                  NULL, NULL, NULL, &r);
    assert_int_equal(r.ram_backend, CONFIG_BACKEND_OWN);
    assert_int_equal(r.ram_size_bytes, (uint64_t)3 << 30);
    assert_int_equal(r.ram_require_noswap, 1);
    assert_int_equal(r.kdf_memory_bytes, 8 << 20);
    assert_int_equal(r.kdf_time, 16);
    assert_int_equal(r.log_format, CONFIG_LOG_JSON);
    assert_int_equal(r.log_names, 1);
    assert_int_equal(r.stop_timeout_ms, 100);
    assert_int_equal(r.worker_timeout_ms, 3600000);
    assert_int_equal(r.history_generations, 99);
    assert_int_equal(r.history_interval_ms, 86400000);
    for (unsigned i = 0; i < CONFIG_KEYS; i++)
        assert_int_equal(r.origin[i], CONFIG_FROM_SYSTEM);
}

static void the_stronger_source_wins_and_is_named(void **state)
{
    const char *environment[] = {"HOME=/", "TAZPOD_RAM_SIZE=4M", NULL};
    const char *flags[] = {"TAZPOD_RAM_SIZE=5M", NULL};
    const char *system = "[ram]\nsize = 2M\n", *project = "[ram]\nsize = 3M\n";
    struct config_record r;

    (void)state;
    assert_parsed(system, NULL, NULL, NULL, &r);
    assert_int_equal(r.ram_size_bytes, 2 << 20);
    assert_int_equal(origin_of(&r, "ram.size"), CONFIG_FROM_SYSTEM);
    assert_parsed(system, project, NULL, NULL, &r);
    assert_int_equal(r.ram_size_bytes, 3 << 20);
    assert_int_equal(origin_of(&r, "ram.size"), CONFIG_FROM_PROJECT);
    assert_parsed(system, project, environment, NULL, &r);
    assert_int_equal(r.ram_size_bytes, 4 << 20);
    assert_int_equal(origin_of(&r, "ram.size"), CONFIG_FROM_ENVIRONMENT);
    assert_parsed(system, project, environment, flags, &r);
    assert_int_equal(r.ram_size_bytes, 5 << 20);
    assert_int_equal(origin_of(&r, "ram.size"), CONFIG_FROM_FLAG);
    assert_int_equal(origin_of(&r, "ram.backend"), CONFIG_FROM_DEFAULT);
}

static void a_demand_for_noswap_can_not_be_taken_back(void **state)
{
    const char *no[] = {"TAZPOD_REQUIRE_NOSWAP=no", NULL}, *yes[] = {"TAZPOD_REQUIRE_NOSWAP=yes", NULL};
    struct config_record r;

    (void)state;
    assert_parsed("[ram]\nrequire_noswap = yes\n", "[ram]\nrequire_noswap = no\n", no, no, &r);
    assert_int_equal(r.ram_require_noswap, 1);
    assert_int_equal(origin_of(&r, "ram.require_noswap"), CONFIG_FROM_SYSTEM);
    assert_parsed(NULL, "[ram]\nrequire_noswap = no\n", yes, no, &r);
    assert_int_equal(r.ram_require_noswap, 1);
    assert_int_equal(origin_of(&r, "ram.require_noswap"), CONFIG_FROM_ENVIRONMENT);
    assert_parsed(NULL, NULL, no, NULL, &r);
    assert_int_equal(r.ram_require_noswap, 0);
    assert_int_equal(origin_of(&r, "ram.require_noswap"), CONFIG_FROM_ENVIRONMENT);
    /* No other key has that: */
    assert_parsed("[log]\nnames = yes\n", "[log]\nnames = no\n", NULL, NULL, &r);
    assert_int_equal(r.log_names, 0);
}

static void an_empty_variable_counts_as_not_set_and_strange_ones_are_passed_over(void **state)
{
    const char *environment[] = {"TAZPOD_RAM_SIZE=",       "TAZPOD_VAULT=none",      "TAZPOD_RAM_SIZEX=1",
                                 "TAZPOD_RAM_SIZ=1",       "TAZPOD_KDF_TIME=99",     "",
                                 "TAZPOD_STOP_TIMEOUT=2s", "TAZPOD_STOP_TIMEOUT=3s", NULL};
    struct config_record r;

    (void)state;
    assert_parsed(NULL, NULL, environment, environment + 1, &r);
    assert_int_equal(r.ram_size_bytes, 64 << 20);
    assert_int_equal(origin_of(&r, "ram.size"), CONFIG_FROM_DEFAULT);
    assert_int_equal(r.stop_timeout_ms, 2000);
    assert_int_equal(origin_of(&r, "stop.timeout"), CONFIG_FROM_FLAG);
}

static void a_variable_or_a_flag_that_is_not_allowed_is_named(void **state)
{
    const char *variable[] = {"TAZPOD_BACKEND=tmpfs", NULL}, *flag[] = {"TAZPOD_REQUIRE_NOSWAP=true", NULL};
    const char *empty[] = {"TAZPOD_STOP_TIMEOUT=", NULL};

    (void)state;
    assert_broken(NULL, variable, NULL,
                  "TAZPOD_BACKEND: ram.backend can't be \"tmpfs\"; allowed: auto|own|given");
    assert_broken(NULL, NULL, flag,
                  "--require-noswap: ram.require_noswap can't be \"true\"; allowed: yes|no");
    assert_broken(NULL, NULL, empty,
                  "--stop-timeout: stop.timeout can't be \"\"; allowed: 100ms to 3600s");
}

static void a_weaker_source_that_is_broken_is_an_error_all_the_same(void **state)
{
    const char *flag[] = {"TAZPOD_RAM_SIZE=2M", NULL};

    (void)state;
    assert_broken("[ram]\nsize = lots\n", flag, flag,
                  "/etc/tazpod.ini line 2: ram.size can't be \"lots\"; allowed: 1M to 64G");
}

/* --- values --- */

static void every_default_is_allowed_and_prints_as_it_is_written(void **state)
{
    struct config_record r;
    struct config_source s = {0};
    char printed[4096], line[128];
    FILE *to = fmemopen(printed, sizeof printed, "w");

    (void)state;
    assert_non_null(to);
    assert_parsed(NULL, NULL, NULL, NULL, &r);
    config_print(to, &s, &r, false);
    assert_int_equal(fclose(to), 0);
    for (unsigned i = 0; i < CONFIG_KEYS; i++) {
        (void)snprintf(line, sizeof line, "%-20s  %-8s  default\n", config_keys[i].name,
                       config_keys[i].standard);
        if (!strstr(printed, line))
            fail_msg("no line %s in:\n%s", line, printed);
    }
}

static void the_bounds_of_a_range_are_allowed_and_what_lies_beyond_is_not(void **state)
{
    static const struct {
        const char *section, *key, *value;
        bool is_allowed;
    } CASES[] = {
        {"ram", "size", "1M", true},        {"ram", "size", "1023K", false},
        {"ram", "size", "64G", true},       {"ram", "size", "65GiB", false},
        {"ram", "size", "1MiB", true},      {"ram", "size", "1MB", false},
        {"ram", "size", "1m", false},       {"ram", "size", "1048576", false},
        {"ram", "size", "0x1M", false},     {"ram", "size", "-1M", false},
        {"ram", "size", "1 M", false},      {"ram", "size", "M", false},
        {"ram", "size", "1.5G", false},     {"ram", "size", "99999999999999999999G", false},
        {"ram", "size", "17179869185G", false}, /* 1G modulo 2^64 */
        {"kdf", "memory", "8M", true},      {"kdf", "memory", "7M", false},
        {"kdf", "memory", "1G", true},      {"kdf", "memory", "1048577K", false},
        {"kdf", "time", "1", true},         {"kdf", "time", "0", false},
        {"kdf", "time", "16", true},        {"kdf", "time", "17", false},
        {"kdf", "time", "3s", false},       {"kdf", "time", "4294967297", false},
        {"stop", "timeout", "100ms", true}, {"stop", "timeout", "99ms", false},
        {"stop", "timeout", "3600", true},  {"stop", "timeout", "3601s", false},
        {"stop", "timeout", "1h", false},   {"stop", "timeout", "0", false},
        {"log", "names", "yes", true},      {"log", "names", "YES", false},
        {"log", "names", "1", false},       {"log", "format", "json|text", false},
        {"log", "format", "jso", false},    {"log", "format", "", false},
    };
    struct config_record r;
    struct err e;
    char text[128];

    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        (void)snprintf(text, sizeof text, "[%s]\n%s=%s\n", CASES[i].section, CASES[i].key, CASES[i].value);
        if ((parse_two(text, NULL, NULL, NULL, &r, &e) == 0) != CASES[i].is_allowed)
            fail_msg("%s.%s = %s: %s", CASES[i].section, CASES[i].key, CASES[i].value, e.text);
    }
}

static void a_derivation_that_no_reader_would_accept_is_refused(void **state)
{
    struct config_record r;
    struct err e;

    (void)state;
    assert_parsed("[kdf]\nmemory = 1G\ntime = 4\n", NULL, NULL, NULL, &r);
    assert_int_equal(r.kdf_memory_bytes, (uint64_t)KDF_MEM_KIB_MAX * 1024);
    assert_broken("[kdf]\nmemory = 1G\ntime = 5\n", NULL, NULL,
                  "/etc/tazpod.ini line 2: kdf.memory 1G, /etc/tazpod.ini line 3: kdf.time 5; "
                  "allowed: 4G at most for one times the other");
    assert_int_equal(parse_two("[kdf]\n\nmemory = 1G\n", "[kdf]\ntime = 16\n", NULL, NULL, &r, &e), -1);
    assert_string_equal(e.text, "/etc/tazpod.ini line 3: kdf.memory 1G, /w/.tazpod/config.ini line 2: "
                                "kdf.time 16; allowed: 4G at most for one times the other");
    /* The stronger file mends it. */
    assert_parsed("[kdf]\nmemory = 1G\ntime = 16\n", "[kdf]\nmemory = 64M\n", NULL, NULL, &r);
}

/* --- the text of a file --- */

static void blank_lines_comments_and_layout_change_nothing(void **state)
{
    struct config_record r;

    (void)state;
    assert_parsed("\xef\xbb\xbf; a comment\r\n\r\n  # another\r\n\t[ram] ; behind a section\r\n"
                  "  backend: own\r\n    size\t=  2M ; behind a value\r\n\v\f\r\n[log]# here too\r\n[ram]\r\n"
                  "\trequire_noswap = yes",
                  NULL, NULL, NULL, &r);
    assert_int_equal(r.ram_backend, CONFIG_BACKEND_OWN);
    assert_int_equal(r.ram_size_bytes, 2 << 20);
    assert_int_equal(r.ram_require_noswap, 1);
    assert_parsed("\xef\xbb\xbf[ram]\nsize = 2M\n", NULL, NULL, NULL, &r);
    assert_int_equal(r.ram_size_bytes, 2 << 20);
    assert_parsed("\xef\xbb\xbf", NULL, NULL, NULL, &r);
    assert_parsed("\n", NULL, NULL, NULL, &r);
}

static void a_broken_line_is_named_with_its_number(void **state)
{
    static const struct {
        const char *text, *message;
    } CASES[] = {
#define SECTIONS "there are: [ram] [kdf] [log] [stop] [worker] [history]"
        {"[ram]\n# x\n\nsize 64M\n", "line 4: neither [section] nor key = value"},
        {"[ram\nsize = 64M\n", "line 1: neither [section] nor key = value"},
        {"[]\nsize = 64M\n", "line 2: \"size\" stands in no section; " SECTIONS},
        {"size = 64M\n", "line 1: \"size\" stands in no section; " SECTIONS},
        {"ram.size = 64M\n", "line 1: \"ram.size\" stands in no section; " SECTIONS},
        {"[rma]\nsize = 64M\n", "line 2: no key \"size\" in [rma]; " SECTIONS},
        {"[ram]\nsiz = 64M\n", "line 2: no key \"siz\" in [ram]; there are: backend size require_noswap"},
        {"[ram]\nSize = 64M\n", "line 2: no key \"Size\" in [ram]; there are: backend size require_noswap"},
        {"[ram]\n= 64M\n", "line 2: no key \"\" in [ram]; there are: backend size require_noswap"},
        {"[ram]\nsize =\n", "line 2: ram.size can't be \"\"; allowed: 1M to 64G"},
        {"[ram]\nsize = \"64M\"\n", "line 2: ram.size can't be \"?64M?\"; allowed: 1M to 64G"},
        {"[ram]\nsize = 64M # much\n", "line 2: ram.size can't be \"64M # much\"; allowed: 1M to 64G"},
        {"[ram]\nsize = 1M\n[log]\n[ram]\nsize = 1M\n", "line 5: ram.size is in line 2 already"},
        {"[ram]\nsize = 1M\n  2M\n", "line 3: neither [section] nor key = value"},
        {"[ram]\nsize = 1M\n  backend = x\n", "line 3: ram.backend can't be \"x\"; allowed: auto|own|given"},
        {"[ram] size = 1M\n", "line 1: something behind [section], which needs a line of its own"},
        {"\xef\xbb\xbf[ram] x", "line 1: something behind [section], which needs a line of its own"},
        {" [ram]\rsize = 1M\r", "line 1: something behind [section], which needs a line of its own"},
        {"junk\n[ram]\nsize = 0\n", "line 1: neither [section] nor key = value"},
        {"[ram]\nsize = 0\njunk\n", "line 2: ram.size can't be \"0\"; allowed: 1M to 64G"},
        {"[ram]\nsize = \x1b[2J\xc3\xa4\x7f\n", "line 2: ram.size can't be \"?[2J???\"; allowed: 1M to 64G"},
        {"[ram]\nsize = 1234567890123456789012345678901234567890\n",
         "line 2: ram.size can't be \"123456789012345678901234567890123456...\"; allowed: 1M to 64G"},
#undef SECTIONS
    };
    char message[300];

    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        (void)snprintf(message, sizeof message, "/etc/tazpod.ini %s", CASES[i].message);
        assert_broken(CASES[i].text, NULL, NULL, message);
    }
}

static void a_line_of_190_bytes_is_read_and_one_more_is_not(void **state)
{
    struct config_record r;
    char text[512];

    (void)state;
    for (int blanks = 0; blanks < 2; blanks++) {
        /* The limit is the same for a comment and for a value that blanks make long. */
        (void)snprintf(text, sizeof text, "[ram]\n%c%-189s\n", blanks ? ' ' : '#', "size = 2M");
        assert_parsed(text, NULL, NULL, NULL, &r);
        assert_int_equal(r.ram_size_bytes, (blanks ? 2 : 64) << 20);
        (void)snprintf(text, sizeof text, "[ram]\n%c%-190s\nbackend = own", blanks ? ' ' : '#', "size = 2M");
        assert_broken(text, NULL, NULL, "/etc/tazpod.ini line 2: longer than 190 bytes");
    }
    memset(text, 'x', 300);
    text[300] = '\0';
    assert_broken(text, NULL, NULL, "/etc/tazpod.ini line 1: longer than 190 bytes");
}

static void a_nul_byte_is_broken_even_in_a_comment(void **state)
{
    static const char TEXT[] = "[ram]\nsize = 2M\n# a\0b\n";
    struct config_source s = {.system = "/etc/tazpod.ini"};
    struct config_record r;
    struct err e;

    (void)state;
    files.project.len = 0;
    files.system.len = sizeof TEXT - 1;
    memcpy(files.system.bytes, TEXT, sizeof TEXT - 1);
    assert_int_equal(config_parse(&s, &files, &r, &e), -1);
    assert_string_equal(e.text, "/etc/tazpod.ini line 3: a NUL byte");
}

static void a_long_path_is_cut_in_front_and_the_rest_of_the_message_stays(void **state)
{
    struct config_source s = {0};
    struct config_record r;
    char path[256];
    struct err e;

    (void)state;
    memset(path, 'd', sizeof path);
    (void)strcpy(path + 200, "/end\n/config.ini");
    s.project = path;
    files.system.len = 0;
    files.project.len = 8;
    memcpy(files.project.bytes, "[ram]\nx=", 8);
    assert_int_equal(config_parse(&s, &files, &r, &e), -1);
    assert_non_null(strstr(e.text, "...dddd"));
    assert_non_null(strstr(e.text, "d/end?/config.ini line 2: no key \"x\" in [ram]; there are: backend "));
}

/* --- files --- */

static int read_at(const char *system, const char *project, struct config_record *r, struct err *e)
{
    struct config_source s = {.system = system, .project = project};
    int before = unit_open_files(), rc;

    memset(e, 0, sizeof *e);
    rc = config_read(&s, r, e);
    assert_int_equal(unit_open_files(), before);
    return rc;
}

static void assert_unreadable(const char *system, const char *project, const char *why)
{
    struct config_record r;
    char text[296];
    struct err e;

    assert_int_equal(read_at(system, project, &r, &e), -1);
    assert_int_equal(e.code, 78);
    assert_string_equal(e.word, "config");
    (void)snprintf(text, sizeof text, "%s: %s", system ? system : project, why);
    assert_string_equal(e.text, text);
}

static void files_are_read_and_a_missing_one_is_none(void **state)
{
    char *dir = unit_dir(false);
    const char *system = unit_path(dir, "tazpod.ini"), *project = unit_path(dir, "config.ini");
    struct config_record r;
    struct err e;

    (void)state;
    assert_int_equal(read_at(system, project, &r, &e), 0);
    assert_int_equal(read_at(NULL, NULL, &r, &e), 0);
    assert_int_equal(read_at(unit_path(dir, "no/tazpod.ini"), unit_path(dir, "no/config.ini"), &r, &e), 0);
    assert_int_equal(r.ram_size_bytes, 64 << 20);
    unit_write(system, "[ram]\nsize = 2M\n", 16);
    unit_write(project, "[log]\nnames = yes\n", 18);
    assert_int_equal(read_at(system, project, &r, &e), 0);
    assert_int_equal(r.ram_size_bytes, 2 << 20);
    assert_int_equal(r.log_names, 1);
    assert_int_equal(origin_of(&r, "log.names"), CONFIG_FROM_PROJECT);
    unit_write(project, "", 0);
    assert_int_equal(read_at(system, project, &r, &e), 0);
    unit_remove(dir);
}

static void what_is_no_readable_regular_file_is_broken_and_never_waited_for(void **state)
{
    char *dir = unit_dir(false);
    const char *fifo = unit_path(dir, "fifo"), *closed = unit_path(dir, "closed");

    (void)state;
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_unreadable(fifo, NULL, "not a regular file");
    assert_unreadable(NULL, fifo, "not a regular file");
    assert_unreadable(dir, NULL, "not a regular file");
    assert_unreadable("/dev/null", NULL, "not a regular file");
    unit_write(closed, "", 0);
    assert_unreadable(unit_path(dir, "closed/config.ini"), NULL, "Not a directory");
    assert_int_equal(chmod(closed, 0), 0);
    assert_unreadable(closed, NULL, "Permission denied");
    assert_unreadable(NULL, closed, "Permission denied");
    unit_remove(dir);
}

static void a_file_of_64_KiB_is_read_and_one_byte_more_is_not(void **state)
{
    static char text[CONFIG_FILE_MAX + 1];
    char *dir = unit_dir(false);
    const char *path = unit_path(dir, "tazpod.ini");
    struct config_record r;
    struct err e;

    (void)state;
    memset(text, '\n', sizeof text);
    memcpy(text + CONFIG_FILE_MAX - 15, "[ram]\nsize = 2M", 15);
    unit_write(path, text, CONFIG_FILE_MAX);
    assert_int_equal(read_at(path, NULL, &r, &e), 0);
    assert_int_equal(r.ram_size_bytes, 2 << 20);
    unit_write(path, text, sizeof text);
    assert_unreadable(path, NULL, "larger than 64 KiB");
    unit_remove(dir);
}

static void links_are_followed_for_the_system_and_refused_beside_the_vault(void **state)
{
    char *dir = unit_dir(false);
    const char *file = unit_path(dir, "secret"), *link_to = unit_path(dir, "link");
    const char *nowhere = unit_path(dir, "nowhere"), *shut = unit_path(dir, "shut");
    struct config_record r;
    struct err e;

    (void)state;
    unit_write(file, "[ram]\nsize = 2M\n", 16);
    assert_int_equal(symlink("secret", link_to), 0);
    assert_int_equal(symlink("not-there", nowhere), 0);
    assert_int_equal(read_at(link_to, NULL, &r, &e), 0);
    assert_int_equal(r.ram_size_bytes, 2 << 20);
    assert_unreadable(NULL, link_to, "a symbolic link, which is not followed here");
    assert_unreadable(NULL, nowhere, "a symbolic link, which is not followed here");
    assert_unreadable(nowhere, NULL, "a symbolic link that leads nowhere");
    assert_int_equal(symlink("shut", shut), 0);
    assert_unreadable(shut, NULL, "a symbolic link that leads nowhere");
    assert_int_equal(chmod(file, 0), 0);
    assert_unreadable(link_to, NULL, "Permission denied");
    unit_remove(dir);
}

static void the_projects_file_lies_beside_the_vault(void **state)
{
    char path[32];

    (void)state;
    assert_int_equal(config_beside("/workspace/.tazpod/vault.tpv", path, sizeof path), 0);
    assert_string_equal(path, "/workspace/.tazpod/config.ini");
    assert_int_equal(config_beside("/my.tpv", path, sizeof path), 0);
    assert_string_equal(path, "/config.ini");
    assert_int_equal(config_beside("my.tpv", path, sizeof path), 0);
    assert_string_equal(path, "config.ini");
    assert_int_equal(config_beside("/workspace/project/.tazpod/v", path, sizeof path), -1);
}

/* --- what is printed --- */

static void values_are_printed_with_their_source(void **state)
{
    const char *environment[] = {"TAZPOD_RAM_SIZE=1536M", NULL};
    const char *flags[] = {"TAZPOD_STOP_TIMEOUT=1500ms", NULL};
    struct config_source s = {"/w/\"q\"\\\x01\xc3\xa4.ini", "/w/\xff.ini", environment, flags};
    struct config_record r;
    char printed[4096];
    FILE *to;

    (void)state;
    assert_parsed("[log]\nformat = json\n", "[ram]\nrequire_noswap = yes\n", environment, flags, &r);
    to = fmemopen(printed, sizeof printed, "w");
    assert_non_null(to);
    config_print(to, &s, &r, false);
    assert_int_equal(fclose(to), 0);
    assert_string_equal(printed, "ram.backend           auto      default\n"
                                 "ram.size              1536M     TAZPOD_RAM_SIZE\n"
                                 "ram.require_noswap    yes       /w/?q?\\???.ini\n"
                                 "kdf.memory            64M       default\n"
                                 "kdf.time              3         default\n"
                                 "log.format            json      /w/?.ini\n"
                                 "log.names             no        default\n"
                                 "stop.timeout          1500ms    --stop-timeout\n"
                                 "worker.timeout        60s       default\n"
                                 "history.generations   5         default\n"
                                 "history.interval      600s      default\n");
    to = fmemopen(printed, sizeof printed, "w");
    assert_non_null(to);
    config_print(to, &s, &r, true);
    assert_int_equal(fclose(to), 0);
    assert_string_equal(
        printed,
        "{\n  \"version\": 1,\n  \"keys\": {\n"
        "    \"ram.backend\": {\"value\": \"auto\", \"text\": \"auto\", \"origin\": \"default\"},\n"
        "    \"ram.size\": {\"value\": 1610612736, \"unit\": \"bytes\", \"text\": \"1536M\", "
        "\"origin\": \"environment\", \"from\": \"TAZPOD_RAM_SIZE\"},\n"
        "    \"ram.require_noswap\": {\"value\": true, \"text\": \"yes\", \"origin\": \"project\", "
        "\"from\": \"/w/\\\"q\\\"\\\\\\u0001\xc3\xa4.ini\"},\n"
        "    \"kdf.memory\": {\"value\": 67108864, \"unit\": \"bytes\", \"text\": \"64M\", "
        "\"origin\": \"default\"},\n"
        "    \"kdf.time\": {\"value\": 3, \"text\": \"3\", \"origin\": \"default\"},\n"
        "    \"log.format\": {\"value\": \"json\", \"text\": \"json\", \"origin\": \"system\", "
        "\"from\": \"/w/\\ufffd.ini\"},\n"
        "    \"log.names\": {\"value\": false, \"text\": \"no\", \"origin\": \"default\"},\n"
        "    \"stop.timeout\": {\"value\": 1500, \"unit\": \"ms\", \"text\": \"1500ms\", "
        "\"origin\": \"flag\", \"from\": \"--stop-timeout\"},\n"
        "    \"worker.timeout\": {\"value\": 60000, \"unit\": \"ms\", \"text\": \"60s\", "
        "\"origin\": \"default\"},\n"
        "    \"history.generations\": {\"value\": 5, \"text\": \"5\", \"origin\": \"default\"},\n"
        "    \"history.interval\": {\"value\": 600000, \"unit\": \"ms\", \"text\": \"600s\", "
        "\"origin\": \"default\"}\n"
        "  }\n}\n");
}

static size_t sample(char *out, size_t size)
{
    FILE *to = fmemopen(out, size, "w");
    long n;

    assert_non_null(to);
    config_sample(to);
    n = ftell(to);
    assert_int_equal(fclose(to), 0);
    assert_true(n > 0 && (size_t)n < size);
    return (size_t)n;
}

static void the_sample_in_docs_is_what_the_program_prints(void **state)
{
    char printed[8192], kept[8192];

    (void)state;
    (void)sample(printed, sizeof printed);
    (void)unit_read("docs/tazpod.ini", kept, sizeof kept);
    assert_string_equal(kept, printed);
}

/* Takes the # away from every "#key = value", as its first lines say. */
static size_t uncomment(char *text)
{
    char *to = text, *from = text;

    for (; *from; from++)
        if (!(*from == '#' && from[1] >= 'a' && from[1] <= 'z'))
            *to++ = *from;
    *to = '\0';
    return (size_t)(to - text);
}

static void the_sample_changes_nothing_and_uncommented_names_every_default(void **state)
{
    struct config_record r, standard;
    char text[8192];

    (void)state;
    (void)sample(text, sizeof text);
    assert_parsed(NULL, NULL, NULL, NULL, &standard);
    assert_parsed(text, NULL, NULL, NULL, &r);
    assert_memory_equal(&r, &standard, sizeof r);
    (void)uncomment(text);
    assert_parsed(text, NULL, NULL, NULL, &r);
    for (unsigned i = 0; i < CONFIG_KEYS; i++)
        assert_int_equal(r.origin[i], CONFIG_FROM_SYSTEM);
    memset(r.origin, CONFIG_FROM_DEFAULT, sizeof r.origin);
    assert_memory_equal(&r, &standard, sizeof r);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

static void assert_once(const char *page, const char *what)
{
    if (count(page, what) != 1)
        fail_msg("%u times in the page instead of once: %s", count(page, what), what);
}

static void the_manual_page_has_every_key_as_the_table_has_it_and_no_other(void **state)
{
    char page[32768], line[256];

    (void)state;
    (void)unit_read("docs/man/tazpod.ini.5", page, sizeof page);
    for (unsigned i = 0; i < CONFIG_KEYS; i++) {
        const struct config_key *k = &config_keys[i];

        (void)snprintf(line, sizeof line, "\n.It Li %s Ta %s Ta %s Ta %s%s\n", k->name, k->allowed,
                       k->standard, k->variable ? "Ev " : "\\-", k->variable ? k->variable : "");
        assert_once(page, line);
        (void)snprintf(line, sizeof line, "\n.It Cm %s\n", k->name);
        assert_once(page, line);
    }
    assert_int_equal(count(page, "\n.It Li "), CONFIG_KEYS);
    assert_int_equal(count(page, "\n.It Cm "), CONFIG_KEYS);
}

static void every_key_of_the_table_is_well_formed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CONFIG_KEYS; i++) {
        const struct config_key *k = &config_keys[i];

        assert_non_null(strchr(k->name, '.'));
        assert_true(strlen(k->name) <= 20 && strlen(k->doc) < 100);
        assert_true(!k->variable || strncmp(k->variable, "TAZPOD_", 7) == 0);
        for (unsigned j = 0; j < i; j++) {
            assert_string_not_equal(k->name, config_keys[j].name);
            assert_int_not_equal(k->offset, config_keys[j].offset);
            assert_true(!k->variable || !config_keys[j].variable ||
                        strcmp(k->variable, config_keys[j].variable) != 0);
        }
    }
}

/* --- hostile files --- */

static const char *const PIECES[] = {
    "[ram]\n", "[kdf]\n", "[log]\n", "[stop]\n", "[worker]\n", "[", "]", "=", ":", ";", " ;", "#", "\n",
    "size = 64M\n", "size = 2M\n", "time = 16\n", "memory = 1G\n", "names = yes\n", "timeout = 9s\n", "\r",
    "format = json\n", "backend = own\n", "require_noswap = yes\n", "\xef\xbb\xbf", "\xff", "\t", "\r\n",
    "99999999999G", " ",
    "                                                                                        ",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
};

/* One change somewhere in the text: a byte, a cut, a piece put in, a part repeated. */
static size_t mutate(char *text, size_t len, size_t room, uint64_t *seed)
{
    size_t at = len > 0 ? unit_random(seed) % len : 0, n;
    const char *piece;

    switch (unit_random(seed) % 5) {
    case 0:
        if (len > 0)
            text[at] = (char)unit_random(seed);
        return len;
    case 1:
        n = len - at < 40 ? len - at : unit_random(seed) % 40;
        memmove(text + at, text + at + n, len - at - n);
        return len - n;
    case 2:
        n = len - at < 300 ? len - at : unit_random(seed) % 300;
        if (len + n > room)
            return len;
        memmove(text + at + n, text + at, len - at);
        return len + n;
    default:
        piece = PIECES[unit_random(seed) % (sizeof PIECES / sizeof *PIECES)];
        n = strlen(piece);
        if (len + n > room)
            return len;
        memmove(text + at + n, text + at, len - at);
        memcpy(text + at, piece, n);
        return len + n;
    }
}

/* Every value of a record that was read can be written down and read again. */
static void assert_sound(const struct config_record *r)
{
    struct config_source s = {0};
    char printed[4096], text[4096], name[32], value[32], *line, *rest = printed;
    struct config_record again;
    FILE *to = fmemopen(printed, sizeof printed, "w");
    size_t n = 0;

    assert_non_null(to);
    config_print(to, &s, r, false);
    assert_int_equal(fclose(to), 0);
    while ((line = strsep(&rest, "\n")) && *line) {
        assert_int_equal(sscanf(line, "%31s %31s", name, value), 2);
        *strchr(name, '.') = '\0';
        n += (size_t)snprintf(text + n, sizeof text - n, "[%s]\n%s = %s\n", name, name + strlen(name) + 1,
                              value);
    }
    assert_parsed(text, NULL, NULL, NULL, &again);
    memcpy(again.origin, r->origin, sizeof again.origin);
    assert_memory_equal(&again, r, sizeof again);
}

/* A message is whole, says which file, and can be shown on a terminal. */
static void assert_said(const struct err *e)
{
    size_t n = strnlen(e->text, sizeof e->text);

    assert_int_equal(e->code, 78);
    assert_string_equal(e->word, "config");
    assert_true(n > 0 && n < sizeof e->text - 1);
    assert_non_null(strstr(e->text, "/w/config.ini"));
    for (size_t i = 0; i < n; i++)
        assert_in_range(e->text[i], ' ', '~');
}

/* The head of the files and so many bytes of the second one: what lies behind is not there, so a
 * sanitizer sees a step too far. */
static struct config_files *cut(const char *text, size_t len)
{
    size_t head = offsetof(struct config_files, project) + offsetof(struct config_text, bytes);
    struct config_files *f = malloc(head + len);

    assert_non_null(f);
    f->system.len = 0;
    f->project.len = len;
    memcpy((char *)f + head, text, len);
    return f;
}

static void ten_thousand_damaged_files_give_a_sound_record_or_a_clear_error(void **state)
{
    enum { ROUNDS = 10000 };
    struct config_source s = {.project = "/w/config.ini"};
    struct config_record r, before;
    struct config_files *f;
    uint64_t seed = 1;
    char text[8192];
    struct err e;
    int sound = 0;

    (void)state;
    memset(&before, 0x5a, sizeof before);
    for (int round = 0; round < ROUNDS; round++) {
        size_t len = sample(text, sizeof text);

        if (round % 2)
            len = uncomment(text);
        for (uint64_t n = unit_random(&seed) % 8; n > 0; n--)
            len = mutate(text, len, sizeof text, &seed);
        f = cut(text, len);
        r = before;
        memset(&e, 0, sizeof e);
        if (config_parse(&s, f, &r, &e) == 0) {
            assert_sound(&r);
            sound++;
        } else {
            assert_memory_equal(&r, &before, sizeof r);
            assert_said(&e);
        }
        free(f);
    }
    /* Both ends were reached, or the damage was of one kind only. */
    assert_in_range(sound, ROUNDS / 10, ROUNDS - ROUNDS / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_any_source_every_key_has_its_default),
        cmocka_unit_test(every_key_is_read_from_a_file),
        cmocka_unit_test(the_stronger_source_wins_and_is_named),
        cmocka_unit_test(a_demand_for_noswap_can_not_be_taken_back),
        cmocka_unit_test(an_empty_variable_counts_as_not_set_and_strange_ones_are_passed_over),
        cmocka_unit_test(a_variable_or_a_flag_that_is_not_allowed_is_named),
        cmocka_unit_test(a_weaker_source_that_is_broken_is_an_error_all_the_same),
        cmocka_unit_test(every_default_is_allowed_and_prints_as_it_is_written),
        cmocka_unit_test(the_bounds_of_a_range_are_allowed_and_what_lies_beyond_is_not),
        cmocka_unit_test(a_derivation_that_no_reader_would_accept_is_refused),
        cmocka_unit_test(blank_lines_comments_and_layout_change_nothing),
        cmocka_unit_test(a_broken_line_is_named_with_its_number),
        cmocka_unit_test(a_line_of_190_bytes_is_read_and_one_more_is_not),
        cmocka_unit_test(a_nul_byte_is_broken_even_in_a_comment),
        cmocka_unit_test(a_long_path_is_cut_in_front_and_the_rest_of_the_message_stays),
        cmocka_unit_test(files_are_read_and_a_missing_one_is_none),
        cmocka_unit_test(what_is_no_readable_regular_file_is_broken_and_never_waited_for),
        cmocka_unit_test(a_file_of_64_KiB_is_read_and_one_byte_more_is_not),
        cmocka_unit_test(links_are_followed_for_the_system_and_refused_beside_the_vault),
        cmocka_unit_test(the_projects_file_lies_beside_the_vault),
        cmocka_unit_test(values_are_printed_with_their_source),
        cmocka_unit_test(the_sample_in_docs_is_what_the_program_prints),
        cmocka_unit_test(the_sample_changes_nothing_and_uncommented_names_every_default),
        cmocka_unit_test(the_manual_page_has_every_key_as_the_table_has_it_and_no_other),
        cmocka_unit_test(every_key_of_the_table_is_well_formed),
        cmocka_unit_test(ten_thousand_damaged_files_give_a_sound_record_or_a_clear_error),
    };

    unit_drop_root();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
