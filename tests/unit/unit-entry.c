/* unit-entry - which names and links a vault may hold. */
#include <stdio.h>
#include <string.h>

#include "../../vault/entry.h"
#include "unit.h"

static void refused(const char *path, const char *why)
{
    const char *answer = entry_path_refused(path);

    if (!answer)
        fail_msg("taken: %s", path);
    if (!strstr(answer, why))
        fail_msg("%s: refused for %s, not %s", path, answer, why);
}

static void taken(const char *path)
{
    const char *answer = entry_path_refused(path);

    if (answer)
        fail_msg("refused for %s: %s", answer, path);
}

static void ordinary_names_are_taken(void **state)
{
    static const char *const NAMES[] = {
        "a", "a/b", ".hidden", "..hidden", "...", "a/...", "a../b", "a b", "-rf", "~", "a\\b", "a:b", "*?[]",
        "caf\xc3\xa9", "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e/\xf0\x9f\x94\x91", "e\xcc\x81", "\xef\xbf\xbd",
        "\xc2\x80", /* U+0080 is no control byte */
    };

    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        taken(NAMES[i]);
}

static void names_that_point_elsewhere_are_refused(void **state)
{
    (void)state;
    refused("", "empty name");
    refused("/", "absolute");
    refused("/etc/passwd", "absolute");
    refused("//a", "absolute");
    refused(".", ". or ..");
    refused("..", ". or ..");
    refused("./a", ". or ..");
    refused("../a", ". or ..");
    refused("a/..", ". or ..");
    refused("a/.", ". or ..");
    refused("a/./b", ". or ..");
    refused("a/../b", ". or ..");
    refused("a//b", "empty");
    refused("a/", "empty");
}

static void control_bytes_are_refused_wherever_they_stand(void **state)
{
    (void)state;
    for (int c = 1; c < 128; c++) {
        bool control = c < 32 || c == 127;

        for (size_t at = 0; at < 5; at++) {
            char name[] = "ab/cd";

            if (c == '/')
                continue;
            name[at] = (char)c;
            if (control)
                refused(name, "control character");
            else
                taken(name);
        }
    }
}

/* Makes a/b/c of n components, each of one byte. */
static void components(char *out, int n)
{
    for (int i = 0; i < n; i++) {
        out[2 * i] = 'd';
        out[2 * i + 1] = '/';
    }
    out[2 * n - 1] = '\0';
}

static void lengths_are_taken_up_to_their_limit_and_refused_beyond(void **state)
{
    char path[2048];

    (void)state;
    (void)snprintf(path, sizeof path, "%0255d", 0);
    taken(path);
    (void)snprintf(path, sizeof path, "%0256d", 0);
    refused(path, "255 bytes");
    (void)snprintf(path, sizeof path, "d/%0255d/f", 0);
    taken(path);
    (void)snprintf(path, sizeof path, "d/%0256d/f", 0);
    refused(path, "255 bytes");

    memset(path, 'x', sizeof path);
    for (size_t at = 204; at < 1024; at += 205)
        path[at] = '/';
    path[1024] = '\0';
    taken(path);
    path[1024] = 'x';
    path[1025] = '\0';
    refused(path, "1024 bytes");

    components(path, 32);
    taken(path);
    components(path, 33);
    refused(path, "deeper than 32");
}

/* --- UTF-8 --- */

static size_t encode(unsigned c, char out[5])
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char LEAD[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(LEAD[n] | c);
    out[n] = '\0';
    return n;
}

static void every_character_but_surrogates_is_utf8(void **state)
{
    char text[5];

    (void)state;
    for (unsigned c = 1; c <= 0x10ffff; c++) {
        bool surrogate = c >= 0xd800 && c <= 0xdfff;

        (void)encode(c, text);
        if (!entry_is_utf8(text) != surrogate)
            fail_msg("U+%04X", c);
    }
    for (unsigned c = 0x110000; c <= 0x1fffff; c += 0x101) {
        (void)encode(c, text);
        assert_false(entry_is_utf8(text));
    }
}

/* The table of well-formed sequences in the Unicode standard (3-7): first byte, second, and how many
 * more of 80..BF. Written as a table, so that it shares no thought with what is tested. */
static const struct row {
    unsigned char first_low, first_high, second_low, second_high;
    int more;
} ROWS[] = {
    {0x01, 0x7f, 0, 0, -1},      {0xc2, 0xdf, 0x80, 0xbf, 0}, {0xe0, 0xe0, 0xa0, 0xbf, 1},
    {0xe1, 0xec, 0x80, 0xbf, 1}, {0xed, 0xed, 0x80, 0x9f, 1}, {0xee, 0xef, 0x80, 0xbf, 1},
    {0xf0, 0xf0, 0x90, 0xbf, 2}, {0xf1, 0xf3, 0x80, 0xbf, 2}, {0xf4, 0xf4, 0x80, 0x8f, 2},
};

