#include "credential.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../init/wire.h"
#include "../vault/base/io.h"
#include "passphrase.h"

enum { IDENTITY_FILE_MAX = 4096 };

static void take(struct credential *c, enum slot_type type, const struct secret *s)
{
    memset(c, 0, sizeof *c);
    c->type = (uint8_t)type;
    c->len = (uint16_t)s->len;
    memcpy(c->bytes, s->data, s->len);
}

static void drop_line_end(struct secret *p)
{
    if (p->len > 0 && p->data[p->len - 1] == '\n')
        p->len--;
}

static int passphrase(const struct flags *f, bool fresh, struct credential *c, struct wire_error *e)
{
    struct secret p = {0};

    if (passphrase_get(f, fresh, &p, e) < 0)
        return -1;
    drop_line_end(&p);
    take(c, SLOT_PASSPHRASE, &p);
    secret_free(&p);
    return 0;
}

static int recovery(const struct flags *f, struct credential *c, struct wire_error *e)
{
    struct secret p = {0};
    int rc;

    if (passphrase_get(f, false, &p, e) < 0)
        return -1;
    memset(c, 0, sizeof *c);
    c->type = SLOT_RECOVERY;
    c->len = RECOVERY_CODE;
    rc = code_read(RECOVERY_CONTEXT, (const char *)p.data, p.len, c->bytes, RECOVERY_CODE);
    secret_free(&p);
    if (rc < 0)
        wire_error_set(e, EX_TP_PASSPHRASE, "wrong-recovery-code",
                       "that is no recovery code: nine groups of four letters and digits; is one mistyped?");
    return rc;
}

/* The line of a file that begins so, behind that; NULL if there is none. */
static const char *find_line(const struct secret *s, const char *prefix, size_t *len)
{
    const char *at = (const char *)s->data, *end = at + s->len;

    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((stop ? stop : end) - at);

        if (n > strlen(prefix) && memcmp(at, prefix, strlen(prefix)) == 0) {
            *len = n - strlen(prefix);
            return at + strlen(prefix);
        }
        at += n + 1;
    }
    return NULL;
}

static int identity(const struct flags *f, struct credential *c, struct wire_error *e)
{
    char text[WIRE_TEXT_MAX];
    struct secret s = {0};
    const char *line = NULL;
    size_t len = 0;
    ssize_t n = -1;
    int rc = -1, fd = open(f->identity_file, O_RDONLY | O_CLOEXEC);

    if (secret_new(&s, IDENTITY_FILE_MAX) == 0 && fd >= 0)
        n = io_read(fd, s.data, s.size);
    if (n < 0) {
        (void)snprintf(text, sizeof text, "open %.200s: %s", f->identity_file, strerror(errno));
        wire_error_set(e, EX_TP_USAGE, "usage", text);
        goto out;
    }
    s.len = (size_t)n;
    line = find_line(&s, IDENTITY_PREFIX, &len);
    memset(c, 0, sizeof *c);
    c->type = SLOT_IDENTITY;
    c->len = IDENTITY_KEY;
    if (line && code_read(IDENTITY_CONTEXT, line, len, c->bytes, IDENTITY_KEY) == 0)
        rc = 0;
    else
        wire_error_set(e, EX_TP_PASSPHRASE, "wrong-identity",
                       "that file holds no identity: make one with tazpod key new-identity FILE");
out:
    if (fd >= 0)
        close(fd);
    secret_free(&s);
    return rc;
}

int credential_get(const struct flags *f, struct credential *c, struct wire_error *e)
{
    if (f->identity_file)
        return identity(f, c, e);
    return f->recovery ? recovery(f, c, e) : passphrase(f, false, c, e);
}

bool credential_is_typed(const struct flags *f)
{
    return !f->identity_file && passphrase_is_typed(f);
}

int credential_new_passphrase(const struct flags *f, struct credential *c, struct wire_error *e)
{
    struct flags fresh = *f;

    fresh.recovery = false;
    fresh.passphrase_file = f->new_passphrase_file;
    fresh.passphrase_fd = f->new_passphrase_fd;
    return passphrase(&fresh, true, c, e);
}

void credential_new_recovery(struct credential *c, char text[CODE_TEXT_MAX])
{
    memset(c, 0, sizeof *c);
    c->type = SLOT_RECOVERY;
    c->len = RECOVERY_CODE;
    kdf_random(c->bytes, RECOVERY_CODE);
    code_write(RECOVERY_CONTEXT, c->bytes, RECOVERY_CODE, text);
}

int credential_recipient(const char *text, struct credential *c, struct wire_error *e)
{
    size_t n = strlen(RECIPIENT_PREFIX);

    memset(c, 0, sizeof *c);
    c->type = SLOT_IDENTITY;
    c->len = SLOT_RECIPIENT;
    if (strncmp(text, RECIPIENT_PREFIX, n) == 0 &&
        code_read(RECIPIENT_CONTEXT, text + n, strlen(text + n), c->bytes, SLOT_RECIPIENT) == 0)
        return 0;
    wire_error_set(e, EX_TP_USAGE, "usage",
                   "a recipient is the line tazpod-recipient-... that tazpod key new-identity prints; is it mistyped?");
    return -1;
}
