/* unit-holders - who has something open in a tree.
 *
 * Holders are children of the test. The machine has other processes, which come and go: numbers of those
 * that may not be looked at are compared with a margin. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../vault/holders.h"
#include "unit.h"

enum { CROWD = 300, SOME = 40, MARGIN = 10 };

static char *dir;
static struct holders h;
static struct err e;

static pid_t children[CROWD];
static int nchildren;
static int go[2] = {-1, -1}; /* children live until its end */

static int begin(void **state)
{
    (void)state;
    dir = unit_dir(true);
    unit_write(unit_path(dir, "file"), "0123456789", 10);
    nchildren = 0;
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    return 0;
}

static void let_them_end(void)
{
    close(go[0]);
    close(go[1]);
    for (int i = 0; i < nchildren; i++)
        assert_int_equal(waitpid(children[i], NULL, 0), children[i]);
    nchildren = 0;
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
}

static int end(void **state)
{
    (void)state;
    let_them_end();
    close(go[0]);
    close(go[1]);
    unit_remove(dir);
    return 0;
}

/* --- children --- */

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    _exit(9);
}

static void wait_for_the_end(void)
{
    char byte;

    while (read(go[0], &byte, 1) != 0)
        ;
    _exit(0);
}

/* A child that has called take(arg) by the time this returns. */
static pid_t child(void (*take)(const char *arg), const char *arg)
{
    int ready[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(go[1]);
        close(ready[0]);
        take(arg);
        must(write(ready[1], "r", 1) == 1, "say so");
        wait_for_the_end();
    }
    close(ready[1]);
    assert_true(nchildren < CROWD);
    children[nchildren++] = pid;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void nothing(const char *at)
{
    (void)at;
}

static const char *in(const char *at, const char *name)
{
    static char path[4096];

    (void)snprintf(path, sizeof path, "%s/%s", at, name);
    return path;
}

static void open_file(const char *at)
{
    must(open(in(at, "file"), O_RDWR) >= 0, "open");
}

static void open_to_read(const char *at)
{
    must(open(in(at, "file"), O_RDONLY) >= 0, "open");
}

static void open_by_path_alone(const char *at)
{
    must(open(in(at, "file"), O_PATH) >= 0, "open");
}

static void open_top(const char *at)
{
    must(open(at, O_RDONLY | O_DIRECTORY) >= 0, "open");
}

static void open_deleted(const char *at)
{
    must(open(in(at, "gone"), O_RDWR | O_CREAT, 0600) >= 0 && unlink(in(at, "gone")) == 0, "open");
}

static void map(const char *at, int prot, int flags)
{
    int fd = open(in(at, "file"), prot & PROT_WRITE ? O_RDWR : O_RDONLY);

    must(fd >= 0 && mmap(NULL, 10, prot, flags, fd, 0) != MAP_FAILED, "mmap");
    close(fd);
}

static void map_shared(const char *at)
{
    map(at, PROT_READ | PROT_WRITE, MAP_SHARED);
}

static void map_to_read(const char *at)
{
    map(at, PROT_READ, MAP_PRIVATE);
}

static void stand_at_top(const char *at)
{
    must(chdir(at) == 0, "chdir");
}

static void stand_below(const char *at)
{
    (void)mkdir(in(at, "folder"), 0700);
    must(chdir(in(at, "folder")) == 0, "chdir");
}

static void stand_in_what_is_gone(const char *at)
{
    must(mkdir(in(at, "gone"), 0700) == 0 && chdir(in(at, "gone")) == 0 && rmdir(in(at, "gone")) == 0, "chdir");
}

static void bind_at(const char *at, const char *name, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type, 0), back = open(".", O_PATH | O_CLOEXEC);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
    must(chdir(at) == 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 && fchdir(back) == 0,
         "bind"); /* a path may be longer than an address */
}

static void bind_stream(const char *at)
{
    bind_at(at, "stream", SOCK_STREAM);
}

static void bind_datagram(const char *at)
{
    bind_at(at, "datagram", SOCK_DGRAM);
}

static void bind_below(const char *at)
{
    (void)mkdir(in(at, "deep"), 0700);
    (void)mkdir(in(at, "deep/er"), 0700);
    bind_at(in(at, "deep/er"), "packets", SOCK_SEQPACKET);
}