static bool well_formed(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    while (*p) {
        const struct row *r = ROWS, *end = ROWS + sizeof ROWS / sizeof *ROWS;

        while (r < end && (*p < r->first_low || *p > r->first_high))
            r++;
        if (r == end)
            return false;
        p++;
        if (r->more < 0)
            continue;
        if (*p < r->second_low || *p > r->second_high)
            return false;
        p++;
        for (int i = 0; i < r->more; i++, p++)
            if (*p < 0x80 || *p > 0xbf)
                return false;
    }
    return true;
}

static void every_sequence_of_up_to_three_bytes_is_judged_as_unicode_says(void **state)
{
    (void)state;
    for (unsigned v = 1; v < 1u << 24; v++) {
        const char text[] = {(char)(v >> 16 & 0xff), (char)(v >> 8 & 0xff), (char)(v & 0xff), '\0'};
        const char *start = text + (v < 1u << 8 ? 2 : v < 1u << 16 ? 1 : 0);

        if (!entry_is_utf8(start) != !well_formed(start))
            fail_msg("bytes %06x", v);
    }
}

static void sequences_of_four_bytes_are_judged_at_every_edge(void **state)
{
    static const unsigned char EDGES[] = {0, 1, 0x7f, 0x80, 0x81, 0xbe, 0xbf, 0xc0, 0xff};

    (void)state;
    for (unsigned first = 0xe0; first <= 0xff; first++)
        for (unsigned second = 1; second <= 0xff; second++)
            for (size_t i = 0; i < sizeof EDGES * sizeof EDGES; i++) {
                const char text[] = {(char)first, (char)second, (char)EDGES[i / sizeof EDGES],
                                     (char)EDGES[i % sizeof EDGES], '\0'};

                if (!entry_is_utf8(text) != !well_formed(text))
                    fail_msg("bytes %02x %02x %02x %02x", first, second, (unsigned char)text[2],
                             (unsigned char)text[3]);
            }
}

static void a_name_that_is_not_utf8_is_refused(void **state)
{
    (void)state;
    refused("caf\xe9", "not UTF-8");
    refused("a/\xed\xa0\x80", "not UTF-8");
    refused("\xc0\xaf", "not UTF-8"); /* a slash in disguise */
    refused("\xf0\x9f\x94", "not UTF-8");
}

/* --- links --- */

static void link_refused(const char *path, const char *target, const char *why)
{
    const char *answer = entry_link_refused(path, target);

    if (!answer)
        fail_msg("taken: %s -> %s", path, target);
    if (!strstr(answer, why))
        fail_msg("%s -> %s: refused for %s, not %s", path, target, answer, why);
}

static void link_taken(const char *path, const char *target)
{
    const char *answer = entry_link_refused(path, target);

    if (answer)
        fail_msg("refused for %s: %s -> %s", answer, path, target);
}

static void links_inside_the_tree_are_taken(void **state)
{
    (void)state;
    link_taken("l", "a");
    link_taken("l", ".");
    link_taken("l", "./a/./b");
    link_taken("l", "a//b/");
    link_taken("l", "not/there/yet");
    link_taken("d/l", "..");
    link_taken("d/l", "../a/b");
    link_taken("d/l", "./../a");
    link_taken("d/l", ".//.././a");
    link_taken("a/b/c/l", "../../../x");
    link_taken("l", "..a");
    link_taken("l", "...");
    link_taken("l", "a/..b");
}

static void links_that_leave_the_tree_are_refused(void **state)
{
    (void)state;
    link_refused("l", "", "nothing");
    link_refused("l", "/", "absolute");
    link_refused("d/l", "/run/secrets", "absolute");
    link_refused("l", "..", "leaves the tree");
    link_refused("l", "./../x", "leaves the tree");
    link_refused("d/l", "../..", "leaves the tree");
    link_refused("d/l", "../.././x", "leaves the tree");
    link_refused("a/b/c/l", "../../../../x", "leaves the tree");
}

/* Behind a name ".." is a step up from wherever another link may have led. */
static void a_link_goes_up_only_before_it_goes_down(void **state)
{
    (void)state;
    link_refused("a/b/l", "x/..", "up after going down");
    link_refused("a/b/l", "x/../y", "up after going down");
    link_refused("a/b/l", "../x/..", "up after going down");
    link_refused("a/b/l", "../x/./../y", "up after going down");
    link_refused("a/b/l", "../x//..", "up after going down");
    link_refused("l", "a/b/up/../..", "up after going down");
}

