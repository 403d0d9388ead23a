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

enum { SIGNALS = 65 };

struct tty {
    int fd;
    struct termios before;
    struct sigaction handlers[SIGNALS];
    sigset_t mask;
};

/* Whatever would end or stop this process with the terminal in an odd state. Not what can't be caught,
 * what is ignored by default, and faults. */
static int is_watched(int sig)
{
    switch (sig) {
    case SIGKILL: case SIGSTOP: case SIGCONT: case SIGCHLD: case SIGURG: case SIGWINCH: case SIGTTIN: case SIGTTOU:
    case SIGSEGV: case SIGBUS: case SIGILL: case SIGFPE: case SIGABRT: case SIGTRAP: case SIGSYS:
        return 0;
    default:
        return 1;
    }
}

static void watch(struct tty *t, void (*handler)(int sig))
{
    struct sigaction sa;

    memset(&sa, 0, sizeof sa);
    sa.sa_handler = handler; /* no SA_RESTART: a read is to end */
    for (int sig = 1; sig < SIGNALS; sig++)
        if (is_watched(sig))
            (void)sigaction(sig, &sa, &t->handlers[sig]); /* refused for two of the C library's own */
}

static void watch_no_more(const struct tty *t)
{
    for (int sig = 1; sig < SIGNALS; sig++)
        if (is_watched(sig))
            (void)sigaction(sig, &t->handlers[sig], NULL);
}

/* Byte by byte and without signals from keys, so that every key is ours to judge, and a pasted
 * line may be of any length. */
static int tty_open(struct tty *t, int echo)
{
    struct termios raw;
    sigset_t watched;

    t->fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (t->fd < 0 || tcgetattr(t->fd, &t->before) < 0) {
        if (t->fd >= 0)
            close(t->fd);
        return -1;
    }
    caught = 0;
    watch(t, notice);
    sigemptyset(&watched);
    for (int sig = 1; sig < SIGNALS; sig++)
        if (is_watched(sig))
            (void)sigaddset(&watched, sig);
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
    watch_no_more(t);
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

static int is_word(const struct secret *line, const char *word)
{
    return line->len == strlen(word) && memcmp(line->data, word, line->len) == 0;
}

enum prompt_result prompt_yes(const char *question, int *yes)
{
    uint8_t buf[8];
    struct secret line = {buf, sizeof buf, 0};
    enum prompt_result rc = ask(question, &line, 1);

    if (rc == PROMPT_TOO_LONG)
        rc = PROMPT_OK, line.len = 0;
    *yes = is_word(&line, "y") || is_word(&line, "Y") || is_word(&line, "yes");
    return rc;
}

/* --- between a question and what comes of it --- */

static struct tty hushed = {.fd = -1};

/* In signal context: the terminal is put right before the signal does what it does. */
static void unhush_and_go(int sig)
{
    (void)tcsetattr(hushed.fd, TCSANOW, &hushed.before);
    (void)sigaction(sig, &hushed.handlers[sig], NULL);
    (void)raise(sig);
}

void prompt_hush(void)
{
    struct termios quiet;

    hushed.fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (hushed.fd < 0 || tcgetattr(hushed.fd, &hushed.before) < 0) {
        if (hushed.fd >= 0)
            close(hushed.fd);
        hushed.fd = -1;
        return;
    }
    watch(&hushed, unhush_and_go);
    (void)signal(SIGTSTP, SIG_IGN); /* a stopped command would leave it hushed */
    quiet = hushed.before;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
    (void)tcsetattr(hushed.fd, TCSANOW, &quiet);
}

void prompt_unhush(void)
{
    if (hushed.fd < 0)
        return;
    (void)tcsetattr(hushed.fd, TCSAFLUSH, &hushed.before);
    watch_no_more(&hushed);
    close(hushed.fd);
    hushed.fd = -1;
}
