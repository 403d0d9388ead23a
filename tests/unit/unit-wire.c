/* unit-wire - one message over a packet socket, perhaps with one descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../init/wire.h"
#include "unit.h"

struct link {
    int a, b; /* the two ends */
    int open_before; /* descriptors of this process when both were open */
};

static int set_up(void **state)
{
    static struct link l;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    l = (struct link){pair[0], pair[1], 0};
    l.open_before = unit_open_files();
    *state = &l;
    return 0;
}

static int tear_down(void **state)
{
    struct link *l = *state;

    close(l->a);
    close(l->b);
    return 0;
}

static struct message of(void *head, size_t head_len, void *tail, size_t tail_len)
{
    return (struct message){head, head_len, tail, tail_len};
}

/* Sends bytes with n descriptors, as nobody does by wire_send. */
static void send_many(int fd, const void *bytes, size_t len, const int *fds, size_t n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(64 * sizeof(int))];
    } control;
    struct iovec iov = {(void *)bytes, len};
    struct msghdr msg;

    memset(&msg, 0, sizeof msg);
    memset(&control, 0, sizeof control);
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;
    if (n) {
        struct cmsghdr *c;

        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    }
    assert_int_equal(sendmsg(fd, &msg, 0), len);
}

static void a_message_arrives_in_one_part_or_two(void **state)
{
    const struct link *l = *state;
    char head[6] = "header", tail[4] = "tail", got[10], got_tail[4];
    struct message out = of(head, 6, tail, 4), in = of(got, 10, NULL, 0), in_two = of(got, 6, got_tail, 4);
    int passed = 7;

    assert_int_equal(wire_send(l->a, &out, -1, 0), 0);
    assert_int_equal(wire_recv(l->b, &in, &passed, 0), 10);
    assert_int_equal(passed, -1);
    assert_memory_equal(got, "headertail", 10);
    assert_int_equal(wire_send(l->a, &out, -1, 0), 0);
    assert_int_equal(wire_recv(l->b, &in_two, &passed, 0), 10);
    assert_memory_equal(got, "header", 6);
    assert_memory_equal(got_tail, "tail", 4);
}

static void a_shorter_message_fills_the_first_part_only(void **state)
{
    const struct link *l = *state;
    char text[3] = "abc", got[6] = "......", tail[4] = "....";
    struct message out = of(text, 3, NULL, 0), in = of(got, 6, tail, 4);
    int passed;

    assert_int_equal(wire_send(l->a, &out, -1, 0), 0);
    assert_int_equal(wire_recv(l->b, &in, &passed, 0), 3);
    assert_memory_equal(got, "abc...", 6);
    assert_memory_equal(tail, "....", 4);
}

static void messages_keep_their_bounds_and_order(void **state)
{
    const struct link *l = *state;
    int passed;

    for (uint8_t i = 1; i <= 5; i++) {
        uint8_t bytes[8] = {i};
        struct message out = of(bytes, i, NULL, 0);

        assert_int_equal(wire_send(l->a, &out, -1, 0), 0);
    }
    for (uint8_t i = 1; i <= 5; i++) {
        uint8_t got[64];
        struct message in = of(got, sizeof got, NULL, 0);

        assert_int_equal(wire_recv(l->b, &in, &passed, 0), i);
        assert_int_equal(got[0], i);
    }
}