static void link_targets_are_plain_text_of_at_most_1024_bytes(void **state)
{
    char target[1100];

    (void)state;
    link_refused("l", "a\nb", "plain UTF-8");
    link_refused("l", "a\x7f", "plain UTF-8");
    link_refused("l", "\xff", "plain UTF-8");
    memset(target, 'x', sizeof target);
    target[1024] = '\0';
    link_taken("l", target);
    target[1024] = 'x';
    target[1025] = '\0';
    link_refused("l", target, "1024 bytes");
}

/* A small tree as a kernel would walk it. Node 0 is the root. */
enum { NODES = 24 };

struct node {
    int parent;
    bool is_dir;
    char name;
    char path[64];
    char target[32];
};

struct tree {
    struct node nodes[NODES];
    int n;
    bool escaped;
};

static int child(const struct tree *t, int dir, char name)
{
    for (int i = 1; i < t->n; i++)
        if (t->nodes[i].parent == dir && t->nodes[i].name == name)
            return i;
    return -1;
}

/* Walks target from a directory; -1 where there is nothing. Notes when ".." is taken at the root. */
static int walk(struct tree *t, int dir, const char *target, int *hops)
{
    for (const char *p = target; *p && dir >= 0;) {
        size_t n = strcspn(p, "/");

        if (n == 2 && p[0] == '.' && p[1] == '.') {
            if (dir == 0) {
                t->escaped = true;
                return -1;
            }
            dir = t->nodes[dir].parent;
        } else if (n == 1 && p[0] != '.') {
            int next = child(t, dir, p[0]);

            if (next >= 0 && !t->nodes[next].is_dir)
                next = ++*hops > 40 ? -1 : walk(t, dir, t->nodes[next].target, hops);
            dir = next;
        }
        p += n + (p[n] == '/');
    }
    return dir;
}

static void random_target(uint64_t *seed, char *out)
{
    static const char *const PARTS[] = {"..", "..", ".", "a", "b", "c"};
    int n = 1 + (int)(unit_random(seed) % 5);

    *out = '\0';
    for (int i = 0; i < n; i++) {
        if (i)
            strcat(out, "/");
        strcat(out, PARTS[unit_random(seed) % 6]);
    }
}

static void no_chain_of_links_that_were_taken_leads_out_of_the_tree(void **state)
{
    unsigned long links = 0, resolved = 0;
    uint64_t seed = 1;

    (void)state;
    for (int round = 0; round < 40000; round++) {
        struct tree t = {.n = 1};
        char path[sizeof t.nodes[0].path];

        t.nodes[0].is_dir = true;
        while (t.n < NODES) {
            struct node *n = &t.nodes[t.n];
            int dir = (int)(unit_random(&seed) % (uint64_t)t.n);

            memset(n, 0, sizeof *n);
            n->parent = dir;
            n->name = (char)('a' + unit_random(&seed) % 3);
            n->is_dir = unit_random(&seed) % 2;
            if (!t.nodes[dir].is_dir || child(&t, dir, n->name) >= 0 || strlen(t.nodes[dir].path) > 12) {
                if (unit_random(&seed) % 8 == 0)
                    break; /* a crowded tree is full enough */
                continue;
            }
            (void)snprintf(path, sizeof path, "%.32s%s%c", t.nodes[dir].path, dir ? "/" : "", n->name);
            memcpy(n->path, path, sizeof n->path);
            if (!n->is_dir) {
                random_target(&seed, n->target);
                if (entry_link_refused(n->path, n->target))
                    continue;
                links++;
            }
            t.n++;
        }
        for (int i = 1; i < t.n; i++) {
            int hops = 0;

            if (t.nodes[i].is_dir)
                continue;
            resolved += walk(&t, t.nodes[i].parent, t.nodes[i].target, &hops) >= 0;
            if (t.escaped)
                fail_msg("%s -> %s leads out of the tree", t.nodes[i].path, t.nodes[i].target);
        }
    }
    assert_true(links > 50000 && resolved > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_names_are_taken),
        cmocka_unit_test(names_that_point_elsewhere_are_refused),
        cmocka_unit_test(control_bytes_are_refused_wherever_they_stand),
        cmocka_unit_test(lengths_are_taken_up_to_their_limit_and_refused_beyond),
        cmocka_unit_test(every_character_but_surrogates_is_utf8),
        cmocka_unit_test(every_sequence_of_up_to_three_bytes_is_judged_as_unicode_says),
        cmocka_unit_test(sequences_of_four_bytes_are_judged_at_every_edge),
        cmocka_unit_test(a_name_that_is_not_utf8_is_refused),
        cmocka_unit_test(links_inside_the_tree_are_taken),
        cmocka_unit_test(links_that_leave_the_tree_are_refused),
        cmocka_unit_test(a_link_goes_up_only_before_it_goes_down),
        cmocka_unit_test(link_targets_are_plain_text_of_at_most_1024_bytes),
        cmocka_unit_test(no_chain_of_links_that_were_taken_leads_out_of_the_tree),
    };

    return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}
