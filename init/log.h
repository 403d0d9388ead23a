/* log - one line to stderr, written once.
 *
 * "tazpod-init: WORD key=value ...". Built on the stack, no allocation, no stdio. In a line that
 * would be longer a text is cut and later pairs are left out: a JSON line stays JSON. Never a secret, a passphrase, or a name inside the vault: callers see to that.
 * Errors of the write are ignored: there is nobody to tell. */
#ifndef TAZPOD_LOG_H
#define TAZPOD_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct line {
    char text[512];
    size_t len;
};

/* From here on each line is one JSON object: {"time":SECONDS,"event":WORD,...}. */
void log_as_json(bool json);

void line_start(struct line *l, const char *word);
void line_text(struct line *l, const char *key, const char *value); /* quoted if it has blanks */
void line_number(struct line *l, const char *key, int64_t value);
void line_millis(struct line *l, const char *key, int64_t us); /* microseconds, shown as ms with 3 decimals */
void line_end(struct line *l);

/* A line with a word and a sentence. */
void log_say(const char *word, const char *sentence);

#endif