static const struct way {
    const char *name;
    void (*take)(const char *at);
} WAYS[] = {
    {"an open file", open_file},
    {"a file open to read", open_to_read},
    {"a path alone", open_by_path_alone},
    {"the top, open", open_top},
    {"a deleted file", open_deleted},
    {"a shared map", map_shared},
    {"a private map", map_to_read},
    {"the top as directory", stand_at_top},
    {"a directory below", stand_below},
    {"a deleted directory", stand_in_what_is_gone},
    {"a bound stream", bind_stream},
    {"a bound datagram socket", bind_datagram},
    {"a socket bound deep below", bind_below},
};

enum { NWAYS = sizeof WAYS / sizeof *WAYS };

/* --- looking --- */

static void look(const char *at, int whole, pid_t spared)
{
    int fd = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    memset(&e, 0, sizeof e);
    if (holders_find(fd, whole, spared, &h, &e) != 0)
        fail_msg("%s [%s]", e.text, e.word);
    close(fd);
}

static bool is_found(pid_t pid)
{
    for (unsigned i = 0; i < h.n && i < HOLDERS_MAX; i++)
        if (h.pids[i] == pid)
            return true;
    return false;
}

static void only(pid_t pid, const char *what)
{
    char name[40];

    (void)snprintf(name, sizeof name, "%d (unit-holders)", (int)pid);
    if (h.n != 1 || h.pids[0] != pid || strcmp(h.names, name) != 0)
        fail_msg("%s: %u found, \"%s\", not \"%s\"", what, h.n, h.names, name);
}

static void nobody_holds_what_nobody_has_open(void **state)
{
    (void)state;
    look(dir, 0, 0);
    assert_int_equal(h.n, 0);
    assert_string_equal(h.names, "");
    (void)child(nothing, dir);
    look(dir, 0, 0);
    assert_int_equal(h.n, 0);
}

static void each_way_to_hold_is_found_until_it_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < NWAYS; i++) {
        pid_t pid = child(WAYS[i].take, dir);

        look(dir, 0, 0);
        only(pid, WAYS[i].name);
        look(dir, 1, 0);
        if (!is_found(pid))
            fail_msg("%s, in a tree that is all of its file system", WAYS[i].name);
        let_them_end();
        look(dir, 0, 0);
        if (h.n != 0)
            fail_msg("%s is over, and \"%s\" is found", WAYS[i].name, h.names);
    }
}

/* A file system may hold more than the tree: what begins with the same letters, and what is above. */
static void what_lies_beside_the_tree_is_held_only_where_the_tree_is_all(void **state)
{
    char tree[4096], beside[4096];

    (void)state;
    (void)snprintf(tree, sizeof tree, "%s/tree", dir);
    (void)snprintf(beside, sizeof beside, "%s/tree-of-another", dir);
    assert_int_equal(mkdir(tree, 0700), 0);
    assert_int_equal(mkdir(beside, 0700), 0);
    unit_write(unit_path(beside, "file"), "0123456789", 10);
    for (size_t i = 0; i < NWAYS; i++) {
        pid_t beside_it = child(WAYS[i].take, beside);
        pid_t above_it = child(WAYS[i].take, dir);

        look(tree, 0, 0);
        if (h.n != 0)
            fail_msg("%s beside the tree: \"%s\" is found", WAYS[i].name, h.names);
        look(tree, 1, 0);
        if (!is_found(beside_it) || !is_found(above_it))
            fail_msg("%s in the file system of the tree is not found", WAYS[i].name);
        let_them_end();
        (void)unlink(unit_path(dir, "stream"));
        (void)unlink(unit_path(dir, "datagram"));
        (void)unlink(unit_path(dir, "deep/er/packets"));
    }
}

static void this_process_and_the_spared_one_are_left_out(void **state)
{
    int fd = open(unit_path(dir, "file"), O_RDONLY | O_CLOEXEC);
    pid_t one, two;

    (void)state;
    look(dir, 0, 0);
    assert_int_equal(h.n, 0);
    close(fd); /* a child would have it too */
    one = child(open_file, dir);
    two = child(stand_at_top, dir);
    look(dir, 0, one);
    only(two, "the other");
    look(dir, 0, two);
    only(one, "the one");
    look(dir, 0, 0);
    assert_int_equal(h.n, 2);
    assert_true(is_found(one) && is_found(two));
}

/* --- odd places --- */

