#include "passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../init/wire.h"
#include "../vault/base/io.h"
#include "../vault/kdf.h"
#include "askpass.h"
#include "prompt.h"

static int error(struct wire_error *e, int code, const char *word, const char *text)
{
    wire_error_set(e, code, word, text);
    return -1;
}

/* As the opener will see it: one line end at the end does not count, and is left for it to drop. */
static int check(const struct secret *p, struct wire_error *e)
{
    size_t len = p->len > 0 && p->data[p->len - 1] == '\n' ? p->len - 1 : p->len;

    if (len == 0)
        return error(e, EX_TP_PASSPHRASE, "empty-passphrase", "the passphrase is empty");
    if (len > PASSPHRASE_MAX)
        return error(e, EX_TP_PASSPHRASE, "long-passphrase", "the passphrase is longer than 1024 bytes");
    if (memchr(p->data, '\0', len))
        return error(e, EX_TP_PASSPHRASE, "wrong-passphrase", "a passphrase can't hold a NUL byte");
    return 0;
}

/* All of it; more than allowed is read, to notice. */
static int from_descriptor(int fd, struct secret *p, struct wire_error *e)
{
    ssize_t n = io_read(fd, p->data, p->size);

    if (n < 0)
        return error(e, EX_TP_USAGE, "usage", "the passphrase can't be read from there");
    p->len = (size_t)n;
    return check(p, e);
}

static int from_file(const char *path, struct secret *p, struct wire_error *e)
{
    char text[WIRE_TEXT_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

    if (fd < 0) {
        (void)snprintf(text, sizeof text, "open %.200s: %s", path, strerror(errno));
        return error(e, EX_TP_USAGE, "usage", text);
    }
    rc = from_descriptor(fd, p, e);
    close(fd);
    return rc;
}

/* By the program that is named for it, else on the terminal. */
static int typed(const char *question, struct secret *p, struct wire_error *e)
{
    int rc = askpass_wanted() ? askpass(question, p) : -1;

    if (rc == 0)
        return 0;
    if (rc > 0)
        return error(e, EX_TP_CANCELLED, "cancelled", "the askpass program gave no passphrase");
    if (askpass_forced())
        return error(e, EX_TP_NEEDS_TTY, "needs-terminal", "the program TAZPOD_ASKPASS names can't be executed");
    switch (prompt_secret(question, p)) {
    case PROMPT_OK:
        return 0;
    case PROMPT_NO_TTY:
        if (askpass_wanted())
            return error(e, EX_TP_NEEDS_TTY, "needs-terminal",
                         "the program TAZPOD_ASKPASS names can't be executed, and there is no terminal");
        return error(e, EX_TP_NEEDS_TTY, "needs-terminal",
                     "a passphrase is needed and there is no terminal: use docker exec -it, or "
                     "--passphrase-file");
    case PROMPT_TOO_LONG:
        return error(e, EX_TP_PASSPHRASE, "long-passphrase", "the passphrase is longer than 1024 bytes");
    default:
        return error(e, EX_TP_CANCELLED, "cancelled", "cancelled");
    }
}

static int from_terminal(const char *question, bool twice, struct secret *p, struct wire_error *e)
{
    struct secret again = {0};
    int rc;

    if (typed(question, p, e) < 0 || check(p, e) < 0)
        return -1;
    if (!twice)
        return 0;
    if (secret_new(&again, p->size) < 0)
        return error(e, EX_TP_FAULT, "failed", "out of memory");
    rc = typed("Again: ", &again, e);
    if (rc == 0 && !secret_equal(p, &again))
        rc = error(e, EX_TP_PASSPHRASE, "wrong-passphrase", "the two passphrases differ");
    secret_free(&again);
    return rc;
}

bool passphrase_is_typed(const struct flags *f)
{
    return f->passphrase_fd < 0 && !f->passphrase_file;
}

int passphrase_get(const struct flags *f, bool twice, struct secret *p, struct wire_error *e)
{
    int rc;

    if (secret_new(p, PASSPHRASE_MAX + 2) < 0)
        return error(e, EX_TP_FAULT, "failed", "out of memory");
    if (passphrase_is_typed(f) && f->no_input)
        rc = error(e, EX_TP_NEEDS_TTY, "needs-terminal", "a passphrase is needed, and --no-input forbids to ask: give it by --passphrase-file or "
                   "--passphrase-fd");
    else if (f->passphrase_fd >= 0)
        rc = from_descriptor(f->passphrase_fd, p, e);
    else if (f->passphrase_file)
        rc = from_file(f->passphrase_file, p, e);
    else
        rc = from_terminal(twice ? "New passphrase: " : f->recovery ? "Recovery code: " : "Passphrase: ", twice, p, e);
    if (rc < 0)
        secret_free(p);
    return rc;
}

int passphrase_pipe(const struct secret *p)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    /* At most 1024 bytes: a pipe takes them whole, without waiting for a reader. */
    if (io_write(fds[1], p->data, p->len) < 0) {
        close(fds[0]);
        fds[0] = -1;
    }
    close(fds[1]);
    return fds[0];
}
