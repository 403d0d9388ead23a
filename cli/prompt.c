#include "prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "../vault/base/io.h"

/* Only noticed: the read returns, and the terminal is put right outside the handler. */
static volatile sig_atomic_t caught;

static void notice(int sig)
{
    caught = sig;
}

static const int WATCHED[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGALRM};
enum { N_WATCHED = sizeof WATCHED / sizeof *WATCHED };

struct tty {
    int fd;
    struct termios before;
    struct sigaction handlers[N_WATCHED];
    sigset_t mask;
};

/* Byte by byte and without signals from keys, so that every key is ours to judge, and a pasted
 * line may be of any length. */
static int tty_open(struct tty *t, int echo)
{
    struct sigaction sa;
    struct termios raw;
    sigset_t watched;

    t->fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (t->fd < 0 || tcgetattr(t->fd, &t->before) < 0) {
        if (t->fd >= 0)
            close(t->fd);
        return -1;
    }
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = notice; /* no SA_RESTART: the read is to end */
    caught = 0;
    sigemptyset(&watched);
    for (int i = 0; i < N_WATCHED; i++) {
        sigaddset(&watched, WATCHED[i]);
        (void)sigaction(WATCHED[i], &sa, &t->handlers[i]);
    }
    /* Let in only while waiting for a key: none can slip in between the look and the wait. */
    (void)sigprocmask(SIG_BLOCK, &watched, &t->mask);
    raw = t->before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ISIG | IEXTEN | ECHO | ECHONL);
    if (echo) {
        raw.c_lflag |= ECHO;
        raw.c_lflag &= ~(tcflag_t)ECHOCTL; /* it would show the line end as ^J */
    }
    raw.c_iflag |= ICRNL;
    raw.c_iflag &= ~(tcflag_t)(IXON | INLCR | IGNCR);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    (void)tcsetattr(t->fd, TCSAFLUSH, &raw);
    return 0;
}

static void tty_close(struct tty *t)
{
    (void)tcsetattr(t->fd, TCSAFLUSH, &t->before);
    for (int i = 0; i < N_WATCHED; i++)
        (void)sigaction(WATCHED[i], &t->handlers[i], NULL);
    (void)sigprocmask(SIG_SETMASK, &t->mask, NULL);
    close(t->fd);
}

enum key {
    KEY_CTRL_C = 3,
    KEY_CTRL_D = 4,
    KEY_BACKSPACE = 8,
    KEY_CTRL_U = 21,
    KEY_CTRL_Z = 26,
    KEY_CTRL_BACKSLASH = 28,
    KEY_DELETE = 127,
};

/* One character back, which in UTF-8 may be several bytes. */
static size_t erase(const uint8_t *line, size_t len)
{
    while (len > 0 && (line[len - 1] & 0xc0) == 0x80)
        len--;
    return len > 0 ? len - 1 : 0;
}

static enum prompt_result read_line(struct tty *t, struct secret *line)
{
    int too_long = 0;

    line->len = 0;
    for (;;) {
        struct pollfd wait = {.fd = t->fd, .events = POLLIN};
        uint8_t c;

        if (ppoll(&wait, 1, NULL, &t->mask) < 0 || caught)
            return PROMPT_CANCELLED;
        if (read(t->fd, &c, 1) != 1) /* 0 and EIO: the terminal has gone */
            return PROMPT_CANCELLED;
        switch (c) {
        case '\n':
            return too_long ? PROMPT_TOO_LONG : PROMPT_OK;
        case KEY_CTRL_C:
        case KEY_CTRL_BACKSLASH:
            return PROMPT_CANCELLED;
        case KEY_CTRL_D:
            if (line->len == 0)
                return PROMPT_CANCELLED;
            break;
        case KEY_CTRL_Z:
            break; /* there is nothing to go back to */
        case KEY_BACKSPACE:
        case KEY_DELETE:
            line->len = erase(line->data, line->len);
            break;
        case KEY_CTRL_U:
            line->len = 0;
            too_long = 0;
            break;
        default:
            if (line->len < line->size)
                line->data[line->len++] = c;
            else
                too_long = 1;
        }
    }
}

static enum prompt_result ask(const char *question, struct secret *answer, int echo)
{
    struct tty t;
    enum prompt_result rc;

    if (tty_open(&t, echo) < 0)
        return PROMPT_NO_TTY;
    (void)io_write(t.fd, question, strlen(question));
    rc = read_line(&t, answer);
    if (!echo || rc != PROMPT_OK)
        (void)io_write(t.fd, "\n", 1); /* the one that was not echoed */
    tty_close(&t);
    return rc;
}

enum prompt_result prompt_secret(const char *question, struct secret *answer)
{
    return ask(question, answer, 0);
}

enum prompt_result prompt_yes(const char *question, int *yes)
{
    uint8_t buf[8];
    struct secret line = {buf, sizeof buf - 1, 0};
    enum prompt_result rc = ask(question, &line, 1);

    if (rc == PROMPT_TOO_LONG)
        rc = PROMPT_OK, line.len = 0;
    buf[line.len] = '\0';
    *yes = strcmp((char *)buf, "y") == 0 || strcmp((char *)buf, "Y") == 0 ||
           strcmp((char *)buf, "yes") == 0;
    return rc;
}