static void names_of_files_may_hold_anything(void **state)
{
    static const char *const NAMES[] = {"a b", "a\nb", " (deleted)", ")", "\xff\xfe", "//not/a/path",
                                        "00400000-00401000 r--p 00000000 00:01 1 /"};

    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char sub[300];
        pid_t pid;

        (void)snprintf(sub, sizeof sub, "%s", NAMES[i]);
        for (char *p = sub; *p; p++)
            if (*p == '/')
                *p = '|';
        assert_int_equal(mkdir(unit_path(dir, sub), 0700), 0);
        unit_write(unit_path(unit_path(dir, sub), "file"), "0123456789", 10);
        pid = child(map_shared, unit_path(dir, sub));
        look(dir, 0, 0);
        only(pid, sub);
        let_them_end();
        pid = child(open_file, unit_path(dir, sub));
        look(dir, 0, 0);
        only(pid, sub);
        let_them_end();
    }
}

/* Deeper than PATH_MAX, where only relative names lead. */
static void go_deep(int levels)
{
    char name[256];

    memset(name, 'n', 250);
    name[250] = '\0';
    for (int i = 0; i < levels; i++)
        must((mkdir(name, 0700) == 0 || errno == EEXIST) && chdir(name) == 0, "go deep");
}

static void hold_deep(const char *at, int levels, bool mapped)
{
    int fd, top = open("/", O_PATH | O_CLOEXEC);

    must(chdir(at) == 0, "chdir");
    go_deep(levels);
    fd = open("file", O_RDWR | O_CREAT, 0600);
    must(fd >= 0 && ftruncate(fd, 10) == 0, "open");
    if (mapped) {
        must(mmap(NULL, 10, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED, "mmap");
        close(fd);
    }
    must(fchdir(top) == 0, "fchdir");
}

static void open_at_4000(const char *at)
{
    hold_deep(at, 15, false);
}

static void map_at_4000(const char *at)
{
    hold_deep(at, 15, true);
}

static void open_at_6000(const char *at)
{
    hold_deep(at, 24, false);
}

static void map_at_6000(const char *at)
{
    hold_deep(at, 24, true);
}

static void what_is_held_may_lie_deeper_than_a_path_can_say(void **state)
{
    static const struct way DEEP[] = {
        {"open at 4000 bytes", open_at_4000}, {"mapped at 4000 bytes", map_at_4000},
        {"open at 6000 bytes", open_at_6000}, {"mapped at 6000 bytes", map_at_6000},
    };

    (void)state;
    for (size_t i = 0; i < sizeof DEEP / sizeof *DEEP; i++) {
        pid_t pid = child(DEEP[i].take, dir);

        look(dir, 0, 0);
        only(pid, DEEP[i].name);
        let_them_end();
    }
}

static void bind_at_depth(const char *at)
{
    int back = open("/", O_PATH | O_CLOEXEC);

    must(chdir(at) == 0, "chdir");
    for (int i = 0; i < 120; i++)
        must((mkdir("d", 0700) == 0 || errno == EEXIST) && chdir("d") == 0, "go deep");
    bind_at(".", "bound", SOCK_STREAM);
    must(fchdir(back) == 0, "fchdir");
}

static void a_socket_may_be_bound_at_any_depth_of_a_sane_tree(void **state)
{
    pid_t pid = child(bind_at_depth, dir);

    (void)state;
    look(dir, 0, 0);
    only(pid, "a bound socket");
}

/* --- threads --- */

static const char *thread_at;
static int thread_ready[2];

static void *outlive_the_first(void *arg)
{
    char path[64], buf[512], *at = NULL;

    (void)arg;
    must(open(in(thread_at, "file"), O_RDONLY) >= 0, "open");
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)getpid());
    while (!at || at[2] != 'Z') { /* until the first thread has ended */
        FILE *f = fopen(path, "re");

        must(f && fgets(buf, sizeof buf, f), "stat");
        (void)fclose(f);
        at = strrchr(buf, ')');
        (void)sched_yield();
    }
    must(write(thread_ready[1], "r", 1) == 1, "say so");
    wait_for_the_end();
    return NULL;
}

static void *stand_alone(void *arg)
{
    (void)arg;
    must(unshare(CLONE_FS) == 0 && chdir(thread_at) == 0, "chdir");
    must(write(thread_ready[1], "r", 1) == 1, "say so");
    wait_for_the_end();
    return NULL;
}