static void a_descriptor_arrives_as_one_of_ones_own(void **state)
{
    const struct link *l = *state;
    char text[1] = "x", got[1];
    struct message out = of(text, 1, NULL, 0), in = of(got, 1, NULL, 0);
    int file = memfd_create("passed", MFD_CLOEXEC), passed = -1;
    struct stat sent, came;

    assert_true(file >= 0);
    assert_int_equal(wire_send(l->a, &out, file, 0), 0);
    assert_int_equal(wire_recv(l->b, &in, &passed, 0), 1);
    assert_true(passed >= 0 && passed != file);
    assert_int_equal(fcntl(passed, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fstat(file, &sent), 0);
    assert_int_equal(fstat(passed, &came), 0);
    assert_true(sent.st_ino == came.st_ino && sent.st_dev == came.st_dev);
    close(file);
    close(passed);
    assert_int_equal(unit_open_files(), l->open_before);
}

/* More than the receiver has room for, too: the kernel drops those, and what came is closed. */
static void too_many_descriptors_are_all_closed(void **state)
{
    const struct link *l = *state;
    int fds[64], file = memfd_create("passed", MFD_CLOEXEC);

    assert_true(file >= 0);
    for (size_t i = 0; i < 64; i++)
        fds[i] = file;
    for (size_t n = 2; n <= 64; n += n < 8 ? 1 : 14) {
        char got[1];
        struct message in = of(got, 1, NULL, 0);
        int passed = 7;

        send_many(l->a, "x", 1, fds, n);
        assert_int_equal(wire_recv(l->b, &in, &passed, 0), -1);
        assert_int_equal(errno, EBADMSG);
        assert_int_equal(passed, -1);
        assert_int_equal(unit_open_files(), l->open_before + 1);
    }
    close(file);
    assert_int_equal(unit_open_files(), l->open_before);
}

static void a_message_longer_than_its_place_is_an_error_and_its_descriptor_closed(void **state)
{
    const struct link *l = *state;
    char got[4], tail[2];
    struct message one = of(got, 4, NULL, 0), two = of(got, 4, tail, 2);
    int file = memfd_create("passed", MFD_CLOEXEC), passed = 7;

    send_many(l->a, "12345", 5, &file, 1);
    assert_int_equal(wire_recv(l->b, &one, &passed, 0), -1);
    assert_int_equal(errno, EMSGSIZE);
    assert_int_equal(passed, -1);
    send_many(l->a, "1234567", 7, &file, 1);
    assert_int_equal(wire_recv(l->b, &two, &passed, 0), -1);
    assert_int_equal(errno, EMSGSIZE);
    close(file);
    assert_int_equal(unit_open_files(), l->open_before);
    send_many(l->a, "1234", 4, NULL, 0); /* and the next message is whole */
    assert_int_equal(wire_recv(l->b, &one, &passed, 0), 4);
}

static void the_end_and_an_empty_socket_are_told_apart(void **state)
{
    struct link *l = *state;
    char got[4];
    struct message in = of(got, 4, NULL, 0);
    int passed = 7;

    assert_int_equal(wire_recv(l->b, &in, &passed, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(passed, -1);
    close(l->a);
    l->a = -1;
    passed = 7;
    assert_int_equal(wire_recv(l->b, &in, &passed, 0), 0);
    assert_int_equal(passed, -1);
}

static void sending_to_nobody_is_an_error_and_no_signal(void **state)
{
    struct link *l = *state;
    char text[1] = "x";
    struct message out = of(text, 1, NULL, 0);

    close(l->b);
    l->b = -1;
    assert_int_equal(wire_send(l->a, &out, -1, 0), -1);
    assert_int_equal(errno, EPIPE);
}

static void a_full_socket_is_an_error_and_no_wait(void **state)
{
    const struct link *l = *state;
    char text[4096] = {0};
    struct message out = of(text, sizeof text, NULL, 0);
    int rc, n = 0;

    while ((rc = wire_send(l->a, &out, -1, MSG_DONTWAIT)) == 0)
        assert_true(++n < 10000);
    assert_int_equal(rc, -1);
    assert_int_equal(errno, EAGAIN);
}

/* Of two descriptors one finds a free number, the other none: what arrived is not what was sent. */
static void a_descriptor_that_came_without_its_fellow_is_closed(void **state)
{
    const struct link *l = *state;
    int file = memfd_create("passed", MFD_CLOEXEC), fds[2] = {file, file};

    for (rlim_t room = 0; room < 2; room++) {
        struct rlimit old, low;
        char got[1];
        struct message in = of(got, 1, NULL, 0);
        int passed = 7, spare;
        ssize_t n;

        send_many(l->a, "x", 1, fds, 1 + room);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        spare = dup(file);
        close(spare);
        low = (struct rlimit){(rlim_t)spare + room, old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        n = wire_recv(l->b, &in, &passed, 0);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(passed, -1);
        if (room)
            assert_int_equal(n, -1);
        assert_int_equal(unit_open_files(), l->open_before + 1);
    }
    close(file);
}

static void errors_are_cut_to_their_places_and_zero_behind(void **state)
{
    struct wire_error e;
    char longer[1000];

    (void)state;
    memset(&e, 0xff, sizeof e);
    wire_error_set(&e, 74, "disk-full", NULL);
    assert_int_equal(e.code, 74);
    assert_string_equal(e.word, "disk-full");
    assert_string_equal(e.text, "");
    for (size_t i = strlen(e.word); i < sizeof e.word; i++)
        assert_int_equal(e.word[i], 0);
    for (size_t i = 0; i < sizeof e.text; i++)
        assert_int_equal(e.text[i], 0);
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    wire_error_set(&e, 1, longer, longer);
    assert_int_equal(strlen(e.word), WIRE_WORD_MAX - 1);
    assert_int_equal(strlen(e.text), WIRE_TEXT_MAX - 1);
}

static void an_error_from_outside_ends_in_its_place(void **state)
{
    struct wire_error e;

    (void)state;
    memset(&e, 'y', sizeof e);
    wire_error_close(&e);
    assert_int_equal(strlen(e.word), WIRE_WORD_MAX - 1);
    assert_int_equal(strlen(e.text), WIRE_TEXT_MAX - 1);
}

/* A name inside the vault may stand in it, and a terminal would obey some bytes. */
static void an_error_from_outside_is_fit_for_a_terminal(void **state)
{
    struct wire_error e = {.word = "a\x1b[2J", .text = "can't read x\ny\x7f\xc2\x9b" "2J caf\xc3\xa9 \xc2\xa0."};

    (void)state;
    wire_error_close(&e);
    assert_string_equal(e.word, "a?[2J");
    assert_string_equal(e.text, "can't read x?y???2J caf\xc3\xa9 \xc2\xa0.");
    memset(&e, 'y', sizeof e);
    e.text[WIRE_TEXT_MAX - 2] = (char)0xc2; /* the last before the zero: nothing behind is looked at */
    wire_error_close(&e);
    assert_int_equal(strlen(e.text), WIRE_TEXT_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_message_arrives_in_one_part_or_two, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_shorter_message_fills_the_first_part_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_keep_their_bounds_and_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_descriptor_arrives_as_one_of_ones_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_descriptors_are_all_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_message_longer_than_its_place_is_an_error_and_its_descriptor_closed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_end_and_an_empty_socket_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sending_to_nobody_is_an_error_and_no_signal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_socket_is_an_error_and_no_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_descriptor_that_came_without_its_fellow_is_closed, set_up, tear_down),
        cmocka_unit_test(errors_are_cut_to_their_places_and_zero_behind),
        cmocka_unit_test(an_error_from_outside_ends_in_its_place),
        cmocka_unit_test(an_error_from_outside_is_fit_for_a_terminal),
    };

    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