static void *open_alone(void *arg)
{
    (void)arg;
    must(unshare(CLONE_FILES) == 0 && open(in(thread_at, "file"), O_RDONLY) >= 0, "open");
    must(write(thread_ready[1], "r", 1) == 1, "say so");
    wait_for_the_end();
    return NULL;
}

static void threads_count(void **state)
{
    static const struct {
        const char *name;
        void *(*run)(void *arg);
        bool first_ends;
    } THREADS[] = {
        {"one that outlives the first", outlive_the_first, true},
        {"one with its own directory", stand_alone, false},
        {"one with its own files", open_alone, false},
    };
    char byte;

    (void)state;
    thread_at = dir;
    for (size_t i = 0; i < sizeof THREADS / sizeof *THREADS; i++) {
        pid_t pid;

        assert_int_equal(pipe2(thread_ready, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
            pthread_t t;

            close(go[1]);
            must(pthread_create(&t, NULL, THREADS[i].run, NULL) == 0, "a thread");
            if (THREADS[i].first_ends)
                (void)syscall(SYS_exit, 0);
            wait_for_the_end();
        }
        children[nchildren++] = pid;
        close(thread_ready[1]);
        assert_int_equal(read(thread_ready[0], &byte, 1), 1);
        close(thread_ready[0]);
        look(dir, 0, 0);
        only(pid, THREADS[i].name);
        let_them_end();
    }
}

/* --- who may not be looked at --- */

static void hold_and_hide(const char *at)
{
    open_file(at);
    must(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0, "hide");
}

static void who_may_not_be_looked_at_is_counted_and_not_taken_for_a_holder(void **state)
{
    unsigned before, with;

    (void)state;
    look(dir, 0, 0);
    before = h.unseen;
    for (int i = 0; i < SOME; i++)
        (void)child(hold_and_hide, dir);
    look(dir, 0, 0);
    with = h.unseen;
    assert_int_equal(h.n, 0);
    let_them_end();
    look(dir, 0, 0);
    if (with + MARGIN < before + SOME || h.unseen > before + MARGIN)
        fail_msg("%u, then %u with %d more, then %u", before, with, SOME, h.unseen);
    for (int i = 0; i < SOME; i++) /* the control: the same, not hidden */
        (void)child(open_file, dir);
    look(dir, 0, 0);
    assert_int_equal(h.n, SOME);
    assert_true(h.unseen <= before + MARGIN);
}

static void who_has_ended_and_was_not_collected_holds_nothing_and_hides_nothing(void **state)
{
    unsigned before;
    siginfo_t info;

    (void)state;
    look(dir, 0, 0);
    before = h.unseen;
    for (int i = 0; i < SOME; i++) {
        pid_t pid = child(open_file, dir);

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    }
    look(dir, 0, 0);
    assert_int_equal(h.n, 0);
    if (h.unseen > before + MARGIN)
        fail_msg("%u, then %u with %d that have ended", before, h.unseen, SOME);
}

/* --- names --- */

static void be_called(const char *name)
{
    open_file(dir);
    must(prctl(PR_SET_NAME, name, 0, 0, 0) == 0, "name");
}

static void a_name_is_one_line_of_plain_letters(void **state)
{
    static const char *const NAMES[][2] = {
        {"plain", "plain"},         {"with blank", "with blank"}, {"two\nlines", "two?lines"},
        {"\n", "?"},                {"tab\there", "tab?here"},    {"\x1b[31m", "?[31m"},
        {"caf\xc3\xa9", "caf??"},   {"), 1 (init", "), 1 (init"}, {"\x7f", "?"},
        {"exactly-fifteen", "exactly-fifteen"},                   {"more than fifteen", "more than fifte"},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        pid_t pid = child(be_called, NAMES[i][0]);
        char wanted[64];

        look(dir, 0, 0);
        (void)snprintf(wanted, sizeof wanted, "%d (%s)", (int)pid, NAMES[i][1]);
        assert_string_equal(h.names, wanted);
        let_them_end();
    }
}

/* Each of a list is whole, and "..." at its end says that there are more. */
static void check_list(const char *name, unsigned n)
{
    char list[sizeof h.names], *next = list, *each;
    unsigned found = 0;
    bool cut = false;

    assert_int_equal(h.n, n);
    assert_non_null(memchr(h.names, '\0', sizeof h.names));
    memcpy(list, h.names, sizeof list);
    while ((each = next)) {
        char *comma = strstr(each, ", "), wanted[64];

        next = comma ? comma + 2 : NULL;
        if (comma)
            *comma = '\0';
        if (!next && strcmp(each, "...") == 0) {
            cut = true;
            break;
        }
        (void)snprintf(wanted, sizeof wanted, "%d (%s)", (int)h.pids[found], name);
        assert_string_equal(each, wanted);
        found++;
    }
    if (cut != (found < n) || (cut && strlen(h.names) + 40 < sizeof h.names))
        fail_msg("%u of %u in \"%s\"", found, n, h.names);
}

static void a_list_that_is_too_long_is_cut_between_two_and_says_so(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 15; len++) {
        char name[16];

        memset(name, 'x', len);
        name[len] = '\0';
        for (unsigned n = 1; n <= SOME; n++) {
            (void)child(be_called, name);
            look(dir, 0, 0);
            check_list(name, n);
            if (n > 2 && strlen(h.names) > 3 && strcmp(h.names + strlen(h.names) - 3, "...") == 0)
                break;
        }
        let_them_end();
    }
}

static void of_very_many_the_first_are_told_and_all_are_counted(void **state)
{
    (void)state;
    for (int i = 0; i < CROWD; i++)
        (void)child(open_file, dir);
    look(dir, 0, 0);
    assert_int_equal(h.n, CROWD);
    for (int i = 0; i < HOLDERS_MAX; i++) {
        bool ours = false;

        for (int k = 0; k < nchildren; k++)
            ours |= children[k] == h.pids[i];
        assert_true(ours);
    }
    check_list("unit-holders", CROWD);
}

/* --- what it leaves --- */

static void no_descriptor_is_left_open(void **state)
{
    int before;

    (void)state;
    (void)child(open_file, dir);
    (void)child(bind_below, dir);
    (void)child(hold_and_hide, dir);
    before = unit_open_files();
    for (int i = 0; i < 20; i++)
        look(dir, i & 1, 0);
    assert_int_equal(unit_open_files(), before);
}

static void what_is_no_tree_is_an_error(void **state)
{
    (void)state;
    memset(&e, 0, sizeof e);
    assert_int_equal(holders_find(-1, 0, 0, &h, &e), -1);
    assert_string_equal(e.word, "io");
    assert_int_equal(h.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_holds_what_nobody_has_open, begin, end),
        cmocka_unit_test_setup_teardown(each_way_to_hold_is_found_until_it_ends, begin, end),
        cmocka_unit_test_setup_teardown(what_lies_beside_the_tree_is_held_only_where_the_tree_is_all, begin, end),
        cmocka_unit_test_setup_teardown(this_process_and_the_spared_one_are_left_out, begin, end),
        cmocka_unit_test_setup_teardown(names_of_files_may_hold_anything, begin, end),
        cmocka_unit_test_setup_teardown(what_is_held_may_lie_deeper_than_a_path_can_say, begin, end),
        cmocka_unit_test_setup_teardown(a_socket_may_be_bound_at_any_depth_of_a_sane_tree, begin, end),
        cmocka_unit_test_setup_teardown(threads_count, begin, end),
        cmocka_unit_test_setup_teardown(who_may_not_be_looked_at_is_counted_and_not_taken_for_a_holder, begin, end),
        cmocka_unit_test_setup_teardown(who_has_ended_and_was_not_collected_holds_nothing_and_hides_nothing, begin, end),
        cmocka_unit_test_setup_teardown(a_name_is_one_line_of_plain_letters, begin, end),
        cmocka_unit_test_setup_teardown(a_list_that_is_too_long_is_cut_between_two_and_says_so, begin, end),
        cmocka_unit_test_setup_teardown(of_very_many_the_first_are_told_and_all_are_counted, begin, end),
        cmocka_unit_test_setup_teardown(no_descriptor_is_left_open, begin, end),
        cmocka_unit_test_setup_teardown(what_is_no_tree_is_an_error, begin, end),
    };

    unit_drop_root();
    (void)prctl(PR_SET_NAME, "unit-holders", 0, 0, 0); /* whatever this file is called */
    return cmocka_run_group_tests_name("holders", tests, NULL, NULL);
}
